"""Numbers: one way to write each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.quantities import is_year, number, scaled, spelt


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("7", "7"),
        ("007", "7"),
        ("0", "0"),
        ("-5", "-5"),
        ("\u22125", "-5"),
        ("1,000", "1000"),
        ("1 000", "1000"),
        ("1\u202f000\u202f000", "1000000"),
        ("1'000", "1000"),
        ("1,000.5", "1000.5"),
        ("1 000,5", "1000.5"),
        ("1.000,5", "1000.5"),
        ("1.000.000", "1000000"),
        ("1.000.000,25", "1000000.25"),
        ("12,345,678.9", "12345678.9"),
        ("3,14", "3.14"),
        ("3.14", "3.14"),
        ("3.125", "3.125"),
        ("0,5", "0.5"),
        ("3.10", "3.10"),
        ("3.11.4", "3.11.4"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_a_number_is_read_however_it_is_written(written: str, read: str) -> None:
    """In French, in English, or as a version."""
    assert number(written) == read


@given(st.integers(min_value=0, max_value=10**12))
def test_separators_change_nothing(value: int) -> None:
    """By commas, by spaces or not at all."""
    assert number(f"{value:,}") == number(f"{value:,}".replace(",", " ")) == number(str(value)) == str(value)


@given(st.integers(min_value=0, max_value=10**9), st.integers(min_value=1, max_value=99))
def test_french_and_english_decimals_are_one(whole: int, part: int) -> None:
    """The comma of one is the point of the other."""
    english = f"{whole:,}.{part:02}"
    french = english.replace(",", " ").replace(".", ",")
    assert number(english) == number(french) == f"{whole}.{part:02}"


def test_thousands_of_digits_are_a_number() -> None:
    """Questions may have 8,000 characters, and Python's int refuses as many digits."""
    assert number("0" * 10 + "9" * 8000) == "9" * 8000


@pytest.mark.parametrize(
    ("text", "scale", "product"),
    [
        ("2", 10**6, "2000000"),
        ("1.5", 10**6, "1500000"),
        ("1.5", 10**3, "1500"),
        ("0.0005", 1000, "0.5"),
        ("10", 1000, "10000"),
        ("3.11.4", 1000, "3.11.4 x 1000"),
        ("9" * 40, 1000, f"{'9' * 40} x 1000"),
    ],
)
def test_a_word_behind_a_number_multiplies_it(text: str, scale: int, product: str) -> None:
    """Two million, 1.5 thousand; what cannot be multiplied keeps both."""
    assert scaled(text, scale) == product


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([5], "5"),
        ([20, 5], "25"),
        ([100], "100"),
        ([3, 100], "300"),
        ([2, 100, 50], "250"),
        ([3, 1000], "3000"),
        ([1000], "1000"),
        ([2, 1000000, 5, 1000], "2005000"),
        ([4, 20], "80"),
        ([4, 20, 10], "90"),
        ([4, 20, 12], "92"),
        ([60, 12], "72"),
        ([2, 100, 4, 20], "280"),
        ([10, 1000], "10000"),
    ],
)
def test_numbers_in_words_are_numbers(values: list[int], read: str) -> None:
    """Also the French ones from eighty on."""
    assert spelt(values) == read


@pytest.mark.parametrize(
    ("text", "year"), [("1999", True), ("2024", True), ("1850", False), ("20245", False), ("3.11", False)]
)
def test_years_are_four_digits_of_our_times(text: str, year: bool) -> None:
    """1900 to 2099; any other count is a number."""
    assert is_year(text) is year

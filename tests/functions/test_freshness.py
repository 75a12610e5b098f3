"""How old an answer may be: live, prices, or neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.freshness import MAX_AGE_SECONDS, kind, max_age_seconds
from functions.vocabulary import words


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What's the weather in Paris?", "live"),
        ("traffic on the A7", "live"),
        ("What's the price of bitcoin right now?", "live"),
        ("latest news on the election", "live"),
        ("score of the match", "live"),
        ("who won yesterday", "live"),
        ("what happened last week", "live"),
        ("Quel temps fait-il à Lyon ?", "live"),
        ("météo de demain", "live"),
        ("prix du bitcoin en ce moment", "live"),
        ("actualités du jour", "live"),
        ("Que s'est-il passé aujourd'hui ?", "live"),
        ("À l'instant, qui mène ?", "live"),
        ("bitcoin price", "prices"),
        ("How much is a ticket to Rome?", "prices"),
        ("euro exchange rate", "prices"),
        ("Tesla share price", "prices"),
        ("cheapest flight to Oslo", "prices"),
        ("Combien coûte un visa ?", "prices"),
        ("cours de l'or", "prices"),
        ("taux de change du dollar", "prices"),
        ("billets pour Rome", "prices"),
        ("capital of France", "default"),
        ("How do I undo a commit?", "default"),
        ("Qui a écrit Les Misérables ?", "default"),
        ("recette du gratin", "default"),
        ("", "default"),
    ],
)
def test_a_question_has_a_kind(question: str, expected: str) -> None:
    """By the words that it names, in either language, with or without accents; the shorter-lived kind first."""
    assert kind(question) == expected
    assert max_age_seconds(question) == MAX_AGE_SECONDS[expected]


@pytest.mark.parametrize("question", ["nowhere", "costume", "pricey", "underscore", "courses", "todays"])
def test_a_word_within_a_word_tells_nothing(question: str) -> None:
    """Whole words only."""
    assert kind(question) == "default"


def test_capitals_and_accents_do_not_matter() -> None:
    """People leave them out."""
    assert kind("METEO A NICE") == kind("météo à Nice") == "live"


def test_what_changes_faster_is_kept_shorter() -> None:
    """Live before prices before all else, and nothing is kept for ever."""
    ages = list(MAX_AGE_SECONDS.values())
    assert ages == sorted(ages)
    assert ages[0] > 0
    assert ages[-1] <= 24 * 60 * 60


def test_every_kind_with_words_has_an_age() -> None:
    """In the same order; the default is what names none."""
    assert [*words().freshness, "default"] == list(MAX_AGE_SECONDS)


@given(st.text(max_size=80))
def test_whatever_is_asked_has_an_age(question: str) -> None:
    """Also what is no question."""
    assert max_age_seconds(question) in MAX_AGE_SECONDS.values()


@given(st.sampled_from(["weather", "price", "prix", "météo"]), st.text(max_size=30))
def test_more_words_never_make_an_answer_last_longer(word: str, more: str) -> None:
    """They may name a shorter-lived kind."""
    assert max_age_seconds(f"{word} {more}") <= max_age_seconds(word)

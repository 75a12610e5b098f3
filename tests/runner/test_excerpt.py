"""What is kept of a stream."""

from __future__ import annotations

import pytest

from sandbox_scripts.drivers.excerpt import HEAD_BYTES, TAIL_BYTES, Excerpt


def excerpt(*pieces: str) -> Excerpt:
    made = Excerpt()
    for piece in pieces:
        made.add(piece)
    return made


@pytest.mark.parametrize("pieces", [[], ["a"], ["a", "", "b"], ["x" * (HEAD_BYTES + TAIL_BYTES)], ["é€"] * 3000])
def test_what_fits_is_whole(pieces: list[str]) -> None:
    """Up to the last byte, however it came."""
    assert excerpt(*pieces).text() == "".join(pieces)


@pytest.mark.parametrize("size", [1, 7, 4096, 16 * 1024, 100_000])
def test_what_does_not_fit_keeps_its_two_ends(size: int) -> None:
    """Whatever the pieces: the same text, with the number of bytes that are not there."""
    whole = "".join(f"{number}\n" for number in range(20_000))
    text = excerpt(*(whole[at : at + size] for at in range(0, len(whole), size))).text()
    head, said, tail = text[:HEAD_BYTES], text[HEAD_BYTES:-TAIL_BYTES], text[-TAIL_BYTES:]
    assert (head, tail) == (whole[:HEAD_BYTES], whole[-TAIL_BYTES:])
    assert said == f"\n[{len(whole) - HEAD_BYTES - TAIL_BYTES} bytes left out]\n"


def test_no_character_is_cut_in_two() -> None:
    """The border falls into the middle of one: it is left out at both ends."""
    text = excerpt("a" + "€" * 20_000).text()
    assert "\ufffd" not in text
    assert text.startswith("a€")
    assert text.endswith("€€")


def test_it_stays_small() -> None:
    """A stream of any length takes the same memory."""
    made = excerpt(*["x" * 16_384] * 200)
    assert len(made.text()) < HEAD_BYTES + TAIL_BYTES + 100

"""Text in pieces on lines of a width: the pieces do not matter, the words do."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sandstream.prose import Prose

WORDS = st.lists(st.text("abc日é-", min_size=1, max_size=12), max_size=30)


def printed(pieces: list[str], width: int = 20) -> str:
    out: list[str] = []
    prose = Prose(out.append, width)
    for piece in pieces:
        prose.add(piece)
    prose.end()
    return "".join(out)


@given(st.text("ab \n\t日\x1b", max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_the_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    """However a text is cut on its way, the same is printed."""
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert printed(pieces) == printed([text])


@given(WORDS)
def test_lines_end_before_the_terminal_does(words: list[str]) -> None:
    """No line is wider than asked for, wide letters counted as such, and no word is lost or cut."""
    shown = printed([" ".join(words)])
    assert shown.split() == words
    assert all(cell_len(line) <= 20 or len(line.split()) == 1 for line in shown.splitlines())


def test_a_word_is_shown_as_soon_as_it_is_whole() -> None:
    """What was said is on the screen before more is said; only a word that may go on waits."""
    out: list[str] = []
    prose = Prose(out.append, 20)
    prose.add("one two thr")
    assert "".join(out) == "one two"
    prose.add("ee ")
    assert "".join(out) == "one two three"


def test_lines_and_indents_of_the_text_are_kept() -> None:
    """A list or a piece of code keeps its form."""
    assert printed(["- one\n  - two\n\nlast"]) == "- one\n  - two\n\nlast\n"


def test_a_line_that_was_ended_is_not_ended_again() -> None:
    """Text with a line end of its own leaves no empty line behind, and no text leaves nothing."""
    assert printed(["one\n"]) == "one\n"
    assert printed([]) == ""


@given(st.text())
def test_no_text_commands_the_terminal(text: str) -> None:
    """Escape sequences and carriage returns are shown as dots."""
    assert all(letter.isprintable() or letter == "\n" for letter in printed([text]))

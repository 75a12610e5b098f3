"""Events as lines for people: whole or cut, but never in command of the terminal."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandstream.events import Event
from sandstream.render import INDENT, MAX_LINE, line, lines

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def event(type: str, **data: Any) -> Event:
    return Event(seq=7, session_id=UUID(int=1), type=type, data=data, produced_at=BEGUN, created_at=BEGUN)


def test_output_is_shown_whole() -> None:
    """Every line of a command's output is a line, under the first."""
    text = "".join(f"{number}\n" for number in range(500))
    shown = lines(event("command.output", text=text, stream="stdout"), BEGUN).plain.split("\n")
    assert [part.strip() for part in shown][1:] == [str(number) for number in range(1, 500)]
    assert shown[0].index("0", INDENT) == INDENT
    assert all(part.startswith(" " * INDENT) for part in shown[1:])


def test_a_cut_line_says_how_much_is_missing() -> None:
    """On one line, a long text is cut, and its rest is counted."""
    shown = line(event("command.output", text="x" * 500, stream="stdout"), BEGUN).plain
    assert "\n" not in shown
    assert shown.endswith(f"… (+{500 - MAX_LINE})")


@given(st.text())
def test_no_text_reaches_the_terminal_as_a_command(text: str) -> None:
    """Escape sequences, carriage returns and bells of a sandbox are shown, not obeyed."""
    for shown in (line(event("command.output", text=text), BEGUN), lines(event("command.output", text=text), BEGUN)):
        assert all(letter.isprintable() or letter == "\n" for letter in shown.plain)


@pytest.mark.parametrize(
    ("type", "data", "words"),
    [
        ("command.started", {"command": "make", "attempt": 1}, "$ make"),
        ("command.started", {"command": "make", "attempt": 2}, "$ make (attempt 2)"),
        ("command.completed", {"exit_code": 2, "duration_ms": 1500, "attempts": 3}, "exit 2 after 1.50s, 3 attempts"),
        ("command.completed", {"timed_out": True, "duration_ms": 1000, "attempts": 1}, "timed out after 1.00s"),
        ("run.failed", {"result": None, "error": {"type": "command_failed"}}, "type=command_failed"),
        ("session.status_idle", {"stop_reason": {"type": "end_turn"}}, "end_turn"),
        ("plan.created", {"steps": [{"index": 0, "command": "ls", "description": "List"}]}, "[0] List"),
        ("plan.revised", {"steps": [{"index": 4, "command": "ls"}]}, "[4] ls"),
        ("plan.rejected", {"reasons": [{"index": 0, "rule": "privilege", "text": "sudo ls"}]}, "privilege: sudo ls"),
        ("research.answer", {"answer": "42.", "citations": []}, "42."),
        ("a.type.of.tomorrow", {"x": 1, "y": None}, "x=1"),
    ],
)
def test_what_happened_in_a_few_words(type: str, data: dict[str, Any], words: str) -> None:
    """Known types in words, unknown ones as they are."""
    assert line(event(type, **data), BEGUN).plain.rstrip().endswith(words)


def test_markup_in_a_command_is_only_text() -> None:
    """Square brackets are shown, not taken for colours."""
    assert "[red]x[/red]" in line(event("command.started", command="echo [red]x[/red]"), BEGUN).plain

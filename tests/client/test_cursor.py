"""The order of events, whatever arrives in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandstream.cursor import EARLY_BELLS_KEPT, Bell, Cursor
from sandstream.events import Event, is_final

SESSION = UUID("11111111-1111-4111-8111-111111111111")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def event(seq: int, type: str = "command.output", data: dict[str, Any] | None = None) -> Event:
    """One event of the session."""
    return Event(
        seq=seq, session_id=SESSION, run_id=None, n=None, type=type, data=data or {}, produced_at=NOW, created_at=NOW
    )


def bell(first: int, last: int, *, with_events: bool = True) -> Bell:
    """The broadcast of one batch."""
    events = tuple(event(seq) for seq in range(first, last + 1)) if with_events else ()
    return Bell(session_id=SESSION, first_seq=first, last_seq=last, events=events)


def seqs(events: list[Event]) -> list[int]:
    """Their places in the log."""
    return [event.seq for event in events]


def batches(sizes: list[int]) -> list[tuple[int, int]]:
    """The first and last seq of each batch of a log."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [(end - size + 1, end) for end, size in zip(ends, sizes, strict=True)]


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[int, list[Bell | tuple[int, int]]]:
    """A log's length, and what reaches a reader of it: broadcasts lost, doubled, in any order, and reads of the table.

    A read is (how much of the log was committed then, the size of the page).
    """
    log = batches(draw(st.lists(st.integers(1, 6), min_size=1, max_size=12)))
    total = log[-1][1]
    doorbells = [bell(first, last, with_events=draw(st.booleans())) for first, last in log]
    heard = draw(st.lists(st.sampled_from(doorbells), max_size=30))
    reads = draw(st.lists(st.tuples(st.integers(0, total), st.integers(1, 9)), max_size=10))
    return total, draw(st.permutations([*heard, *reads]))


@given(arrivals(), st.integers(0, 5))
def test_any_interleaving_of_broadcasts_and_reads_gives_each_event_once(
    arrived: tuple[int, list[Bell | tuple[int, int]]], after: int
) -> None:
    """Whatever is lost, doubled, late or early: after+1, after+2 … is handed on, and reading on fills the rest."""
    total, things = arrived
    cursor, handed_on = Cursor(after), []
    for thing in things:
        if isinstance(thing, Bell):
            handed_on += seqs(cursor.ring(thing))
        else:
            committed, size = thing
            page = range(cursor.last + 1, min(committed, cursor.last + size) + 1)
            handed_on += seqs(cursor.take([event(seq) for seq in page]))
        assert handed_on == list(range(after + 1, after + 1 + len(handed_on)))
        assert cursor.last == after + len(handed_on)
    while cursor.last < total:
        handed_on += seqs(cursor.take([event(seq) for seq in range(cursor.last + 1, total + 1)][:7]))
    assert handed_on == list(range(after + 1, max(total, after) + 1))
    assert not cursor.is_behind


@given(arrivals())
def test_a_reader_who_only_reads_when_behind_misses_nothing_that_was_announced(
    arrived: tuple[int, list[Bell | tuple[int, int]]],
) -> None:
    """After every broadcast that leaves the cursor behind, one read of the table brings it to what was announced."""
    _, things = arrived
    cursor, handed_on, announced = Cursor(0), [], 0
    for thing in things:
        if not isinstance(thing, Bell):
            continue
        announced = max(announced, thing.last_seq)
        handed_on += seqs(cursor.ring(thing))
        if cursor.is_behind:
            handed_on += seqs(cursor.take([event(seq) for seq in range(cursor.last + 1, announced + 1)]))
        assert not cursor.is_behind
    assert handed_on == list(range(1, announced + 1))


@given(st.permutations(batches([3, 1, 4, 1, 5, 9, 2, 6])))
def test_broadcasts_in_the_wrong_order_need_no_read(order: list[tuple[int, int]]) -> None:
    """A broadcast that comes too early waits for those before it."""
    cursor, handed_on = Cursor(0), []
    for first, last in order:
        handed_on += seqs(cursor.ring(bell(first, last)))
    assert handed_on == list(range(1, 32))


def test_a_broadcast_that_overlaps_gives_only_what_is_new() -> None:
    """Part of a batch may have been read from the table before its broadcast came."""
    cursor = Cursor(0)
    assert seqs(cursor.take([event(1), event(2)])) == [1, 2]
    assert seqs(cursor.ring(bell(1, 4))) == [3, 4]


def test_what_lies_past_a_hole_is_not_handed_on() -> None:
    """Whatever a source leaves out is asked for again; nothing is ever skipped."""
    cursor = Cursor(0)
    assert seqs(cursor.take([event(1), event(2), event(4), event(5)])) == [1, 2]
    assert cursor.is_behind
    assert seqs(cursor.take([event(3), event(4)])) == [3, 4]


def test_a_broadcast_without_its_events_makes_the_cursor_fall_behind() -> None:
    """A batch that was too large to broadcast is announced, and read."""
    cursor = Cursor(0)
    assert cursor.ring(bell(1, 3, with_events=False)) == []
    assert cursor.is_behind


def test_early_broadcasts_are_kept_within_bounds() -> None:
    """A reader who is far behind keeps some broadcasts and reads the rest: memory does not grow with the log."""
    cursor = Cursor(0)
    for seq in range(2, 3 * EARLY_BELLS_KEPT):
        assert cursor.ring(bell(seq, seq)) == []
    assert seqs(cursor.take([event(1)])) == list(range(1, EARLY_BELLS_KEPT + 2))
    assert cursor.is_behind


@pytest.mark.parametrize(
    ("type", "data", "final"),
    [
        ("session.status_idle", {"stop_reason": {"type": "end_turn"}}, True),
        ("session.status_idle", {}, True),
        ("session.status_idle", {"stop_reason": {"type": "requires_action"}}, False),
        ("session.status_terminated", {}, True),
        ("session.status_running", {}, False),
        ("run.succeeded", {}, False),
    ],
)
def test_an_event_is_final_when_the_session_rests_with_it(type: str, data: dict[str, Any], final: bool) -> None:
    """A session that waits for its user is idle and has not ended."""
    assert is_final(event(1, type, data)) is final

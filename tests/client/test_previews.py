"""Previews on their way to a watcher: handed on as they come, but none of an event that was handed on itself."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from sandstream.events import Event
from sandstream.previews import IDS_KEPT, Previews


def broadcast(*items: Any) -> dict[str, Any]:
    return {"event": "previews", "payload": {"session_id": "s", "run_id": "r", "previews": list(items)}}


def start(id: str) -> dict[str, Any]:
    return {"type": "event_start", "event": {"type": "agent.message", "id": id}}


def delta(id: str) -> dict[str, Any]:
    return {"type": "event_delta", "event_id": id, "delta": {"type": "content_delta"}}


def event(id: str) -> Event:
    now = datetime.now(UTC)
    return Event(seq=1, session_id=uuid.uuid4(), type="agent.message", data={"id": id}, produced_at=now, created_at=now)


def test_what_is_heard_is_shown_as_it_came() -> None:
    """A broadcast's previews, in order, in one call."""
    shown: list[list[dict[str, Any]]] = []
    Previews(shown.append).heard(broadcast(start("a"), delta("a")))
    assert shown == [[start("a"), delta("a")]]


def test_nothing_is_shown_of_an_event_that_is_there() -> None:
    """A preview that comes late would write over the complete event."""
    shown: list[list[dict[str, Any]]] = []
    previews = Previews(shown.append)
    previews.stored([event("a")])
    previews.heard(broadcast(start("a"), delta("a")))
    previews.heard(broadcast(delta("a"), start("b")))
    assert shown == [[start("b")]]


@pytest.mark.parametrize(
    "message", [None, {}, {"payload": None}, {"payload": {}}, {"payload": {"previews": 7}}, broadcast("x", None)]
)
def test_what_makes_no_sense_is_left_out(message: Any) -> None:
    """Anything may come over a socket; none of it raises."""
    shown: list[list[dict[str, Any]]] = []
    Previews(shown.append).heard(message)
    assert shown == []


def test_who_does_not_ask_costs_nothing() -> None:
    """Neither a broadcast nor an event leaves anything behind."""
    previews = Previews(None)
    previews.stored([event("a")])
    previews.heard(broadcast(start("a")))
    assert not previews._seen


def test_the_memory_of_events_is_bounded() -> None:
    """A watch may last for days."""
    previews = Previews(lambda _: None)
    for number in range(2 * IDS_KEPT):
        previews.stored([event(str(number))])
    assert len(previews._seen) == IDS_KEPT

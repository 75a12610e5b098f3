"""Previews between their first word and the event itself."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents
from pydantic import TypeAdapter

from functions.drafts import MAX_DRAFT_BYTES, Drafts
from sandstream.events import Event

STREAMED: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsStreamSessionEvents)
BOTH = frozenset(("agent.message", "agent.thinking"))


def start(id: str, type: str = "agent.message") -> dict[str, Any]:
    return {"type": "event_start", "event": {"type": type, "id": id}}


def delta(id: str, text: str = "word") -> dict[str, Any]:
    content = {"type": "content_delta", "index": 0, "content": {"type": "text", "text": text}}
    return {"type": "event_delta", "event_id": id, "delta": content}


def event(id: str, type: str = "agent.message", seq: int = 1) -> Event:
    now = datetime.now(UTC)
    return Event(seq=seq, session_id=uuid4(), type=type, data={"id": id}, produced_at=now, created_at=now)


def ids(drafts: Drafts, place: int = 0, kinds: frozenset[str] = BOTH) -> list[str]:
    return [draft.event_id for draft in drafts.since(place, kinds)]


def test_previews_are_kept_in_order_until_the_event_is_there() -> None:
    """All of them for who comes late; none of them afterwards."""
    drafts = Drafts()
    assert drafts.heard([start("a"), delta("a"), start("b"), delta("a")])
    assert ids(drafts) == ["a", "a", "b", "a"]
    drafts.stored(event("a"))
    assert ids(drafts) == ["b"]
    drafts.stored(event("b"))
    assert ids(drafts) == []


def test_a_reader_gets_each_preview_once() -> None:
    """From its own place on."""
    drafts = Drafts()
    drafts.heard([start("a"), delta("a")])
    seen = drafts.last
    assert ids(drafts, seen) == []
    drafts.heard([delta("a")])
    assert ids(drafts, seen) == ["a"]


def test_a_delta_without_its_start_is_let_go() -> None:
    """Also one of an event that the log has already."""
    drafts = Drafts()
    assert not drafts.heard([delta("a")])
    drafts.heard([start("a")])
    drafts.stored(event("a"))
    assert not drafts.heard([delta("a")])


def test_only_the_kinds_that_are_asked_for() -> None:
    """A delta is of the kind that its start named."""
    drafts = Drafts()
    drafts.heard([start("m"), delta("m"), start("t", "agent.thinking")])
    assert ids(drafts, kinds=frozenset(("agent.message",))) == ["m", "m"]
    assert ids(drafts, kinds=frozenset(("agent.thinking",))) == ["t"]
    assert ids(drafts, kinds=frozenset()) == []


def test_the_end_of_a_request_closes_its_previews() -> None:
    """A request that is cut off never produces the event; another one's previews go on."""
    drafts = Drafts()
    drafts.heard([start("sevt_msg_1_0"), start("sevt_msg_10_0"), delta("sevt_msg_1_0")])
    drafts.stored(event("sevt_msg_1_end", "span.model_request_end"))
    assert ids(drafts) == ["sevt_msg_10_0"]


@pytest.mark.parametrize("type", ["session.status_idle", "session.status_terminated", "session.deleted"])
def test_the_end_of_a_turn_closes_all(type: str) -> None:
    """Nothing hangs in the air while nobody speaks."""
    drafts = Drafts()
    drafts.heard([start("a"), start("b")])
    drafts.stored(event("x", type))
    assert ids(drafts) == []


def test_what_is_no_preview_is_left_out() -> None:
    """The sandbox says what it likes; the readers are shown what the wire knows, and no field more."""
    drafts = Drafts()
    bad: list[dict[str, Any]] = [
        {},
        {"type": "agent.message"},
        start("a", "user.message"),
        start("x" * 201),
        {"type": "event_start", "event": {"type": "agent.message", "id": 7}},
        {"type": "event_delta", "event_id": "a", "delta": {"type": "content_delta", "content": "text"}},
    ]
    assert not drafts.heard(bad)
    drafts.heard([{**start("a"), "seq": 1, "id": "forged\n\ndata: x"}])
    assert b"forged" not in drafts.since(0, BOTH)[0].message


def test_a_preview_is_a_message_of_the_sdks_stream_without_an_id() -> None:
    """It validates as the SDK's type, and a client that comes back cannot name it."""
    drafts = Drafts()
    drafts.heard([start("a"), delta("a", "line\nline")])
    for draft in drafts.since(0, BOTH):
        name, data, *rest = draft.message.decode().split("\n")
        assert (name, rest) == ("event: message", ["", ""])
        STREAMED.validate_json(data.removeprefix("data: "))


def test_what_is_kept_is_bounded() -> None:
    """An endless sentence is not previewed to its end, whatever the sandbox sends."""
    drafts = Drafts()
    drafts.heard([start("a"), start("b")])
    for _ in range(2 * MAX_DRAFT_BYTES // 10_000):
        drafts.heard([delta("a", "x" * 10_000)])
    assert sum(len(draft.message) for draft in drafts.since(0, BOTH)) <= MAX_DRAFT_BYTES
    assert ids(drafts) == ["b"]

"""Events at the edge: what may be sent, what becomes of its files, and how a row looks over HTTP."""

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsSendSessionEvents, BetaManagedAgentsSessionErrorEvent

from functions.errors import InvalidRequest, NotBuilt
from functions.events import MAX_EVENT_BYTES, as_wire, posted
from sandstream.events import Event

PNG = base64.b64encode(b"\x89PNG not really").decode()
SESSION = UUID("0e8c0f0e-6d0e-4a0c-9a53-000000000001")
Json = dict[str, Any]


def text(words: str = "hello") -> Json:
    return {"type": "text", "text": words}


def message(*blocks: Json) -> Json:
    return {"type": "user.message", "content": list(blocks or (text(),))}


def image(**source: Any) -> Json:
    return {"type": "image", "source": source or {"type": "base64", "media_type": "image/png", "data": PNG}}


def document(**source: Any) -> Json:
    given = source or {"type": "base64", "media_type": "application/pdf", "data": PNG}
    return {"type": "document", "title": "A paper", "context": "Old", "source": given}


def row(type: str, data: Json, seq: int = 7, **more: Any) -> Event:
    at = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)
    return Event(seq=seq, session_id=SESSION, type=type, data=data, produced_at=at, created_at=at, **more)


CONFIRMATION = {"type": "user.tool_confirmation", "tool_use_id": "sevt_toolu_1", "result": "deny", "deny_message": "no"}
RESULT = {
    "type": "user.custom_tool_result",
    "custom_tool_use_id": "sevt_toolu_2",
    "content": [text()],
    "is_error": False,
}
PLAIN = {"type": "text", "media_type": "text/plain", "data": "Dear reader"}


@pytest.mark.parametrize(
    "event",
    [
        message(),
        message(text("a"), image(type="url", url="https://example.test/a.png")),
        message(document(type="url", url="https://example.test/a.pdf")),
        message(document(**PLAIN)),
        {"type": "user.interrupt"},
        CONFIRMATION,
        {"type": "user.tool_confirmation", "tool_use_id": "sevt_toolu_1", "result": "allow"},
        RESULT,
        {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_toolu_2"},
    ],
)
def test_what_holds_no_file_is_sent_as_it_is(event: Json) -> None:
    """URLs and plain text stay in the event; what a client left out stays out."""
    found = posted([event])
    assert found.events == [event]
    assert found.attachments == []


def test_files_are_taken_out() -> None:
    """The log gets a reference, SQL gets the bytes apart; both carry one id."""
    found = posted([message(text(), image(), document())])
    first, second = found.attachments
    blocks = found.events[0]["content"]
    assert [block.get("source") for block in blocks[1:]] == [
        {"type": "file", "file_id": first["id"]},
        {"type": "file", "file_id": second["id"]},
    ]
    assert (blocks[2]["title"], blocks[2]["context"]) == ("A paper", "Old")
    assert first == {"id": str(UUID(first["id"])), "media_type": "image/png", "data": PNG, "title": None}
    assert (second["media_type"], second["title"]) == ("application/pdf", "A paper")
    assert PNG not in str(found.events)


def test_the_same_file_twice_is_two() -> None:
    """Each block refers to its own."""
    found = posted([message(image(), image())])
    assert len({attachment["id"] for attachment in found.attachments}) == 2


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({}, "events.0.type"),
        ({"type": 7}, "events.0.type"),
        ({"type": "agent.message"}, "events.0.type"),
        ({"type": "user.message"}, "events.0.content"),
        ({"type": "user.message", "content": "hello"}, "events.0.content"),
        ({"type": "user.message", "content": []}, "events.0.content"),
        (message(text("")), "events.0.content.0.text"),
        (message(text("a\x00")), "events.0.content.0.text"),
        (message({"type": "video"}), "events.0.content.0"),
        (
            message(text(), image(type="base64", media_type="image/bmp", data=PNG)),
            "events.0.content.1.source.media_type",
        ),
        (message(image(type="base64", media_type="image/png", data="§")), "events.0.content.0.source.data"),
        (message(image(type="base64", media_type="image/png", data="")), "events.0.content.0.source.data"),
        (message(image(type="url", url="file:///etc/passwd")), "events.0.content.0.source.url"),
        (message(image(type="ftp")), "events.0.content.0.source"),
        (message(document(type="text", media_type="text/html", data="x")), "events.0.content.0.source.media_type"),
        ({**message(), "id": "sevt_mine"}, "events.0.id"),
        ({**CONFIRMATION, "result": "maybe"}, "events.0.result"),
        ({**CONFIRMATION, "result": "allow"}, "events.0"),
        ({"type": "user.tool_confirmation", "result": "allow"}, "events.0.tool_use_id"),
        ({**RESULT, "is_error": "no"}, "events.0.is_error"),
        (message(text("é" * (MAX_EVENT_BYTES // 2))), "events.0"),
    ],
)
def test_what_is_wrong_is_named_as_the_client_wrote_it(event: Json, param: str) -> None:
    """The path to the field, without our own choices between models."""
    with pytest.raises(InvalidRequest) as refused:
        posted([event])
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"type": "user.define_outcome", "description": "x", "rubric": {}}, "user.define_outcome"),
        ({"type": "user.tool_result", "tool_use_id": "x"}, "user.tool_result"),
        ({"type": "system.message", "content": []}, "system.message"),
        ({"type": "user.interrupt", "session_thread_id": "thread_1"}, "session_thread_id"),
        (message(image(type="file", file_id="file_1")), "file"),
        (message({"type": "redacted"}), "redacted"),
        ({**RESULT, "content": [{"type": "search_result"}]}, "search_result"),
    ],
)
def test_what_is_not_built_is_said_by_name(event: Json, name: str) -> None:
    """501 for what the Managed Agents API has and this server has not."""
    with pytest.raises(NotBuilt, match=name):
        posted([event])


def test_a_session_begins_with_messages_only() -> None:
    """There is nothing yet to interrupt or to answer; the parameter is the caller's own."""
    with pytest.raises(InvalidRequest) as refused:
        posted([message(), {"type": "user.interrupt"}], param="initial_events", only_messages=True)
    assert refused.value.param == "initial_events.1.type"


def test_an_event_is_shown_flat() -> None:
    """Its own fields beside ours; the time is UTC."""
    shown = as_wire(row("agent.message", {"id": "sevt_1", "content": [text()]}, run_id=UUID(int=1)))
    assert shown == {
        "id": "sevt_1",
        "type": "agent.message",
        "content": [text()],
        "seq": 7,
        "session_id": str(SESSION),
        "run_id": str(UUID(int=1)),
        "created_at": "2026-11-21T08:00:00.123456Z",
        "processed_at": "2026-11-21T08:00:00.123456Z",
    }


def test_every_event_has_an_id() -> None:
    """Where its writer gave none it follows from the place in the log, so that it is always the same."""
    assert as_wire(row("command.output", {"text": "x"}))["id"] == f"sevt_{SESSION.hex}_7"


def test_an_event_cannot_say_what_is_ours_to_say() -> None:
    """A runner's data does not pass for another event's place."""
    forged = {
        "seq": 1,
        "session_id": "x",
        "run_id": "x",
        "type": "user.message",
        "created_at": "x",
        "processed_at": "x",
    }
    shown = as_wire(row("command.output", forged))
    assert (shown["seq"], shown["type"], shown["session_id"], shown["run_id"]) == (
        7,
        "command.output",
        str(SESSION),
        None,
    )
    assert shown["created_at"] == shown["processed_at"] == "2026-11-21T08:00:00.123456Z"


def test_what_was_sent_reads_as_the_sdks_answer() -> None:
    """Each kind of user event, as a row of the log, validates as the SDK's own type."""
    events = posted(
        [message(text(), image(), document(), document(**PLAIN)), {"type": "user.interrupt"}, CONFIRMATION, RESULT]
    )
    rows = [
        row(event["type"], {"id": f"sevt_{seq}", **{key: value for key, value in event.items() if key != "type"}}, seq)
        for seq, event in enumerate(events.events, 1)
    ]
    answer = BetaManagedAgentsSendSessionEvents.model_validate({"data": [as_wire(each) for each in rows]})
    assert [event.type for event in answer.data or []] == [event["type"] for event in events.events]


def error(type: str, retry: str | None = None, **more: str) -> Json:
    retry_status = {"retry_status": {"type": retry}} if retry else {}
    return {"type": type, "message": "x", **retry_status, **more}


@pytest.mark.parametrize(
    ("given", "type", "code"),
    [
        (error("sandbox_unavailable"), "unknown_error", "sandbox_unavailable"),
        (error("unknown_error", "terminal", watchdog="silent"), "unknown_error", None),
        (error("model_overloaded_error", "retrying"), "model_overloaded_error", None),
        (None, "unknown_error", None),
        ({"type": ["x"]}, "unknown_error", ["x"]),
        ({"type": {"a": 1}}, "unknown_error", {"a": 1}),
    ],
)
def test_an_error_is_told_in_the_sdks_words(given: Json | None, type: str, code: object) -> None:
    """Whoever wrote it: it validates, what the SDK does not know keeps its own word, nothing of it is lost."""
    shown = as_wire(row("session.error", {"error": given}))
    BetaManagedAgentsSessionErrorEvent.model_validate(shown)
    assert (shown["error"]["type"], shown["error"].get("code")) == (type, code)
    kept = {name: value for name, value in (given or {}).items() if name != "type"}
    assert kept.items() <= shown["error"].items()

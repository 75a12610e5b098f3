"""What the client says to a session, against scripted endpoints; and events in the two forms that they have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.responses import JSONResponse

from functions.events import as_wire
from sandstream import ConflictError, Event, Sandstream
from sandstream.conversation import text
from tests.client.events_of import SESSION, Log, words
from tests.client.fake_endpoints import FakeEndpoints, refused

pytestmark = pytest.mark.usefixtures("quick")

AT = "2026-11-21T08:00:00.123456Z"
CONVERSATION: dict[str, Any] = {
    "type": "session",
    "id": str(SESSION),
    "agent": {"type": "agent", "id": "default", "version": 1},
    "environment_id": "default",
    "title": None,
    "status": "running",
    "last_seq": 2,
    "metadata": {},
    "usage": {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 0, "list_cost": None},
    "created_at": AT,
    "updated_at": AT,
    "archived_at": None,
}


def flat(seq: int, type: str, **fields: Any) -> dict[str, Any]:
    """An event as HTTP shows it."""
    envelope = {"id": f"sevt_{seq}", "seq": seq, "session_id": str(SESSION), "run_id": None}
    return {**envelope, "type": type, "created_at": AT, "processed_at": AT, **fields}


def sent(*events: dict[str, Any]) -> JSONResponse:
    """The answer to a send."""
    return JSONResponse({"data": list(events), "has_more": False, "next_cursor": None, "next_page": None})


async def test_a_conversation_is_one_call(endpoints: FakeEndpoints) -> None:
    """A text is enough: the agent and the environment are the ready-made ones, and nothing else is sent."""
    endpoints.script(JSONResponse(CONVERSATION))
    async with Sandstream(endpoints.url, "a-token") as client:
        session = await client.create_session("build a todo page")
    asked = endpoints.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/sessions")
    assert asked.body == {
        "agent": "default",
        "environment_id": "default",
        "initial_events": [{"type": "user.message", "content": words("build a todo page")}],
    }
    assert asked.headers["idempotency-key"]
    assert (session.id, session.is_conversation, session.status) == (SESSION, True, "running")
    assert session.usage is not None
    assert session.usage.input_tokens == 7


async def test_everything_that_a_session_may_have_is_sent(endpoints: FakeEndpoints) -> None:
    """A pinned agent, an environment, title, metadata, resources, and the budget in the form of the wire."""
    endpoints.script(JSONResponse(CONVERSATION))
    pinned = {"type": "agent", "id": "agent_1", "version": 2}
    repository = {"type": "github_repository", "url": "https://github.test/a/b"}
    async with Sandstream(endpoints.url, "a-token") as client:
        await client.create_session(
            agent=pinned, environment="env_1", title="t", metadata={"a": "b"}, resources=[repository],
            budget_cents=250, idempotency_key="my-key",
        )  # fmt: skip
    asked = endpoints.asked[0]
    assert asked.body == {
        "agent": pinned,
        "environment_id": "env_1",
        "title": "t",
        "metadata": {"a": "b"},
        "resources": [repository],
        "budget": {"type": "limit", "max_list_cost": {"amount": "250", "currency": "USD"}},
    }
    assert asked.headers["idempotency-key"] == "my-key"


Say = Callable[[Sandstream], Awaitable[Event]]
SAYINGS: list[tuple[Say, dict[str, Any]]] = [
    (
        lambda client: client.send(SESSION, "and dark mode"),
        {"events": [{"type": "user.message", "content": words("and dark mode")}], "on_busy": "queue"},
    ),
    (
        lambda client: client.send(SESSION, [{"type": "image", "source": {}}], on_busy="interrupt"),
        {"events": [{"type": "user.message", "content": [{"type": "image", "source": {}}]}], "on_busy": "interrupt"},
    ),
    (
        lambda client: client.allow(SESSION, "sevt_t"),
        {"events": [{"type": "user.tool_confirmation", "tool_use_id": "sevt_t", "result": "allow"}]},
    ),
    (
        lambda client: client.deny(SESSION, "sevt_t", "not that file"),
        {
            "events": [
                {
                    "type": "user.tool_confirmation",
                    "tool_use_id": "sevt_t",
                    "result": "deny",
                    "deny_message": "not that file",
                }
            ]
        },
    ),
    (lambda client: client.interrupt(SESSION), {"events": [{"type": "user.interrupt"}]}),
    (
        lambda client: client.answer(SESSION, "sevt_c", "17 degrees", is_error=True),
        {
            "events": [
                {
                    "type": "user.custom_tool_result",
                    "custom_tool_use_id": "sevt_c",
                    "content": words("17 degrees"),
                    "is_error": True,
                }
            ]
        },
    ),
]


@pytest.mark.parametrize(("say", "body"), SAYINGS, ids=["message", "blocks", "allow", "deny", "interrupt", "answer"])
async def test_what_is_said_has_the_form_of_the_wire(say: Say, body: dict[str, Any], endpoints: FakeEndpoints) -> None:
    """One event, under an idempotency key, and the answer is the event that it became."""
    endpoints.script(refused(503, "store_unavailable", retry_after="0"), sent(flat(5, "user.x", content=[])))
    async with Sandstream(endpoints.url, "a-token") as client:
        event = await say(client)
    assert [(asked.method, asked.path) for asked in endpoints.asked] == [("POST", f"/v1/sessions/{SESSION}/events")] * 2
    assert endpoints.asked[1].body == body
    assert len({asked.headers["idempotency-key"] for asked in endpoints.asked}) == 1
    assert (event.seq, event.id) == (5, "sevt_5")


async def test_of_an_interrupting_message_the_message_is_answered(endpoints: FakeEndpoints) -> None:
    """The endpoint puts an interrupt before it; what follows the message is its answer."""
    endpoints.script(sent(flat(5, "user.interrupt"), flat(6, "user.message", content=words("stop, do this"))))
    async with Sandstream(endpoints.url, "a-token") as client:
        event = await client.send(SESSION, "stop, do this", on_busy="interrupt")
    assert (event.type, event.seq) == ("user.message", 6)


async def test_a_busy_session_refuses_in_words(endpoints: FakeEndpoints) -> None:
    """Who asks for it gets no queue but an error, at once."""
    endpoints.script(refused(409, "session_busy", "a turn runs", x_should_retry="false"))
    async with Sandstream(endpoints.url, "a-token") as client:
        with pytest.raises(ConflictError) as raised:
            await client.send(SESSION, "now", on_busy="reject")
    assert raised.value.type == "session_busy"
    assert len(endpoints.asked) == 1


async def test_a_session_is_archived_by_its_name(endpoints: FakeEndpoints) -> None:
    """And its answer is the session as it stands then."""
    endpoints.script(JSONResponse(CONVERSATION | {"status": "terminated", "archived_at": AT}))
    async with Sandstream(endpoints.url, "a-token") as client:
        session = await client.archive(SESSION)
    assert (endpoints.asked[0].method, endpoints.asked[0].path) == ("POST", f"/v1/sessions/{SESSION}/archive")
    assert (session.status, session.archived_at is None) == ("terminated", False)


async def test_a_session_of_plans_has_nobody_to_talk_to(endpoints: FakeEndpoints) -> None:
    """It is told by the agent that the endpoints name for it."""
    endpoints.script(JSONResponse(CONVERSATION | {"agent": {"type": "agent", "id": "commands"}}))
    async with Sandstream(endpoints.url, "a-token") as client:
        assert not (await client.session(SESSION)).is_conversation


DATA = st.dictionaries(
    st.sampled_from(["content", "name", "input", "error", "stop_reason", "data", "n"]),
    st.none() | st.text() | st.lists(st.integers()),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DATA, st.booleans())
def test_both_forms_of_an_event_are_the_same_event(data: dict[str, Any], has_id: bool) -> None:
    """What HTTP shows flat is read as the table has it, with its own id or the one that its place gives it."""
    data |= {"id": "sevt_msg_1"} if has_id else {}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    row = Event(seq=3, session_id=SESSION, run_id=UUID(int=7), type="x.y", data=data, produced_at=at, created_at=at)
    assert Event.from_flat(as_wire(row)) == row
    assert row.id == ("sevt_msg_1" if has_id else f"sevt_{SESSION.hex}_3")


def test_what_is_no_event_is_refused() -> None:
    """At the edge, with pydantic's own error."""
    with pytest.raises(ValidationError):
        Event.from_flat({"type": "user.message"})


def test_the_texts_of_a_content() -> None:
    """In order; what is no text, or no content at all, adds nothing."""
    assert text([*words("one "), {"type": "image"}, *words("two"), "odd"]) == "one two"
    assert text("plain") == "plain"
    assert text(None) == text(7) == ""
    assert text(Log().message("hello").data["content"]) == "hello"

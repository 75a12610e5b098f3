"""The stream of a conversation: open across turns, previews between the events, the official SDK as its reader."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents
from pydantic import TypeAdapter

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.acting import Actor, acting, delta, start
from tests.e2e.conversing import official
from tests.e2e.test_stream import messages

STREAMED: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsStreamSessionEvents)
SAID = {"id": "sevt_msg_1_0", "content": [{"type": "text", "text": "Hello there"}]}
PREVIEWED = (start("sevt_msg_1_0"), delta("sevt_msg_1_0", "Hello "), delta("sevt_msg_1_0", "there"))


@pytest.fixture
async def actor(stack: Stack, owner: Person) -> AsyncIterator[Actor]:
    """A conversation with a live run, driven by the test."""
    async with acting(stack, owner, "hello") as made:
        yield made


class Reader:
    """A stream in the background, and what it has given so far."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ended = False
        self._grown = asyncio.Event()

    async def read(self, stream: AsyncIterator[Any]) -> None:
        async for event in stream:
            self.events.append(event)
            self._grown.set()
        self.ended = True
        self._grown.set()

    async def until(self, type: str, times: int = 1) -> None:
        """Returns when so many of a type have come, or with `type` "end" when the stream has ended."""
        async with asyncio.timeout(30):
            while not (self.ended if type == "end" else self.types().count(type) >= times):
                self._grown.clear()
                await self._grown.wait()

    def types(self) -> list[str]:
        return [event["type"] if isinstance(event, dict) else event.type for event in self.events]


@asynccontextmanager
async def reading(stream: AsyncIterator[Any]) -> AsyncIterator[Reader]:
    """Reads while inside."""
    reader = Reader()
    task = asyncio.create_task(reader.read(stream))
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def sdk_reading(client: AsyncAnthropic, session_id: str, **how: Any) -> AsyncIterator[Reader]:
    """The same by the SDK's own stream; connected before the body begins."""
    async with await client.beta.sessions.events.stream(session_id, **how) as stream, reading(aiter(stream)) as reader:
        yield reader


async def listened_to(actor: Actor, reader: Reader) -> None:
    """Returns when previews reach the reader: a subscription may take a moment."""
    for number in range(300):
        await actor.preview(start(f"sevt_probe_{number}"))
        if "event_start" in reader.types():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("no preview ever came")


async def test_a_stream_stays_open_across_turns_and_ends_with_the_session(owner: Person, actor: Actor) -> None:
    """Idle is not the end: the next turn's events come on the same connection, and termination closes it."""
    async with owner.endpoints() as http, reading(messages(http, actor.session_id)) as reader:
        await actor.append("session.status_running")
        await actor.finish()
        await reader.until("session.status_idle")
        await actor.say("and now?")
        await actor.append("session.status_running")
        await actor.finish()
        await reader.until("session.status_idle", 2)
        assert not reader.ended
        await actor.end("archive_session_v1")
        await reader.until("end")
        assert reader.types()[-1] == "session.status_terminated"
        assert [event["seq"] for event in reader.events] == list(range(1, len(reader.events) + 1))
        last = reader.events[-1]["seq"]
        path = f"/v1/sessions/{actor.session_id}/events/stream"
        assert (await http.get(path, params={"after": last})).status_code == 204


async def test_deletion_ends_a_stream_with_its_own_event(owner: Person, actor: Actor) -> None:
    """The log is gone, yet who was watching is told; afterwards there is no such session."""
    async with owner.endpoints() as http, reading(messages(http, actor.session_id)) as reader:
        await actor.append("session.status_running")
        await actor.finish()
        await reader.until("session.status_idle")
        await listened_to_events(actor, reader)
        await actor.end("delete_session_v1")
        await reader.until("end")
        assert reader.types()[-1] == "session.deleted"
        path = f"/v1/sessions/{actor.session_id}/events/stream"
        assert (await http.get(path)).status_code == 404


async def listened_to_events(actor: Actor, reader: Reader) -> None:
    """Returns when an event has come by itself after the first ones: the subscription stands."""
    await actor.say("again")
    await actor.finish()
    await reader.until("session.status_idle", 2)


async def test_the_sdk_streams_from_now_on(owner: Person, actor: Actor) -> None:
    """As the Managed Agents API has it: what was before is listed, what comes is streamed, typed and valid."""
    await actor.append("session.status_running")
    async with official(owner) as client, sdk_reading(client, actor.session_id) as reader:
        await actor.append("agent.message", **SAID)
        await actor.finish()
        await reader.until("session.status_idle")
    assert reader.types() == ["agent.message", "run.succeeded", "session.status_idle"]
    said, _, idle = reader.events
    assert (said.id, said.content[0].text, idle.stop_reason.type) == ("sevt_msg_1_0", "Hello there", "end_turn")
    for event in (said, idle):
        STREAMED.validate_python(event.to_dict())


async def test_the_sdk_may_ask_for_a_place(owner: Person, actor: Actor) -> None:
    """Our additions to its stream: `after` and Last-Event-ID give what came after that seq."""
    last = await actor.append("session.status_running")
    async with official(owner) as client:
        async with sdk_reading(client, actor.session_id, extra_query={"after": 1}) as by_parameter:
            await by_parameter.until("session.status_running")
        async with sdk_reading(client, actor.session_id, extra_headers={"Last-Event-ID": str(last - 1)}) as by_header:
            await by_header.until("session.status_running")
    assert by_parameter.events[0].seq == 2
    assert by_header.events[0].seq == last


async def test_previews_come_before_the_event_and_never_after(owner: Person, actor: Actor) -> None:
    """Word by word to those who ask, then the event, complete, under the same id; a late preview is not shown."""
    async with owner.endpoints() as http, official(owner) as client:
        how = {"event_deltas": ["agent.message", "agent.thinking"]}
        async with (
            reading(messages(http, actor.session_id)) as plain,
            sdk_reading(client, actor.session_id, **how) as reader,
        ):
            await listened_to(actor, reader)
            await actor.preview(*PREVIEWED)
            await reader.until("event_delta", 2)
            await actor.append("agent.message", **SAID)
            await actor.preview(*PREVIEWED)
            await actor.finish()
            await reader.until("session.status_idle")
            await plain.until("session.status_idle")
    about = [event for event in reader.events if "sevt_msg_1_0" in str(event.to_dict())]
    assert [event.type for event in about] == ["event_start", "event_delta", "event_delta", "agent.message"]
    assert "".join(event.delta.content.text for event in about[1:3]) == about[3].content[0].text
    for event in about:
        STREAMED.validate_python(event.to_dict())
    assert not {"event_start", "event_delta"} & set(plain.types())


async def test_only_the_previews_that_were_asked_for(owner: Person, actor: Actor) -> None:
    """Each reader of the one tail gets its own kinds."""
    how: dict[str, Any] = {"event_deltas": ["agent.thinking"]}
    async with official(owner) as client, sdk_reading(client, actor.session_id, **how) as reader:
        for number in range(300):
            await actor.preview(start(f"sevt_m_{number}"), start(f"sevt_t_{number}", "agent.thinking"))
            if reader.events:
                break
            await asyncio.sleep(0.05)
        await reader.until("event_start")
    assert {event.event.type for event in reader.events} == {"agent.thinking"}


async def test_who_comes_in_the_middle_gets_the_beginning_too(owner: Person, actor: Actor) -> None:
    """A page that is reloaded while Claude speaks shows the sentence from its start."""
    how: dict[str, Any] = {"event_deltas": ["agent.message"]}
    async with official(owner) as client, sdk_reading(client, actor.session_id, **how) as first:
        await listened_to(actor, first)
        await actor.preview(*PREVIEWED[:2])
        await first.until("event_delta")
        async with sdk_reading(client, actor.session_id, **how) as second:
            await second.until("event_delta")
            await actor.preview(PREVIEWED[2])
            await second.until("event_delta", 2)
    pieces = [event for event in second.events if "sevt_msg_1_0" in str(event.to_dict())]
    assert [event.type for event in pieces] == ["event_start", "event_delta", "event_delta"]


async def test_a_preview_is_never_stored(owner: Person, actor: Actor) -> None:
    """The list knows nothing of it."""
    await actor.preview(*PREVIEWED)
    async with owner.endpoints() as http:
        listed = (await http.get(f"/v1/sessions/{actor.session_id}/events")).json()["data"]
    assert {event["type"] for event in listed} == {"user.message", "run.created"}


async def test_a_stream_that_is_cut_is_resumed_without_a_gap(owner: Person, actor: Actor) -> None:
    """One connection for every event of two turns, each from the last id on."""
    await actor.append("session.status_running")
    await actor.append("agent.message", **SAID)
    await actor.finish()
    await actor.say("and now?")
    await actor.append("session.status_running")
    await actor.finish()
    await actor.end("archive_session_v1")
    seen: list[int] = []
    async with owner.endpoints() as http:
        while True:
            async with aclosing(messages(http, actor.session_id, header=seen[-1] if seen else 0)) as stream:
                event = await anext(stream, None)
            if event is None:
                break
            seen.append(event["seq"])
        last = (await http.get(f"/v1/sessions/{actor.session_id}/events")).json()["data"][-1]["seq"]
    assert seen == list(range(1, last + 1))


@pytest.mark.parametrize("kinds", ["agent.tool_use", "x", ""])
async def test_there_are_previews_of_two_kinds_only(kinds: str, owner: Person, actor: Actor) -> None:
    """Another is refused by name, not ignored."""
    async with owner.endpoints() as http:
        path = f"/v1/sessions/{actor.session_id}/events/stream"
        answer = await http.get(path, params={"event_deltas[]": kinds})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("event_deltas[]")

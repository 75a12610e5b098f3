"""Conversations in tests: the official SDK as the client, and scripts for the model behind it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from anthropic import AsyncAnthropic
from anthropic.types.beta import sessions as wire
from anthropic.types.beta.sessions import BetaManagedAgentsSessionEvent
from pydantic import TypeAdapter

from local.stack import Stack
from tests.conftest import Person

TURN_SECONDS = 90
Json = dict[str, Any]
SESSION_EVENT: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsSessionEvent)
# Types of our own, which the SDK does not know; its reader passes them on all the same.
OURS = ("run.", "sandbox.", "agent.unparsed", "command.", "budget.")


@asynccontextmanager
async def official(person: Person) -> AsyncIterator[AsyncAnthropic]:
    """The anthropic SDK with our address and the person's token: all that an existing client has to change."""
    async with AsyncAnthropic(base_url=person.stack.api.url, auth_token=person.token, max_retries=0) as client:
        yield client


def said(text: str, **more: Any) -> Json:
    """A turn of the scripted model that only says something."""
    return {"content": [{"type": "text", "text": text}], **more}


def used(name: str, input: Json, text: str = "Let me see.", **more: Any) -> Json:
    """A turn that says something and uses a tool."""
    return {"content": [{"type": "text", "text": text}, {"type": "tool_use", "name": name, "input": input}], **more}


def bash(command: str, **more: Any) -> Json:
    """A turn that runs a shell command."""
    return used("Bash", {"command": command, "description": "a command of the test"}, **more)


def script(stack: Stack, *turns: Json) -> str:
    """Teaches the model an answer; returns the word that a prompt has to hold for it."""
    word = f"case-{secrets.token_hex(6)}"
    stack.script_model(word, {"when": {"prompt": word}, "turns": list(turns)})
    return word


def message(text: str) -> Json:
    """A user.message of one text."""
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


async def begin(client: AsyncAnthropic, text: str, **more: Any) -> str:
    """A session that starts at once; its id."""
    more = {"agent": "default", "environment_id": "default", **more}
    session = await client.beta.sessions.create(initial_events=[message(text)], **more)  # type: ignore[list-item]
    return session.id


async def send(client: AsyncAnthropic, session_id: str, *events: Json, **more: Any) -> list[Any]:
    """Sends events, and checks the answer against the SDK's own type."""
    answer = await client.beta.sessions.events.send(session_id, events=list(events), extra_body=more)  # type: ignore[arg-type]
    wire.BetaManagedAgentsSendSessionEvents.model_validate(answer.to_dict())
    return list(answer.data or [])


async def follow(client: AsyncAnthropic, session_id: str, after: int = 0, **more: Any) -> AsyncIterator[Any]:
    """The session's events after a seq, by the SDK's stream."""
    stream = await client.beta.sessions.events.stream(session_id, extra_query={"after": after}, **more)
    async with stream:
        async for event in stream:
            yield event


async def read(client: AsyncAnthropic, session_id: str, *types: str, after: int = 0, times: int = 1) -> list[Any]:
    """The events after a seq, until the given type has come so many times. Raises AssertionError when it does not."""
    events: list[Any] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(TURN_SECONDS):
            async for event in follow(client, session_id, after):
                events.append(event)
                times -= event.type in types
                if times == 0:
                    return events
    raise AssertionError(f"{types} did not come: {[event.to_dict() for event in events]}")


async def turn(client: AsyncAnthropic, session_id: str, after: int = 0) -> list[Any]:
    """The events of one turn, up to its end or its question."""
    return await read(client, session_id, "session.status_idle", after=after)


async def converse(client: AsyncAnthropic, session_id: str, text: str) -> list[Any]:
    """Says something in a session that stands still, and reads the answer's events."""
    sent = await send(client, session_id, message(text))
    return await turn(client, session_id, after=seq(sent[-1]))


async def log(client: AsyncAnthropic, session_id: str) -> list[Any]:
    """The whole log, page by page, each event of the Managed Agents wire valid as the SDK's type."""
    events = [event async for event in client.beta.sessions.events.list(session_id, limit=100)]
    for event in events:
        validate(event)
    assert [seq(event) for event in events] == list(range(1, len(events) + 1))
    ids = [event.id for event in events]
    assert len(ids) == len(set(ids)), "an event's id stands in the log once"
    return events


def validate(event: Any) -> None:
    """An event of a Managed Agents type has all that the SDK's type asks for."""
    if not event.type.startswith(OURS):
        SESSION_EVENT.validate_python(event.to_dict())


def seq(event: Any) -> int:
    """Our addition to every event."""
    number: int = event.seq
    return number


def types(events: list[Any]) -> list[str]:
    """The types in order."""
    return [event.type for event in events]


def of(events: list[Any], type: str) -> list[Any]:
    """The events of one type."""
    return [event for event in events if event.type == type]


def texts(events: list[Any]) -> list[str]:
    """What the agent said."""
    return [block.text for event in of(events, "agent.message") for block in event.content]


def results(events: list[Any]) -> list[str]:
    """What its tools answered."""
    return ["".join(block.text for block in event.content or []) for event in of(events, "agent.tool_result")]


def stop_reason(events: list[Any]) -> str:
    """Why the agent stands still."""
    kind: str = of(events, "session.status_idle")[-1].stop_reason.type
    return kind

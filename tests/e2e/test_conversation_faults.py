"""What goes wrong between a question and its answer: killed runners, vanished sandboxes, cut streams, a crowd."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from e2b import AsyncSandbox

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.conversing import (
    bash,
    begin,
    converse,
    follow,
    log,
    message,
    of,
    official,
    read,
    results,
    said,
    script,
    send,
    seq,
    stop_reason,
    texts,
    turn,
    types,
)
from tests.e2e.operating import allow
from tests.e2e.sandboxes import is_gone, sandbox_of_session, until
from tests.e2e.test_conversations import asking_agent
from tests.e2e.test_restarts import KILL

CROWD = 12


@pytest.fixture
async def official_client(owner: Person) -> AsyncIterator[AsyncAnthropic]:
    """The owner, with the official SDK."""
    async with official(owner) as client:
        yield client


async def kill_runner(sandbox: AsyncSandbox) -> None:
    """SIGKILL for the runner, and nothing else in the sandbox."""
    killed = await sandbox.commands.run(KILL, timeout=30)
    assert "killed" in killed.stdout


async def vanish(stack: Stack, sandbox: AsyncSandbox) -> None:
    """The sandbox goes, as E2B's do in 1 to 3 % of runs."""
    await sandbox.kill()
    await until(lambda: is_gone(stack, sandbox.sandbox_id), "the sandbox to be gone")


async def test_a_question_survives_the_runner_and_is_asked_once(stack: Stack, official_client: AsyncAnthropic) -> None:
    """The runner is killed while an approval waits: the answer starts a new one, and Claude goes on where it stood."""
    word = script(stack, bash("echo survived"), said("Done."))
    session_id = await begin(official_client, word, agent=await asking_agent(official_client))
    asked = await turn(official_client, session_id)
    await kill_runner(await sandbox_of_session(stack, session_id))
    use = of(asked, "agent.tool_use")[0]
    await send(
        official_client, session_id, {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"}
    )
    events = await turn(official_client, session_id, after=seq(asked[-1]))
    assert (results(events), texts(events), stop_reason(events)) == (["survived"], ["Done."], "end_turn")
    whole = await log(official_client, session_id)
    assert len(of(whole, "agent.tool_use")) == len(of(whole, "agent.tool_result")) == 1
    assert len(of(whole, "run.resumed")) == 1


async def test_a_session_outlives_its_sandbox_between_two_turns(stack: Stack, official_client: AsyncAnthropic) -> None:
    """In a new sandbox Claude still knows what was said, and the files are back or reported as lost."""
    first = script(stack, bash("echo treasure > chest.txt"), said("Hidden."))
    second = script(stack, bash("cat chest.txt || echo empty"), said("It was {{memory:password is ([a-z]+)}}."))
    session_id = await begin(official_client, f"{first} the password is swordfish")
    await turn(official_client, session_id)
    await vanish(stack, await sandbox_of_session(stack, session_id))
    events = await converse(official_client, session_id, f"{second} what was the password?")
    assert texts(events)[-1] == "It was swordfish."
    told = [event.type for event in events if event.type.startswith("sandbox.files_")]
    assert told == ["sandbox.files_restored" if results(events)[0] == "treasure" else "sandbox.files_lost"]


async def test_a_session_outlives_its_sandbox_in_the_middle_of_a_turn(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """The turn is lost and says so; the next message is answered with all that was said before it."""
    first = script(stack, bash("echo begun; sleep 100000"), said("never said"))
    second = script(stack, said("I remember {{memory:colour is ([a-z]+)}}."))
    session_id = await begin(official_client, f"{first} my colour is green")
    events = await read(official_client, session_id, "agent.tool_use")
    await vanish(stack, await sandbox_of_session(stack, session_id))
    await send(official_client, session_id, message(f"{second} do you remember?"))
    rest = await turn(official_client, session_id, after=seq(events[-1]))
    while "I remember green." not in texts(rest):
        rest += await turn(official_client, session_id, after=seq(rest[-1]))
    assert len(of(rest, "run.lost")) == 1
    assert of(rest, "session.error")
    assert [type for type in types(rest) if type.startswith("sandbox.files_")]


async def test_a_stream_cut_after_any_event_goes_on_without_a_hole(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """Resumed from each place in the log, the stream gives exactly the rest."""
    session_id = await begin(official_client, script(stack, bash("echo one; echo two"), said("Counted.")))
    await turn(official_client, session_id)
    whole = [seq(event) for event in await log(official_client, session_id)]

    async def rest(after: int) -> list[int]:
        seen: list[int] = []
        async with asyncio.timeout(30):
            async for event in follow(official_client, session_id, after):
                seen.append(seq(event))
                if seen[-1] == whole[-1]:
                    return seen
        raise AssertionError("the stream ended early")

    for place in whole[:-1]:
        assert await rest(place) == [number for number in whole if number > place]


async def test_a_stream_that_is_cut_while_events_come_is_resumed_by_its_last_id(
    stack: Stack, owner: Person, official_client: AsyncAnthropic
) -> None:
    """A reader that leaves after every event, and comes back with Last-Event-ID, reads the same log."""
    session_id = await begin(official_client, script(stack, bash("echo one"), bash("echo two"), said("Counted.")))
    seen: list[str] = []
    async with owner.endpoints() as http, asyncio.timeout(90):
        while not seen or seen[-1].split()[1] != "session.status_idle":
            seen.append(await next_event(http, session_id, seen[-1].split()[0] if seen else "0"))
    assert [line.split()[0] for line in seen] == [str(number) for number in range(1, len(seen) + 1)]


async def next_event(http: httpx.AsyncClient, session_id: str, last_id: str) -> str:
    """The first event after the last one: its id and its type; then the connection is dropped."""
    headers = {"Last-Event-ID": last_id}
    async with http.stream("GET", f"/v1/sessions/{session_id}/events/stream", headers=headers) as answer:
        id = ""
        async for line in answer.aiter_lines():
            if line.startswith("id:"):
                id = line.partition(":")[2].strip()
            if line.startswith("data:") and id:
                return f"{id} {httpx.Response(200, content=line[5:]).json()['type']}"
    raise AssertionError("the stream ended")


async def test_twelve_sessions_at_once_all_come_to_their_end(
    stack: Stack, owner: Person, official_client: AsyncAnthropic
) -> None:
    """Each of twelve CLIs runs its own tool, ends, and says so: none is lost, none mixed up."""
    await allow(owner, max_concurrent_sandboxes=CROWD)

    async def one(number: int) -> None:
        word = script(stack, bash(f"echo mine-{number}"), said(f"I am {number}."))
        session_id = await begin(official_client, word)
        events: list[Any] = await turn(official_client, session_id)
        assert (results(events), texts(events)[-1]) == ([f"mine-{number}"], f"I am {number}.")
        assert stop_reason(events) == "end_turn"

    await asyncio.gather(*(one(number) for number in range(CROWD)))


async def test_an_overloaded_model_is_tried_again_and_the_turn_ends_well(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """529 twice: the log says that it is tried again, and then the answer comes."""
    word = script(stack, said("At last.", error={"status": 529, "times": 2}))
    session_id = await begin(official_client, word)
    events = await turn(official_client, session_id)
    assert (texts(events), stop_reason(events)) == (["At last."], "end_turn")
    errors = of(events, "session.error")
    assert {error.error.retry_status.type for error in errors} <= {"retrying"}


async def test_a_sandbox_that_was_paused_is_woken_by_the_next_message(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """What E2B does after some idle minutes, done by hand: the follow-up finds the same files."""
    session_id = await begin(official_client, script(stack, bash("echo asleep > bed.txt"), said("Good night.")))
    await turn(official_client, session_id)
    sandbox = await sandbox_of_session(stack, session_id)
    await sandbox.pause()
    events = await converse(official_client, session_id, script(stack, bash("cat bed.txt"), said("Good morning.")))
    assert (results(events), of(events, "sandbox.files_lost")) == (["asleep"], [])
    assert (await sandbox_of_session(stack, session_id)).sandbox_id == sandbox.sandbox_id

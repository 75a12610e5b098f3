"""A live run that is spoken to: heard by its runner, brought back if that is dead, replaced if its sandbox is gone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.conversing import bash, begin, log, message, of, official, read, said, script, send, seq, texts, types
from tests.e2e.sandboxes import sandbox_of_session
from tests.e2e.test_restarts import KILL

INTERRUPT = {"type": "user.interrupt"}
ASKING = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}


@pytest.fixture
async def sdk(owner: Person) -> AsyncIterator[AsyncAnthropic]:
    """The owner, with the official SDK."""
    async with official(owner) as client:
        yield client


async def asking(stack: Stack, sdk: AsyncAnthropic, *turns: Any) -> tuple[str, str, int]:
    """A session that waits for an answer: its id, the question's, and the length of its log."""
    agent = await sdk.beta.agents.create(name="careful", model="claude-sonnet-5", tools=[ASKING])  # type: ignore[list-item]
    session_id = await begin(sdk, script(stack, *turns), agent=agent.id)
    events = await read(sdk, session_id, "session.status_idle")
    assert events[-1].stop_reason.type == "requires_action"
    return session_id, events[-1].stop_reason.event_ids[0], seq(events[-1])


async def kill_runner(stack: Stack, session_id: str) -> None:
    """SIGKILL for the runner alone."""
    sandbox = await sandbox_of_session(stack, session_id)
    assert (await sandbox.commands.run(KILL)).stdout.strip() == "killed"


async def only_run(service: httpx.AsyncClient, session_id: str) -> dict[str, Any]:
    (run,) = (await service.get("/agent_runs", params={"session_id": f"eq.{session_id}"})).json()
    found: dict[str, Any] = run
    return found


def allow(tool_use_id: str) -> dict[str, Any]:
    return {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, "result": "allow"}


async def test_a_living_runner_hears_and_stays(stack: Stack, sdk: AsyncAnthropic, service: httpx.AsyncClient) -> None:
    """An answer reaches the runner that asked; nothing is started anew."""
    session_id, question, last = await asking(stack, sdk, bash("echo allowed"), said("Done."))
    await send(sdk, session_id, allow(question))
    events = await read(sdk, session_id, "session.status_idle", after=last)
    assert texts(events) == ["Done."]
    assert (await only_run(service, session_id))["epoch"] == 1


async def test_a_dead_runner_is_brought_back_by_the_answer(
    stack: Stack, sdk: AsyncAnthropic, service: httpx.AsyncClient
) -> None:
    """Killed while it waited: the answer starts the next epoch, which goes on where the last one was, and says so."""
    session_id, question, last = await asking(stack, sdk, bash("echo allowed"), said("Done."))
    await kill_runner(stack, session_id)
    await send(sdk, session_id, allow(question))
    events = await read(sdk, session_id, "run.succeeded", after=last)
    assert of(events, "run.resumed")[0].epoch == 2
    assert texts(events) == ["Done."]
    assert (await only_run(service, session_id))["epoch"] == 2
    await log(sdk, session_id)


async def test_two_rings_at_once_start_one_runner(
    stack: Stack, sdk: AsyncAnthropic, service: httpx.AsyncClient
) -> None:
    """Both find it dead; one of them wins the epoch, and the other leaves it alone."""
    session_id, question, last = await asking(stack, sdk, bash("echo allowed"), said("Done."), said("Again."))
    await kill_runner(stack, session_id)
    more = message(script(stack, said("More.")))
    await asyncio.gather(send(sdk, session_id, allow(question)), send(sdk, session_id, more))
    events = await read(sdk, session_id, "run.succeeded", after=last)
    assert len(of(events, "run.resumed")) == 1
    assert (await only_run(service, session_id))["epoch"] == 2


async def test_a_cancel_is_heard_by_the_dead(
    owner: Person, stack: Stack, sdk: AsyncAnthropic, service: httpx.AsyncClient
) -> None:
    """Nobody is there to obey: one is started who does."""
    session_id, _, last = await asking(stack, sdk, bash("echo never"), said("never said"))
    await kill_runner(stack, session_id)
    run = await only_run(service, session_id)
    async with owner.endpoints() as http:
        assert (await http.post(f"/v1/runs/{run['id']}/cancel")).status_code == 202
    events = await read(sdk, session_id, "run.cancelled", after=last)
    assert "never said" not in texts(events)


async def test_a_run_whose_sandbox_is_gone_is_lost_and_the_message_gets_another(
    stack: Stack, sdk: AsyncAnthropic, service: httpx.AsyncClient
) -> None:
    """The log says what happened, and the message that found it out is answered in a new sandbox."""
    session_id, _, last = await asking(stack, sdk, bash("echo never"), said("never said"))
    gone = await sandbox_of_session(stack, session_id)
    await gone.kill()
    (sent,) = await send(sdk, session_id, message(script(stack, said("Here I am."))))
    events = await read(sdk, session_id, "run.succeeded", after=last)
    order = ["user.message", "session.error", "run.lost", "session.status_idle", "run.created", "run.started"]
    assert [type for type in types(events) if type in order][:6] == order
    assert of(events, "session.error")[0].error.code == "sandbox_gone"
    assert texts(events) == ["Here I am."]
    rows = (await service.get("/sandbox_executions", params={"session_id": f"eq.{session_id}"})).json()
    assert {row["sandbox_id"]: row["end_reason"] for row in rows}[gone.sandbox_id] == "vanished"
    assert len(rows) == 2
    assert seq(sent) == last + 1


async def test_an_interrupt_of_what_is_gone_starts_nothing(
    stack: Stack, sdk: AsyncAnthropic, service: httpx.AsyncClient
) -> None:
    """The run is lost and the session idle; no message waits, so nobody is called."""
    session_id, _, last = await asking(stack, sdk, bash("echo never"), said("never said"))
    await (await sandbox_of_session(stack, session_id)).kill()
    await send(sdk, session_id, INTERRUPT)
    events = await read(sdk, session_id, "session.status_idle", after=last)
    assert types(events) == ["user.interrupt", "session.error", "run.lost", "session.status_idle"]
    assert (await only_run(service, session_id))["status"] == "lost"

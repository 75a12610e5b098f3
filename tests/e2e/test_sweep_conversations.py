"""The sweep and conversations: a turn comes back to life by itself, a message is not lost with its sandbox."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from e2b import AsyncSandbox, SandboxState

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.acting import acting
from tests.e2e.conversing import bash, begin, converse, log, of, official, read, said, script, seq, texts, turn
from tests.e2e.faults import Fault, fault_proxy
from tests.e2e.sandboxes import is_gone, sandbox_of_session, until
from tests.e2e.sweeping import about, age, execute, executions, kill_runner, pass_deadline, runs_of, swept, types_of

IDLE_SECONDS = 300
SLOW = 'for i in 1 2 3 4 5 6 7 8; do echo "line $i"; sleep 1; done'


@pytest.fixture
async def sdk(owner: Person) -> AsyncIterator[AsyncAnthropic]:
    """The owner, with the official SDK."""
    async with official(owner) as client:
        yield client


def last_run(stack: Stack, owner: Person) -> dict[str, Any]:
    """The newest of the owner's runs."""
    return runs_of(stack, owner.id)[-1]


async def info(stack: Stack, sandbox_id: str) -> Any:
    """E2B's view of a sandbox."""
    return await AsyncSandbox.get_info(sandbox_id, api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url)


async def rests(stack: Stack, sandbox_id: str) -> bool | None:
    """True once its run's endpoint has left it to be paused."""
    left = (await info(stack, sandbox_id)).end_at - datetime.now(UTC)
    return left <= timedelta(seconds=IDLE_SECONDS) or None


async def test_a_turn_whose_runner_died_goes_on(stack: Stack, owner: Person, sdk: AsyncAnthropic) -> None:
    """Nobody says anything; the sweep starts the next epoch, which finds Claude where it was, and repeats nothing."""
    session_id = await begin(sdk, script(stack, bash(SLOW), said("Done.")))
    await read(sdk, session_id, "agent.tool_use")
    await kill_runner(await sandbox_of_session(stack, session_id))
    run = last_run(stack, owner)
    age(stack, run["id"])
    assert about(await swept(stack), run["id"]) == Counter(restarted=1)
    events = await read(sdk, session_id, "run.succeeded")
    assert texts(events)[-1] == "Done."
    assert [event.epoch for event in of(events, "run.resumed")] == [2]
    await log(sdk, session_id)


async def test_a_message_outlives_the_sandbox_of_its_run(stack: Stack, owner: Person, sdk: AsyncAnthropic) -> None:
    """The run had not taken it when its sandbox vanished: it is lost, and another answers, with nobody asking."""
    async with acting(stack, owner, script(stack, said("Here I am."))) as actor:
        execute(stack, "select public.record_sandbox_v1(%s, %s, 'base')", (actor.run["id"], f"gone-{actor.run['id']}"))
        age(stack, actor.run["id"])
        deeds = await swept(stack)
        assert about(deeds, actor.run["id"]) == Counter(lost=1)
        assert about(deeds, last_run(stack, owner)["id"]) == Counter(followed=1)
        events = await read(sdk, actor.session_id, "run.succeeded")
        assert texts(events) == ["Here I am."]
        assert [run["status"] for run in runs_of(stack, owner.id)] == ["lost", "succeeded"]
        assert about(await swept(stack), actor.session_id)["followed"] == 0


async def test_a_turn_that_is_gone_leaves_a_session_that_can_be_spoken_to(
    stack: Stack, owner: Person, sdk: AsyncAnthropic
) -> None:
    """What the run had taken is lost with it and the log says so; the next message is answered in a new sandbox."""
    session_id = await begin(sdk, script(stack, bash(SLOW), said("never said")))
    events = await read(sdk, session_id, "agent.tool_use")
    await (await sandbox_of_session(stack, session_id)).kill()
    run = last_run(stack, owner)
    age(stack, run["id"])
    deeds = await swept(stack, times=2)
    assert (about(deeds, run["id"])["lost"], about(deeds, session_id)["followed"]) == (1, 0)
    rest = await turn(sdk, session_id, after=seq(events[-1]))
    assert [event.error.code for event in of(rest, "session.error")] == ["sandbox_gone"]
    assert texts(await converse(sdk, session_id, script(stack, said("Still here.")))) == ["Still here."]


async def test_a_turn_past_its_deadline_leaves_its_sandbox_to_rest(
    stack: Stack, owner: Person, sdk: AsyncAnthropic
) -> None:
    """The run has timed out, its runner has heard of it and is gone, and the files are kept for the next message."""
    session_id = await begin(sdk, script(stack, bash("sleep 1000"), said("never said")))
    await read(sdk, session_id, "agent.tool_use")
    sandbox = await sandbox_of_session(stack, session_id)
    run = last_run(stack, owner)
    pass_deadline(stack, run["id"])
    assert about(await swept(stack), run["id"]) == Counter(timed_out=1)
    assert types_of(stack, session_id)[-2:] == ["run.timed_out", "session.status_idle"]
    assert executions(stack, run["id"]) == [(sandbox.sandbox_id, None)]

    async def is_over() -> bool | None:
        locked = f"flock -n .sandstream/{run['id']}/lock true && echo free || true"
        return (await sandbox.commands.run(locked)).stdout.strip() == "free" or None

    await until(is_over, "the runner to be gone")
    assert texts(await converse(sdk, session_id, script(stack, said("Next.")))) == ["Next."]


async def test_a_launch_that_was_cut_off_gives_its_new_sandbox_back(stack: Stack, owner: Person) -> None:
    """Nothing was ever started in it: the run has failed, the sandbox is killed, and the next turn makes another."""
    async with acting(stack, owner, "hello") as actor:
        made = await AsyncSandbox.create(
            template="base", timeout=600, api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url,
            sandbox_url=stack.e2b.url,
        )  # fmt: skip
        execute(stack, "select public.record_sandbox_v1(%s, %s, 'base')", (actor.run["id"], made.sandbox_id))
        age(stack, actor.run["id"], 60)
        assert about(await swept(stack), actor.run["id"]) == Counter()
        age(stack, actor.run["id"])
        assert about(await swept(stack), actor.run["id"], made.sandbox_id) == Counter(failed=1, killed=1)
        assert await is_gone(stack, made.sandbox_id)
        assert executions(stack, actor.run["id"]) == [(made.sandbox_id, "launch_failed")]


async def test_an_idle_sandbox_that_e2b_did_not_pause_is_paused(
    stack: Stack, owner: Person, sdk: AsyncAnthropic, service: httpx.AsyncClient
) -> None:
    """A pause that fails is tried again by the next sweep; a paused one is left alone; a message wakes it."""
    session_id = await begin(sdk, script(stack, said("One.")))
    await turn(sdk, session_id)
    sandbox = await sandbox_of_session(stack, session_id)
    age(stack, last_run(stack, owner)["id"])
    async with fault_proxy(stack.e2b.url, Fault("POST", "/pause", 500)) as proxy:
        assert about(await swept(stack, changes={"E2B_API_URL": proxy.url}), sandbox.sandbox_id) == Counter(skipped=1)
    assert (await info(stack, sandbox.sandbox_id)).state == SandboxState.RUNNING
    assert about(await swept(stack), sandbox.sandbox_id) == Counter(paused=1)
    assert (await info(stack, sandbox.sandbox_id)).state == SandboxState.PAUSED
    assert about(await swept(stack), sandbox.sandbox_id) == Counter()
    assert texts(await converse(sdk, session_id, script(stack, said("Two.")))) == ["Two."]


async def test_the_sandbox_of_an_archived_session_is_killed(stack: Stack, owner: Person, sdk: AsyncAnthropic) -> None:
    """Its endpoint died between the archive and the kill."""
    session_id = await begin(sdk, script(stack, said("One.")))
    await turn(sdk, session_id)
    sandbox = await sandbox_of_session(stack, session_id)
    await until(lambda: rests(stack, sandbox.sandbox_id), "the endpoint that lays it down")
    query = """
      update public.agent_sessions set status = 'terminated', archived_at = now() - interval '1 minute' where id = %s
    """
    execute(stack, query, (session_id,))
    assert about(await swept(stack), sandbox.sandbox_id) == Counter(killed=1)
    assert await is_gone(stack, sandbox.sandbox_id)
    assert executions(stack, last_run(stack, owner)["id"]) == [(sandbox.sandbox_id, "archived")]


async def test_a_ring_that_gets_no_answer_ends_nothing(stack: Stack, owner: Person, sdk: AsyncAnthropic) -> None:
    """A sandbox that is there but does not answer keeps its run; when it answers again the turn is still on."""
    session_id = await begin(sdk, script(stack, bash(SLOW), said("Done.")))
    await read(sdk, session_id, "agent.tool_use")
    run = last_run(stack, owner)
    async with fault_proxy(stack.e2b.url, Fault("POST", "/process.Process/Start", 500)) as proxy:

        async def has_tried() -> bool | None:
            age(stack, run["id"])  # again, when a heartbeat came before the sweep did
            return about(await swept(stack, changes={"E2B_SANDBOX_URL": proxy.url}), run["id"])["skipped"] == 1 or None

        await until(has_tried, "a sweep that finds it silent")
    events = await read(sdk, session_id, "run.succeeded")
    assert (texts(events)[-1], of(events, "run.resumed")) == ("Done.", [])

"""A plan of commands from one POST to its last event, each way that it can end."""

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from e2b import AsyncSandbox

from local.stack import Stack
from sandstream.client import Sandstream
from sandstream.errors import ConflictError
from sandstream.events import Event
from sandstream.wire import Command, Run
from tests.conftest import Person
from tests.e2e.faults import Fault, endpoints, fault_proxy
from tests.e2e.sandboxes import is_gone, row, sandbox_of, until


async def watched(client: Sandstream, run: Run, after: int = 0) -> list[Event]:
    """All events of the run's session until it is at rest."""
    return [event async for event in client.watch(run.session_id, after)]


def of_type(events: list[Event], type: str) -> list[Event]:
    return [event for event in events if event.type == type]


def text_of(events: list[Event], index: int, stream: str = "stdout") -> str:
    """What a command printed, put together from its pieces by their offsets."""
    pieces = [
        e.data for e in of_type(events, "command.output") if (e.data["index"], e.data["stream"]) == (index, stream)
    ]
    return "".join(piece["text"] for piece in sorted(pieces, key=lambda piece: piece["offset"]))


def assert_whole(events: list[Event]) -> None:
    """seq is 1..N and n is 1..M: no gap, no repeat."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    numbers = defaultdict(list)
    for event in events:
        if event.n is not None:
            numbers[event.run_id].append(event.n)
    for of_run in numbers.values():
        assert of_run == list(range(1, len(of_run) + 1))


async def test_a_plan_succeeds(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """Every command's start, output and end is in the log in order; the sandbox is killed at once afterwards."""
    run = await client.submit(["echo one; echo two >&2", "echo $((6*7)) > answer", "cat answer"])
    events = await watched(client, run)
    assert_whole(events)
    types = [event.type for event in events]
    assert types[0] == "run.created"
    assert types[-2:] == ["run.succeeded", "session.status_idle"]
    assert [e.data["index"] for e in of_type(events, "command.completed")] == [0, 1, 2]
    assert all(e.data["exit_code"] == 0 for e in of_type(events, "command.completed"))
    assert (text_of(events, 0), text_of(events, 0, "stderr"), text_of(events, 2)) == ("one\n", "two\n", "42\n")
    ended = await client.run(run.id)
    assert (ended.status, ended.result) == ("succeeded", {"commands": 3, "completed": 3, "failed": 0})
    sandbox_id = str((await row(service, run.id))["sandbox_id"])
    await until(lambda: is_gone(stack, sandbox_id), "the sandbox to be killed")
    closed = await until(lambda: closing(service, sandbox_id), "the sandbox's row to be closed")
    assert closed["end_reason"] == "succeeded"


async def closing(service: httpx.AsyncClient, sandbox_id: str) -> dict[str, object] | None:
    """The sandbox's row once it has an end."""
    answer = await service.get(
        "/sandbox_executions", params={"sandbox_id": f"eq.{sandbox_id}", "ended_at": "not.is.null"}
    )
    found: list[dict[str, object]] = answer.json()
    return found[0] if found else None


async def test_a_failing_command_ends_the_plan(client: Sandstream) -> None:
    """A command that is not retryable and fails is the plan's last; the run has failed."""
    run = await client.submit(["exit 7", "echo never"])
    events = await watched(client, run)
    assert_whole(events)
    assert [e.data["exit_code"] for e in of_type(events, "command.completed")] == [7]
    assert of_type(events, "run.failed")
    assert (await client.run(run.id)).status == "failed"


async def test_a_retryable_command_is_tried_three_times(client: Sandstream) -> None:
    """Failing for good, it is tried three times, and the plan goes on."""
    run = await client.submit([Command(command="echo try >> tries; exit 1", retryable=True), "wc -l < tries"])
    events = await watched(client, run)
    assert_whole(events)
    first, second = of_type(events, "command.completed")
    assert (first.data["attempts"], first.data["exit_code"]) == (3, 1)
    assert (second.data["attempts"], text_of(events, 1).strip()) == (1, "3")
    ended = await client.run(run.id)
    assert (ended.status, ended.result) == ("succeeded", {"commands": 2, "completed": 2, "failed": 1})


async def test_a_command_over_its_limit_is_ended(client: Sandstream) -> None:
    """A command's timeout ends it and says so; the plan ends as with any failure."""
    run = await client.submit([Command(command="sleep 300", timeout=1), "echo never"])
    events = await watched(client, run)
    assert_whole(events)
    (completed,) = of_type(events, "command.completed")
    assert completed.data["timed_out"] is True
    assert (await client.run(run.id)).status == "failed"


async def test_a_run_over_its_limit_is_timed_out(client: Sandstream) -> None:
    """The run's own limit ends whatever is going on."""
    run = await client.submit([Command(command="sleep 300", timeout=300)], timeout=2)
    events = await watched(client, run)
    assert_whole(events)
    assert of_type(events, "run.timed_out")
    assert (await client.run(run.id)).status == "timed_out"


STUBBORN = """
trap '' TERM INT
stay='import signal, sys, time; signal.signal(15, signal.SIG_IGN); print(sys.argv[1], flush=True); time.sleep(300)'
python3 -c "$stay" child &
setsid python3 -c "$stay" escaped &
echo ready
while true; do sleep 0.2; done
"""


async def test_cancel_ends_what_does_not_want_to_end(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient, tmp_path: Path
) -> None:
    """A command that ignores SIGTERM, with a child and one that left its process group: none survives a cancel."""
    kept = Fault("DELETE", "/sandboxes/", 500)
    async with AsyncExitStack() as opened:
        # The sandbox outlives its run here, so that there is something to look into.
        proxy = await opened.enter_async_context(fault_proxy(stack.e2b.url, kept))
        http = await opened.enter_async_context(endpoints(stack, owner, tmp_path, E2B_API_URL=proxy.url))
        submitted = await http.post("/v1/runs", json={"commands": [{"command": STUBBORN}]})
        run = await client.run(submitted.json()["id"])
        sandbox = await sandbox_of(stack, service, run.id)
        await printed(client, run, "child", "escaped", "ready")
        assert len(await sleepers(sandbox)) == 2
        assert (await client.cancel(run.id)).cancel_requested_at is not None
        events = await watched(client, run)
        assert await sleepers(sandbox) == []
    assert_whole(events)
    assert (await client.run(run.id)).status == "cancelled"
    with pytest.raises(ConflictError):
        await client.cancel(run.id)
    await sandbox.kill()


async def printed(client: Sandstream, run: Run, *words: str) -> None:
    """Returns once the run has printed all these words."""
    output = ""
    async with aclosing(client.watch(run.session_id)) as events:
        async for event in events:
            output += event.data.get("text", "")
            if all(word in output for word in words):
                return
    raise AssertionError(f"the run ended before it printed {words}: {output}")


async def sleepers(sandbox: AsyncSandbox) -> list[str]:
    """What of STUBBORN's children runs in the sandbox."""
    listed = await sandbox.commands.run("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null")
    return [line for line in listed.stdout.splitlines() if line.startswith("python3 -c") and "time.sleep(300)" in line]


async def test_a_session_takes_one_run_after_another(client: Sandstream) -> None:
    """Two runs of one session share its log; the numbering goes on; two at once are refused."""
    first = await client.submit(["sleep 2; echo first"])
    with pytest.raises(ConflictError) as busy:
        await client.submit(["echo too early"], session_id=first.session_id)
    assert busy.value.type == "session_busy"
    events = await watched(client, first)
    second = await client.submit(["echo second"], session_id=first.session_id)
    assert second.session_id == first.session_id
    events += await watched(client, second, after=events[-1].seq)
    assert_whole(events)
    assert [e.run_id for e in of_type(events, "run.succeeded")] == [first.id, second.id]


async def test_long_output_is_cut_and_said_to_be(client: Sandstream) -> None:
    """Past 1 MiB a command's output stays in its file: the log has the first part, and says that it is not all."""
    run = await client.submit(["head -c 3000000 /dev/zero | tr '\\0' x", "echo after"])
    events = await watched(client, run)
    assert_whole(events)
    first = of_type(events, "command.completed")[0].data
    assert first["truncated"] is True
    assert first["bytes"]["stdout"] == 3_000_000
    assert 0 < len(text_of(events, 0)) <= 1_048_576
    assert text_of(events, 1) == "after\n"


async def test_bytes_that_are_no_text_do_not_break_the_log(client: Sandstream) -> None:
    """NUL and invalid UTF-8 are replaced and counted, and everything around them arrives."""
    run = await client.submit([r"printf 'a\000b\377c\303\251d'"])
    events = await watched(client, run)
    assert text_of(events, 0) == "a\ufffdb\ufffdc\u00e9d"
    assert sum(e.data.get("invalid_bytes", 0) for e in of_type(events, "command.output")) >= 1
    assert (await client.run(run.id)).status == "succeeded"


async def test_ten_runs_side_by_side(client: Sandstream) -> None:
    """Runs of different sessions do not disturb each other."""

    async def one(number: int) -> tuple[UUID, str]:
        run = await client.submit([f"echo I am {number}"])
        events = await watched(client, run)
        assert_whole(events)
        return run.session_id, text_of(events, 0)

    found = await asyncio.gather(*(one(number) for number in range(10)))
    assert sorted(text for _, text in found) == sorted(f"I am {number}\n" for number in range(10))
    assert len({session for session, _ in found}) == 10

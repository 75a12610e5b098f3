"""Killed in the middle: the runner ten times, Postgres three times. Nothing is lost, nothing comes twice."""

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
from e2b import AsyncSandbox

from functions.bundle import START
from functions.job import folder
from local.stack import Stack
from sandbox_scripts.template import BAKED
from sandstream.client import Sandstream
from sandstream.events import Event
from sandstream.wire import Run
from tests.e2e.sandboxes import sandbox_of, until
from tests.e2e.test_runs import assert_whole, of_type, text_of

RUNNER_KILLS = 10
POSTGRES_KILLS = 3
# Prints until it is told to stop, so that the run outlives every kill whatever the machine's load.
COUNTING = 'i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo "line $i"; sleep 0.02; done; echo "total $i"'

KILL = r"""
for p in /proc/[0-9]*; do
  case "$(tr '\0' ' ' < $p/cmdline 2>/dev/null)" in "python3 -I "*runner-*) kill -9 "${p#/proc/}" && echo killed;; esac
done
true
"""
RUNNER = f"python3 {shlex.join(START)} {BAKED}/runner-*.pyz"
AGAIN = f"cd {{folder}} && setsid --fork {RUNNER} {{folder}}/job.json >>runner.log 2>&1 </dev/null"


class Watched:
    """A watch in the background, and what it has seen so far."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def follow(self, client: Sandstream, session_id: UUID) -> None:
        async for event in client.watch(session_id):
            self.events.append(event)

    async def more(self, why: str) -> None:
        """Returns when output has arrived that was not there before."""
        before = self.outputs()

        async def grown() -> bool | None:
            return self.outputs() > before or None

        await until(grown, why)

    def outputs(self) -> int:
        return len(of_type(self.events, "command.output"))


@asynccontextmanager
async def counting(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> AsyncIterator[tuple[Run, Watched]]:
    """A run that counts, watched; told to stop and read to its end on the way out."""
    run = await client.submit([COUNTING, "echo after"])
    sandbox = await sandbox_of(stack, service, run.id)
    watched = Watched()
    async with asyncio.timeout(150), asyncio.TaskGroup() as tasks:
        tasks.create_task(watched.follow(client, run.session_id))
        await watched.more("the first output")
        yield run, watched
        await sandbox.files.write("/tmp/stop", "")  # noqa: S108 inside the sandbox


def assert_counted(events: list[Event]) -> None:
    """The log is whole, and the output in it is every line, once."""
    assert_whole(events)
    lines = text_of(events, 0).splitlines()
    total = int(lines[-1].removeprefix("total "))
    assert lines[:-1] == [f"line {number}" for number in range(1, total + 1)]
    assert text_of(events, 1) == "after\n"
    assert [event.data["exit_code"] for event in of_type(events, "command.completed")] == [0, 0]
    assert len(of_type(events, "run.succeeded")) == 1


async def restart(sandbox: AsyncSandbox, run: Run) -> None:
    """SIGKILL for the runner, and the same job again, as a sweep would start it."""
    killed = await sandbox.commands.run(KILL)
    assert killed.stdout.strip() == "killed"
    await sandbox.commands.run(AGAIN.format(folder=folder(str(run.id))))


async def test_a_runner_killed_ten_times(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """Each new runner goes on from the spool and the command's own output; the command itself never notices."""
    async with counting(stack, client, service) as (run, watched):
        sandbox = await sandbox_of(stack, service, run.id)
        for _ in range(RUNNER_KILLS):
            await restart(sandbox, run)
            await watched.more("output after a restart")
    assert_counted(watched.events)
    assert len(of_type(watched.events, "run.resumed")) == RUNNER_KILLS
    assert len(of_type(watched.events, "command.started")) == 2


async def test_postgres_killed_three_times(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """The runner spools while the database is away and ships when it is back; so does the watcher read."""
    async with counting(stack, client, service) as (_, watched):
        for _ in range(POSTGRES_KILLS):
            stack.postgres.kill()
            stack.postgres.start()
            await watched.more("output after a crash of Postgres")
    assert_counted(watched.events)

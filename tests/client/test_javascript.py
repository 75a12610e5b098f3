"""The reference watcher for JavaScript (tests/node/watch.mjs) with the unmodified supabase-js, under faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client.fault_proxy import FaultProxy, Faults
from tests.client.watching import eventually, one_to
from tests.client.world import PUBLISHABLE_KEY, Person, World

NODE = Path(__file__).parents[1] / "node"
CUTS = 100
EVENTS = 1000

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and (NODE / "node_modules").exists()), reason="needs Node and tests/node installed"
)


@contextlib.asynccontextmanager
async def node(person: Person, url: str, session_id: str, after: int = 0) -> AsyncIterator[Process]:
    """The watcher in a process of its own."""
    environment = {
        "SUPABASE_URL": url,
        "SUPABASE_KEY": PUBLISHABLE_KEY,
        "SUPABASE_TOKEN": person.token,
        "RECONNECT_MS": "20",
    }
    process = await asyncio.create_subprocess_exec(
        "node",
        "watch_cli.mjs",
        session_id,
        str(after),
        cwd=NODE,
        env=os.environ | environment,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def seqs_of(process: Process) -> list[int]:
    """What it printed by its end. Raises AssertionError with its complaint when it failed."""
    async with asyncio.timeout(60):
        out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return [int(line) for line in out.split()]


async def test_supabase_js_under_a_hundred_cuts(world: World) -> None:
    """Exactly 1..N, in order, through a proxy that cuts, loses and doubles."""
    person = await world.person()
    run = await person.admit()
    async with (
        FaultProxy(world.supabase.port, Faults(lose=1 / 3, double=1 / 5, cuts=CUTS), seed=3) as proxy,
        node(person, proxy.url, run.session_id) as process,
    ):
        while proxy.cut < CUTS or run.n < EVENTS:
            await run.append(1 + run.n % 7)
            await eventually(lambda: proxy.connected > 0)
        last = await run.finish()
        assert await seqs_of(process) == one_to(last)
        assert min(proxy.lost, proxy.doubled, proxy.passed) > 0


async def test_supabase_js_reads_a_finished_session(world: World) -> None:
    """The watcher ends by itself, wherever it began."""
    person = await world.person()
    run = await person.admit()
    await run.append(1200)
    last = await run.finish()
    for after in (0, 700, last):
        async with node(person, world.supabase.url, run.session_id, after) as process:
            assert await seqs_of(process) == one_to(last, after)


async def test_supabase_js_follows_a_session_with_a_watch_token(world: World) -> None:
    """A browser that was given one session reads it live, to its end, and finds no other."""
    person = await world.person()
    run, other = await person.admit(), await person.admit()
    watcher = replace(person, token=person.watch_token(run.session_id))
    async with node(watcher, world.supabase.url, run.session_id) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"1\n"
        last = await run.append(3)
        assert [int(await process.stdout.readline()) for _ in range(3)] == one_to(last, 1)
        last = await run.finish()
        assert await seqs_of(process) == one_to(last, last - 2)
    async with node(watcher, world.supabase.url, other.session_id) as process:
        with pytest.raises(AssertionError, match="there is no session"):
            await seqs_of(process)


async def test_supabase_js_is_told_that_a_strangers_session_is_not_there(world: World) -> None:
    """RLS decides here too."""
    owner, stranger = await world.person(), await world.person()
    run = await owner.admit()
    async with node(stranger, world.supabase.url, run.session_id) as process:
        with pytest.raises(AssertionError, match="there is no session"):
            await seqs_of(process)

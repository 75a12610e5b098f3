"""The watch when things go wrong: connections torn, doorbells lost, tokens that end, a Supabase that dies."""

from __future__ import annotations

import asyncio
import logging

import psutil
import pytest

from sandstream.access import SupabaseAccess
from sandstream.errors import UnavailableError
from sandstream.watch import watch
from tests.client.fault_proxy import FaultProxy, Faults
from tests.client.watching import NO_POLLS, QUICK, eventually, one_to, watching
from tests.client.world import PUBLISHABLE_KEY, World

CUTS = 100
EVENTS = 1000
QUIET = ("realtime", "sandstream", "websockets")


@pytest.mark.parametrize("seed", [1])
async def test_a_hundred_cuts_and_a_third_of_the_doorbells_lost(
    world: World, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Exactly 1..N comes out, in order, and nothing is said of it to anybody's logs."""
    person = await world.person()
    run = await person.admit()
    faults = Faults(lose=1 / 3, double=1 / 5, cuts=CUTS)
    async with FaultProxy(world.supabase.port, faults, seed) as proxy:
        with caplog.at_level(logging.INFO):
            async with watching(watch(person.access(proxy.url), run.session_id, settings=QUICK)) as seen:
                while proxy.cut < CUTS or run.n < EVENTS:
                    await run.append(1 + run.n % 7)
                    await eventually(lambda: proxy.connected > 0)
                last = await run.finish()
                assert await seen.end() == one_to(last)
    assert last > EVENTS
    assert proxy.cut == CUTS
    assert min(proxy.lost, proxy.doubled, proxy.passed) > 0
    assert [record for record in caplog.records if record.name.startswith(QUIET)] == []


async def test_tokens_are_renewed_before_they_end(world: World, proxy: FaultProxy) -> None:
    """A watch outlives its tokens; its subscription stays, and no request is refused."""
    person = await world.person()
    run = await person.admit()
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        return person.short_token(5)

    access = SupabaseAccess(proxy.url, PUBLISHABLE_KEY, token)
    async with watching(watch(access, run.session_id, settings=NO_POLLS)) as seen:
        while asked < 3:
            await seen.until(await run.append())
            await asyncio.sleep(0.1)
        assert proxy.opened == 1
        assert seen.seqs == one_to(run.last_seq)


async def test_a_token_refused_before_its_time_is_asked_for_again(world: World) -> None:
    """A token may be revoked, or our clock be wrong: a refusal is an occasion to ask the source once more."""
    person = await world.person()
    run = await person.admit()
    await run.append(3)
    last = await run.finish()
    tokens = [person.token[:-8] + "AAAAAAAA", person.token]

    async def token() -> str:
        return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    access = SupabaseAccess(world.supabase.url, PUBLISHABLE_KEY, token)
    assert [event.seq async for event in watch(access, run.session_id)] == one_to(last)


async def test_a_source_of_tokens_may_be_away_for_a_while(world: World) -> None:
    """The watch waits for Auth as it does for the rest of Supabase."""
    person = await world.person()
    run = await person.admit()
    last = await run.finish()
    failures = [UnavailableError("away")] * 3

    async def token() -> str:
        if failures:
            raise failures.pop()
        return person.token

    access = SupabaseAccess(world.supabase.url, PUBLISHABLE_KEY, token)
    assert [event.seq async for event in watch(access, run.session_id, settings=QUICK)] == one_to(last)


async def test_supabase_may_die_and_come_back(world: World) -> None:
    """The watch goes on where it was, with what was appended before and after."""
    person = await world.person()
    run = await person.admit()
    async with watching(watch(person.access(), run.session_id, settings=QUICK)) as seen:
        for _ in range(3):
            await seen.until(await run.append(3))
            world.supabase.kill()
            world.supabase.start()
        last = await run.finish()
        assert await seen.end() == one_to(last)


async def test_a_supabase_that_hangs_does_not_stop_the_watch_from_being_closed(world: World, proxy: FaultProxy) -> None:
    """Closing needs no answer from anybody."""
    proxy.faults.mute = True
    person = await world.person()
    run = await person.admit()
    await run.append()
    before = asyncio.all_tasks()
    events = watch(person.access(proxy.url), run.session_id)
    await anext(events)
    await eventually(lambda: proxy.connected == 1)
    await events.aclose()
    assert {task for task in asyncio.all_tasks() - before if "fault_proxy" not in repr(task)} == set()


async def test_a_deadline_ends_a_watch_of_a_supabase_that_stays_away(world: World, proxy: FaultProxy) -> None:
    """Without one it would wait for ever."""
    person = await world.person()
    run = await person.admit()
    proxy.faults.refuse = True
    with pytest.raises(UnavailableError):
        await anext(watch(person.access(proxy.url), run.session_id, deadline=0.5, settings=QUICK))


@pytest.mark.parametrize("how", ["close", "cancel", "raise"])
async def test_a_watch_that_is_left_early_leaves_nothing(world: World, how: str) -> None:
    """No task, no socket: whether it is closed, cancelled, or its reader raises."""
    person = await world.person()
    run = await person.admit()
    await run.append(20)
    tasks, sockets = asyncio.all_tasks(), _sockets()
    if how == "close":
        events = watch(person.access(), run.session_id)
        for _ in range(5):
            await anext(events)
        await events.aclose()
    else:
        async with watching(watch(person.access(), run.session_id, settings=QUICK)) as seen:
            await seen.until(await run.append())
            if how == "raise":
                seen.fail = True
                await run.append()
                with pytest.raises(LookupError):
                    await seen.end()
    assert asyncio.all_tasks() - tasks == set()
    await eventually(lambda: _sockets() <= sockets)


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.003, 0.01, 0.02, 0.05])
async def test_a_watch_may_be_cancelled_at_any_moment(world: World, moment: float) -> None:
    """Also while it connects, joins, or reads for the first time."""
    person = await world.person()
    run = await person.admit()
    tasks, sockets = asyncio.all_tasks(), _sockets()
    async with watching(watch(person.access(), run.session_id, settings=QUICK)):
        await asyncio.sleep(moment)
    assert asyncio.all_tasks() - tasks == set()
    await eventually(lambda: _sockets() <= sockets)


def _sockets() -> int:
    """How many connections this process has open."""
    return len([c for c in psutil.Process().net_connections(kind="tcp") if c.status == psutil.CONN_ESTABLISHED])

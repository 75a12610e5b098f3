"""The watch against the local Supabase: where events come from, when it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import httpx
import pytest

from sandstream.cursor import Bell
from sandstream.doorbell import _parse
from sandstream.errors import NotAuthenticatedError, NotFoundError
from sandstream.events import Event
from sandstream.log import http_client
from sandstream.watch import BELLS_KEPT, watch
from tests.client.fault_proxy import FaultProxy
from tests.client.watching import NO_POLLS, QUICK, eventually, one_to, watching
from tests.client.world import Person, World


async def collect(person: Person, session_id: str, after: int = 0) -> list[Event]:
    """All events of a watch that ends by itself."""
    async with asyncio.timeout(60):
        return [event async for event in watch(person.access(), session_id, after)]


async def test_a_finished_session_is_read_and_the_watch_ends(world: World) -> None:
    """Nothing is waited for when nothing can come."""
    person = await world.person()
    run = await person.admit()
    await run.append(1700)
    last = await run.finish()
    events = await collect(person, run.session_id)
    assert [event.seq for event in events] == one_to(last)
    assert [event.type for event in events[-2:]] == ["run.succeeded", "session.status_idle"]
    assert [event.n for event in events if event.n] == one_to(1700)
    assert {str(event.run_id) for event in events} == {run.run_id}


@pytest.mark.parametrize("after", [1, 7, 13, 500])
async def test_a_watch_begins_after_a_given_seq(world: World, after: int) -> None:
    """Also at the very end of the log, and beyond it."""
    person = await world.person()
    run = await person.admit()
    await run.append(10)
    last = await run.finish()
    assert [event.seq for event in await collect(person, run.session_id, after)] == one_to(last, after)


async def test_the_table_is_handed_on_before_any_subscription(world: World, proxy: FaultProxy) -> None:
    """A Realtime that never answers delays nothing that the table holds."""
    proxy.faults.mute = True
    person = await world.person()
    run = await person.admit()
    last = await run.append(5)
    async with watching(watch(person.access(proxy.url), run.session_id, settings=NO_POLLS)) as seen:
        await seen.until(last)
        assert seen.seqs == one_to(last)


async def test_broadcasts_are_handed_on_without_reading_the_table(world: World, proxy: FaultProxy) -> None:
    """While broadcasts continue the log, each event costs no request."""
    person = await world.person()
    run = await person.admit()
    requests: list[httpx.Request] = []
    answered: list[str] = []

    async def count(request: httpx.Request) -> None:
        requests.append(request)

    async def note(response: httpx.Response) -> None:
        answered.append(response.request.url.path.rpartition("/")[2])

    async with http_client(proxy.url) as http:
        http.event_hooks["request"].append(count)
        http.event_hooks["response"].append(note)
        access = replace(person.access(proxy.url), http=http)
        async with watching(watch(access, run.session_id, settings=NO_POLLS)) as seen:
            await seen.until(await run.append())
            # What every watch reads: the table when it begins and when it has joined, and the session's state.
            await eventually(lambda: answered.count("agent_events") > 1 and "agent_sessions" in answered)
            while proxy.passed == 0:
                await seen.until(await run.append())
            before = len(requests)
            for _ in range(20):
                await seen.until(await run.append(3))
            assert seen.seqs == one_to(run.last_seq)
            assert len(requests) == before


async def test_a_batch_too_large_to_broadcast_is_read_from_the_table(world: World) -> None:
    """Past 200 KB a broadcast carries only its range."""
    person = await world.person()
    run = await person.admit()
    async with watching(watch(person.access(), run.session_id, settings=NO_POLLS)) as seen:
        await seen.until(await run.append())
        await seen.until(await run.append(5, size=60_000))
        await seen.until(await run.append())
        assert seen.seqs == one_to(run.last_seq)


async def test_the_last_broadcast_may_be_lost(world: World, proxy: FaultProxy) -> None:
    """No later broadcast shows the gap, so a poll finds what was missed, and the end."""
    proxy.faults.lose = 1.0
    person = await world.person()
    run = await person.admit()
    async with watching(watch(person.access(proxy.url), run.session_id, settings=QUICK)) as seen:
        for _ in range(4):
            await seen.until(await run.append(3))
        last = await run.finish()
        assert await seen.end() == one_to(last)
        assert proxy.lost >= 1


async def test_a_watch_ends_with_the_run_it_watches(world: World) -> None:
    """The final event comes by broadcast, and the watch ends with it, without a poll."""
    person = await world.person()
    run = await person.admit()
    async with watching(watch(person.access(), run.session_id, settings=NO_POLLS)) as seen:
        await seen.until(await run.append(3))
        last = await run.finish()
        assert await seen.end() == one_to(last)


async def test_following_goes_on_with_the_next_run(world: World) -> None:
    """A session that is at rest may be watched for what comes next."""
    person = await world.person()
    run = await person.admit()
    async with watching(watch(person.access(), run.session_id, follow=True, settings=NO_POLLS)) as seen:
        await run.append(3)
        await seen.until(await run.finish())
        another = await person.admit(run.session_id)
        await another.append(2)
        await seen.until(await another.finish("failed"))
        assert seen.seqs == one_to(another.last_seq)


async def test_an_old_state_does_not_end_a_watch_that_has_gone_on(world: World, proxy: FaultProxy) -> None:
    """A session that was idle when its state was read may be in its next run by the time the answer comes."""
    person = await world.person()
    first = await person.admit()
    rest = await first.finish()
    runs = [first]

    async def hold_back(response: httpx.Response) -> None:
        if "agent_sessions" in response.request.url.path and len(runs) == 1:
            await eventually(lambda: proxy.joined > 0)
            runs.append(await person.admit(first.session_id))
            await seen.until(await runs[1].append(2))

    async with http_client(proxy.url) as http:
        http.event_hooks["response"].append(hold_back)
        access = replace(person.access(proxy.url), http=http)
        async with watching(watch(access, first.session_id, rest, settings=NO_POLLS)) as seen:
            await eventually(lambda: len(runs) == 2 and runs[1].last_seq > 0)
            await seen.until(await runs[1].append())
            last = await runs[1].finish()
            assert await seen.end() == one_to(last, rest)


async def test_a_slow_reader_gets_every_event(world: World) -> None:
    """Broadcasts beyond what is kept are let go, and read from the table when the reader is ready for them."""
    person = await world.person()
    run = await person.admit()
    events = watch(person.access(), run.session_id, settings=NO_POLLS)
    seqs = [(await anext(events)).seq]
    for _ in range(BELLS_KEPT + 100):
        await run.append()
    last = await run.finish()
    seqs += [event.seq async for event in events]
    assert seqs == one_to(last)


async def test_another_tenants_session_is_not_found(world: World) -> None:
    """A stranger learns at once that there is no such session, and never an event of it."""
    owner, stranger = await world.person(), await world.person()
    run = await owner.admit()
    await run.append(3)
    with pytest.raises(NotFoundError):
        await collect(stranger, run.session_id)
    with pytest.raises(NotFoundError):
        await collect(owner, str(uuid.uuid4()))


async def test_a_token_that_does_not_hold_ends_the_watch(world: World) -> None:
    """A forged token, and an expired one whose source has no newer, are refusals, not something to wait out."""
    person = await world.person()
    run = await person.admit()
    for bad in (person.token[:-8] + "AAAAAAAA", person.short_token(-10)):
        person.token = bad
        with pytest.raises(NotAuthenticatedError):
            await collect(person, run.session_id)


def test_a_broadcast_that_makes_no_sense_is_not_one() -> None:
    """Whoever can broadcast on the topic can at most cause a read."""
    assert _parse({"event": "events", "payload": {"first_seq": "x"}}) is None
    assert _parse({"event": "events"}) is None
    whole = {"session_id": str(uuid.uuid4()), "first_seq": 1, "last_seq": 2, "id": "added by Realtime"}
    assert isinstance(_parse({"event": "events", "payload": whole}), Bell)

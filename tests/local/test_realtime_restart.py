"""Postgres is killed and comes back: nobody reconnects by hand, and nothing stays dead or behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from realtime.types import RealtimePostgresChangesListenEvent as Event

from local.supabase.realtime_broadcast import PUBLICATION
from local.supabase.realtime_pgoutput import Transaction
from local.supabase.realtime_replication import Follower
from tests.local.realtime_world import DEADLINE_SECONDS, World, listen, new_user, open_world, until


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("realtime")) as opened:
        yield opened


async def test_every_channel_survives_a_killed_postgres(world: World) -> None:
    """After each of three kills the same channel hears broadcasts and changes again, and new joins are authorised."""
    user = new_user()
    topic = f"user:{user}"
    async with world.client(world.token(user)) as client:
        ear = listen(client, topic)
        heard = ear.heard.put_nowait
        ear.channel.on_postgres_changes(Event.Insert, heard, table="notes", schema="public")
        assert await ear.subscribe() == "SUBSCRIBED"
        await until(lambda: world.realtime.changes._connected.is_set())
        for n in range(3):
            await asyncio.to_thread(world.postgres.kill)
            await until(lambda: not world.realtime.broadcasts.connected.is_set())
            await until(lambda: not world.realtime.changes._connected.is_set())
            await asyncio.to_thread(world.postgres.start)
            for stream in (world.realtime.broadcasts.connected, world.realtime.changes._connected):
                await asyncio.wait_for(stream.wait(), DEADLINE_SECONDS)
            await world.send(topic, {"n": n})
            assert (await ear.next())["payload"]["n"] == n
            await world.sql("insert into public.notes (owner, stars) values (%s, %s)", user, n)
            assert (await ear.next())["data"]["record"]["stars"] == n
            async with world.client(world.token(user)) as another:
                assert await listen(another, topic).subscribe() == "SUBSCRIBED"


async def test_joining_while_postgres_is_away_is_refused_and_tried_again(world: World) -> None:
    """A private join is answered with the reason, and the SDK's next attempt succeeds once Postgres is back."""
    user = new_user()
    await asyncio.to_thread(world.postgres.kill)
    async with world.client(world.token(user)) as client:
        ear = listen(client, f"user:{user}")
        await ear.channel.subscribe(ear.on_state)
        state, error = await ear.state()
        assert state == "CHANNEL_ERROR"
        assert "UnableToConnectToProject" in error
        await asyncio.to_thread(world.postgres.start)
        while (await ear.state())[0] != "SUBSCRIBED":
            pass


async def test_no_slot_outlives_its_stream(world: World) -> None:
    """Slots are temporary: after a stop of the server none is left to hold WAL back."""
    await asyncio.to_thread(world.postgres.restart)
    await asyncio.wait_for(world.realtime.broadcasts.connected.wait(), DEADLINE_SECONDS)
    async with await psycopg.AsyncConnection.connect(world.postgres.dsn()) as connection:
        slots = await (await connection.execute("select temporary, active from pg_replication_slots")).fetchall()
    assert slots == [(True, True)]


async def test_the_slot_follows_the_log(world: World) -> None:
    """What has been received is confirmed, so that the server can recycle its WAL."""
    await asyncio.wait_for(world.realtime.broadcasts.connected.wait(), DEADLINE_SECONDS)
    query = "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots"
    async with await psycopg.AsyncConnection.connect(world.postgres.dsn(), autocommit=True) as connection:
        await connection.execute("create table filler as select generate_series(1, 10000) as n")
        row = await (await connection.execute("select pg_current_wal_lsn()::text")).fetchone()
        assert row is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await (await connection.execute(query, row)).fetchone()) != (True,):
                await connection.execute("select pg_sleep(0.1)")


async def test_a_transaction_that_cannot_be_handled_is_skipped(world: World) -> None:
    """A failure in handling ends neither the stream nor the process: what comes later is delivered."""
    handled: asyncio.Queue[int] = asyncio.Queue()

    async def fail_once(transaction: Transaction) -> None:
        handled.put_nowait(len(transaction.changes))
        if handled.qsize() == 1:
            raise ValueError("poison")

    follower = Follower(world.postgres.dsn(), PUBLICATION, fail_once)
    following = asyncio.create_task(follower.run())
    try:
        await asyncio.wait_for(follower.connected.wait(), DEADLINE_SECONDS)
        await world.send("anywhere", {})
        await until(lambda: handled.qsize() == 1)
        await until(lambda: not follower.connected.is_set())
        await asyncio.wait_for(follower.connected.wait(), DEADLINE_SECONDS)
        await world.send("anywhere", {})
        await until(lambda: handled.qsize() == 2)
    finally:
        following.cancel()
        await asyncio.wait({following})

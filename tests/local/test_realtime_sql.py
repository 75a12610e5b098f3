"""The schema `realtime`: broadcasting from SQL as hosted Supabase does it, and what is kept from whom."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.database import BOOTSTRAP
from local.supabase.realtime_broadcast import prune
from tests.local.realtime_world import DEADLINE_SECONDS, World, listen, new_user, open_world

TRIGGER = """
create table if not exists public.moves (id int primary key, place text);
create or replace function public.tell_moves() returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.broadcast_changes(tg_argv[0], tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end
$$;
"""


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("realtime")) as opened:
        yield opened


async def rows(world: World, query: str, role: str = "supabase_admin", *arguments: Any) -> list[tuple[Any, ...]]:
    """What a query gives a role."""
    async with await psycopg.AsyncConnection.connect(world.postgres.dsn("supabase_admin")) as connection:
        await connection.execute(f"set role {role}".encode())
        return await (await connection.execute(query.encode(), arguments)).fetchall()


async def test_the_bootstrap_file_bears_repeating(world: World) -> None:
    """A changed file runs again over a database that has it, and loses no policy of a migration."""
    count = "select count(*) from pg_policies where schemaname = 'realtime'"
    before = await rows(world, count)
    text = (Path(BOOTSTRAP) / "30_realtime.sql").read_text()
    async with await psycopg.AsyncConnection.connect(world.postgres.dsn()) as connection:
        await connection.execute(text.encode())
    assert await rows(world, count) == before
    assert before[0][0] > 0


async def test_what_cannot_be_sent_does_not_fail_the_statement(world: World) -> None:
    """realtime.send turns its failure into a warning: the caller's own work is committed."""
    await world.sql("create table if not exists public.work (id int)")
    await world.sql("with sent as (select realtime.send('[1]', 'e', null)) insert into public.work select 1 from sent")
    assert await rows(world, "select count(*) from public.work") == [(1,)]


async def test_send_keeps_the_id_of_its_payload(world: World) -> None:
    """A payload with an `id` is left as it is; another gets the message's own."""
    await world.send("ids", {"id": "mine"})
    await world.send("ids", {"a": 1})
    query = "select payload ->> 'id' = id::text, payload ->> 'id' from realtime.messages where topic = 'ids'"
    found = await rows(world, f"{query} order by inserted_at")
    assert [row[0] for row in found] == [False, True]
    assert found[0][1] == "mine"


async def test_row_changes_are_broadcast_by_a_trigger(world: World) -> None:
    """broadcast_changes tells a row's old and new values to the topic that the trigger names."""
    user = new_user()
    trigger = "create trigger tell after insert or update or delete on public.moves for each row"
    await world.sql(TRIGGER)
    await world.sql(f"{trigger} execute function public.tell_moves('user:{user}')")
    async with world.client(world.token(user)) as client:
        ear = listen(client, f"user:{user}")
        await ear.subscribe()
        await world.sql("insert into public.moves values (1, 'here')")
        await world.sql("update public.moves set place = 'there'")
        await world.sql("delete from public.moves")
        heard = [(await ear.next())["payload"] for _ in range(3)]
    here, there = {"id": 1, "place": "here"}, {"id": 1, "place": "there"}
    told = [(change["operation"], change["record"], change["old_record"]) for change in heard]
    assert told == [("INSERT", here, None), ("UPDATE", there, here), ("DELETE", None, there)]
    assert (heard[0]["schema"], heard[0]["table"]) == ("public", "moves")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_the_messages_themselves_are_closed(world: World, role: str) -> None:
    """Without a policy that names them, nobody reads or writes messages; the probe is the server's alone."""
    await world.send("closed", {"n": 1})
    assert await rows(world, "select * from realtime.messages where topic = 'closed'", role) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await rows(
            world, "insert into realtime.messages (topic, extension) values ('closed', 'broadcast') returning id", role
        )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await rows(world, "select supabase_local.realtime_policies('closed', 'postgres', '{}', '{}')", role)


async def test_probing_leaves_nothing_behind(world: World) -> None:
    """Asking the policies writes rows, and takes them back."""
    async with world.client(world.token(new_user())) as client:
        assert await listen(client, "hall").subscribe() == "SUBSCRIBED"
    assert await rows(world, "select * from realtime.messages where topic = 'hall'") == []


async def test_old_messages_are_pruned(world: World) -> None:
    """What is older than three days goes, what is younger stays."""
    columns = "realtime.messages (topic, extension, inserted_at)"
    insert = f"insert into {columns} values ('prune', 'broadcast', now() - %s::interval)"
    for age in ("4 days", "2 days"):
        await world.sql(insert, age)
    pruning = asyncio.create_task(prune(world.realtime.pool))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(await rows(world, "select from realtime.messages where topic = 'prune'")) != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        pruning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pruning

"""postgres_changes through the unmodified Python SDK: whose rows, which columns, which filters, in which shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from realtime.types import RealtimePostgresChangesListenEvent as Event

from local.supabase.realtime_rows import is_visible, until_visible
from supabase import AsyncClient
from tests.local.realtime_world import DEADLINE_SECONDS, World, listen, new_user, open_world, until

INSERT = "insert into public.notes (owner, body) values (%s, %s)"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("realtime")) as opened:
        yield opened


class Watch:
    """A channel that watches tables, and the changes it heard."""

    def __init__(self, client: AsyncClient, name: str = "changes") -> None:
        self.changes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.system: asyncio.Queue[Any] = asyncio.Queue()
        self.ear = listen(client, name, private=False)
        self.ear.channel.on_system(self.system.put_nowait)

    def table(self, table: str | None = "notes", event: Event = Event.All, **options: Any) -> Watch:
        """Watch a table."""
        heard = self.changes.put_nowait
        self.ear.channel.on_postgres_changes(event, heard, table=table, schema="public", **options)  # type: ignore[arg-type]
        return self

    async def begin(self) -> Watch:
        """Join, and wait until changes flow."""
        assert await self.ear.subscribe() == "SUBSCRIBED"
        message = await asyncio.wait_for(self.system.get(), DEADLINE_SECONDS)
        assert (message.extension, message.message) == ("postgres_changes", "Subscribed to PostgreSQL")
        return self

    async def next(self) -> dict[str, Any]:
        """The next change's data."""
        change = await asyncio.wait_for(self.changes.get(), DEADLINE_SECONDS)
        data: dict[str, Any] = change["data"]
        return data


async def test_each_user_hears_of_their_own_rows(world: World) -> None:
    """RLS decides per subscriber: of two users' inserts each hears one, and the anonymous neither."""
    ada, ben = new_user(), new_user()
    async with (
        world.client(world.token(ada)) as first,
        world.client(world.token(ben)) as second,
        world.client() as nobody,
    ):
        watches = [await Watch(client).table().begin() for client in (first, second, nobody)]
        await world.sql(INSERT, ada, "ada's")
        await world.sql(INSERT, ben, "ben's")
        await world.sql("insert into public.bulletins values (100, 'last', 'x')")
        assert (await watches[0].next())["record"]["body"] == "ada's"
        assert (await watches[1].next())["record"]["body"] == "ben's"
        await world.sql(INSERT, ada, "again")
        assert (await watches[0].next())["record"]["body"] == "again"
    assert all(watch.changes.empty() for watch in watches)


async def test_an_insert_has_the_shape_of_hosted_supabase(world: World) -> None:
    """Values are JSON of their own types, columns carry their types' names, the time is ISO with milliseconds."""
    user = new_user()
    query = """
      insert into public.notes (owner, body, stars, data, tags, at)
      values (%s, %s, 4.50, '{"a": [1, null]}', array['x', 'y,"z"'], '2026-01-02 03:04:05.678+00')
    """
    async with world.client(world.token(user)) as client:
        watch = await Watch(client).table().begin()
        await world.sql(query, user, 'a"b\\c\n')
        data = await watch.next()
    identifier = data["record"].pop("id")
    assert isinstance(identifier, int)
    assert data["record"] == {
        "owner": user, "body": 'a"b\\c\n', "stars": 4.5, "data": {"a": [1, None]}, "tags": ["x", 'y,"z"'],
        "at": "2026-01-02T03:04:05.678+00:00",
    }  # fmt: skip
    types = {column["name"]: column["type"] for column in data["columns"]}
    assert types == {
        "id": "int8", "owner": "uuid", "body": "text", "stars": "numeric", "data": "jsonb", "tags": "_text",
        "at": "timestamptz",
    }  # fmt: skip
    assert (data["schema"], data["table"], data["type"], data["errors"]) == ("public", "notes", "INSERT", None)
    assert data["commit_timestamp"].endswith("Z")
    assert len(data["commit_timestamp"]) == len("2026-01-02T03:04:05.678Z")


async def test_updates_and_deletes_under_rls_tell_the_key_alone(world: World) -> None:
    """`old_record` holds no more than the primary key where RLS is on; a delete has no `record`."""
    user = new_user()
    async with world.client(world.token(user)) as client:
        watch = await Watch(client).table().begin()
        await world.sql(INSERT, user, "one")
        key = (await watch.next())["record"]["id"]
        await world.sql("update public.notes set body = 'two' where id = %s", key)
        update = await watch.next()
        await world.sql("update public.notes set id = default where id = %s", key)
        renamed = await watch.next()
        await world.sql("delete from public.notes where id = %s", renamed["record"]["id"])
        delete = await watch.next()
    assert (update["type"], update["record"]["body"], update["old_record"]) == ("UPDATE", "two", {"id": key})
    assert renamed["old_record"] == {"id": key}
    assert (delete["type"], delete["old_record"]) == ("DELETE", {"id": renamed["record"]["id"]})
    assert "record" not in delete


async def test_without_a_full_identity_the_key_is_all_there_is(world: World) -> None:
    """By default the log keeps the primary key of an old row, and nothing at all while that stays the same."""
    async with world.client() as client:
        watch = await Watch(client).table("plain").begin()
        await world.sql("insert into public.plain values (1, 'a')")
        await world.sql("update public.plain set body = 'b'")
        await world.sql("update public.plain set id = 2")
        await world.sql("delete from public.plain")
        changes = [await watch.next() for _ in range(4)]
    assert [change.get("old_record") for change in changes] == [None, {"id": 1}, {"id": 1}, {"id": 2}]
    assert [change.get("record") for change in changes[1:3]] == [{"id": 1, "body": "b"}, {"id": 2, "body": "b"}]


async def test_columns_without_a_grant_are_left_out(world: World) -> None:
    """A role gets the columns it may select; with replica identity full and no RLS, the old ones too."""
    async with world.client() as client:
        watch = await Watch(client).table("bulletins").begin()
        await world.sql("insert into public.bulletins values (10, 'a', 'hush')")
        await world.sql("update public.bulletins set body = 'b' where id = 10")
        await world.sql("delete from public.bulletins where id = 10")
        changes = [await watch.next() for _ in range(3)]
    assert changes[0]["record"] == {"id": 10, "body": "a"}
    assert (changes[1]["record"], changes[1]["old_record"]) == ({"id": 10, "body": "b"}, {"id": 10, "body": "a"})
    assert changes[2]["old_record"] == {"id": 10, "body": "b"}
    assert [column["name"] for column in changes[0]["columns"]] == ["id", "body"]


async def test_large_values_that_an_update_leaves_alone_are_complete(world: World) -> None:
    """The log omits an unchanged value kept out of line; the subscriber gets it all the same."""
    user = new_user()
    async with world.client(world.token(user)) as client:
        watch = await Watch(client).table().begin()
        long = "string_agg(md5(i::text), '') from generate_series(1, 2000) i"
        query = f"insert into public.notes (owner, body) select %s, {long}"
        await world.sql(query, user)
        body = (await watch.next())["record"]["body"]
        await world.sql("update public.notes set stars = 1 where owner = %s", user)
        update = await watch.next()
    assert len(body) == 64_000
    assert (update["record"]["stars"], update["record"]["body"]) == (1, body)


@pytest.mark.parametrize(
    ("filter_", "heard"),
    [
        ("id=eq.3", [3]), ("id=neq.3", [1, 2, 4]), ("id=lt.3", [1, 2]), ("id=lte.3", [1, 2, 3]), ("id=gt.3", [4]),
        ("id=gte.3", [3, 4]), ("id=in.(1,4)", [1, 4]), ("id=not.in.(1,4)", [2, 3]), ("body=like.b%", [2]),
        ("body=is.null", [4]), ("body=not.is.null", [1, 2, 3]), ("body=isdistinct.a", [2, 3, 4]),
        ('body=in.("b, x",a)', [1, 2]), ("id=gt.1,body=match.^[bc]", [2, 3]), ("body=neq.a", [2, 3]),
    ],
)  # fmt: skip
async def test_filters(world: World, filter_: str, heard: list[int]) -> None:
    """A filter is evaluated with the column's own type; null matches nothing but `is` and `isdistinct`."""
    async with world.client() as client:
        watch = await Watch(client).table("bulletins", Event.Insert, filter=filter_).begin()
        done = Watch(client, "done").table("bulletins", Event.Delete)
        await done.begin()
        await world.sql("insert into public.bulletins values (1, 'a'), (2, 'b, x'), (3, 'c'), (4, null)")
        await world.sql("delete from public.bulletins where id < 5")
        assert [(await watch.next())["record"]["id"] for _ in heard] == heard
        assert len([await done.next() for _ in range(4)]) == 4
    assert watch.changes.empty()


async def test_each_binding_gets_what_it_asked_for(world: World) -> None:
    """Several bindings of one channel are told apart by their ids; `select` narrows one of them."""
    user = new_user()
    async with world.client(world.token(user)) as client:
        inserts, narrow = asyncio.Queue[Any](), asyncio.Queue[Any]()
        watch = Watch(client)
        channel = watch.ear.channel
        channel.on_postgres_changes(Event.Insert, inserts.put_nowait, table="notes")
        channel.on_postgres_changes(Event.All, narrow.put_nowait, table="notes", select=["id", "body"])
        channel.on_postgres_changes(Event.Delete, watch.changes.put_nowait, schema="*")  # type: ignore[arg-type]
        await watch.begin()
        await world.sql(INSERT, user, "x")
        whole = (await asyncio.wait_for(inserts.get(), DEADLINE_SECONDS))["data"]["record"]
        some = (await asyncio.wait_for(narrow.get(), DEADLINE_SECONDS))["data"]["record"]
        # A row is shown to whoever can select it when its turn comes: deleted at once, it would be shown to nobody.
        await world.sql("delete from public.notes where owner = %s", user)
        deleted = await watch.next()
    assert some == {"id": whole["id"], "body": "x"}
    assert len(whole) > 2
    assert deleted["old_record"] == {"id": whole["id"]}
    assert inserts.empty()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"table": "unpublished"}, "Please check Realtime is enabled"),
        ({"table": "nowhere"}, "Please check Realtime is enabled"),
        ({"table": "bulletins", "filter": "secret=eq.x"}, "invalid column for filter secret"),
        ({"table": "bulletins", "filter": "id=eq.abc"}, "invalid filter on id"),
        ({"table": "bulletins", "filter": "body=match.["}, "invalid filter on body"),
    ],
)
async def test_impossible_subscriptions_are_told(world: World, options: dict[str, Any], complaint: str) -> None:
    """What can never match is said in a system message; nobody may probe columns they cannot select."""
    async with world.client() as client:
        watch = Watch(client).table(**options)
        await watch.ear.channel.subscribe(watch.ear.on_state)
        assert (await watch.ear.state())[0] == "SUBSCRIBED"
        state, error = await watch.ear.state()
    assert state == "CHANNEL_ERROR"
    assert complaint in json.loads(error)["message"]


async def test_one_subscriber_cannot_spoil_it_for_the_others(world: World) -> None:
    """A filter that fails on a row, and a role that does not exist, cost their own subscriber and nobody else."""
    async with world.client() as good, world.client() as odd, world.client(world.token(new_user(), role="x")) as bad:
        spoiler = await Watch(odd).table("bulletins", filter="body=like.abc\\").begin()
        nobody = Watch(bad).table("bulletins")
        await nobody.ear.channel.subscribe(nobody.ear.on_state)
        assert (await nobody.ear.state())[0] == "SUBSCRIBED"
        assert "is not granted" in (await nobody.ear.state())[1]
        watch = await Watch(good).table("bulletins", filter="body=eq.abcd").begin()
        await world.sql("insert into public.bulletins values (50, 'abcd')")
        assert (await watch.next())["record"]["id"] == 50
        await world.sql("delete from public.bulletins where id = 50")
    assert spoiler.changes.empty()


async def test_numbers_beyond_a_float_are_text(world: World) -> None:
    """A numeric that no JSON parser would read as a number arrives as its digits, and the stream goes on."""
    user = new_user()
    async with world.client(world.token(user)) as client:
        watch = await Watch(client).table().begin()
        await world.sql("alter table public.notes alter column stars type numeric")
        await world.sql(
            "insert into public.notes (owner, stars) values (%s, %s::numeric)", user, "1" + "0" * 400 + ".5"
        )
        assert (await watch.next())["record"]["stars"] == "1" + "0" * 400 + ".5"


async def test_a_new_token_changes_whose_rows_are_heard(world: World) -> None:
    """After a refresh the new claims decide."""
    ada, ben = new_user(), new_user()
    async with world.client(world.token(ada)) as client:
        watch = await Watch(client).table().begin()
        await client.realtime.set_auth(world.token(ben))
        assert (await asyncio.wait_for(watch.system.get(), DEADLINE_SECONDS)).status == "ok"
        await world.sql(INSERT, ada, "not mine")
        await world.sql(INSERT, ben, "mine")
        assert (await watch.next())["record"]["body"] == "mine"


@pytest.mark.parametrize(
    ("xid", "snapshot", "visible"),
    [
        (9, "10:10:", True), (10, "10:10:", False), (11, "10:12:11", False), (11, "10:12:10", True),
        (2**32 - 1, f"{2**32 + 5}:{2**32 + 5}:", True), (3, f"{2**32 + 5}:{2**32 + 5}:{2**32 + 4}", True),
        (4, f"{2**32 + 4}:{2**32 + 5}:{2**32 + 4}", False), (6, f"{2**32 + 5}:{2**32 + 5}:", False),
    ],
)  # fmt: skip
def test_visibility_is_read_from_a_snapshot(xid: int, snapshot: str, visible: bool) -> None:
    """The log tells of a commit before others see it; deciding too early would hide a row from its owner."""
    assert is_visible(xid, snapshot) is visible


async def test_changes_wait_for_a_commit_that_is_not_visible_yet(world: World) -> None:
    """A transaction still running, as a snapshot has it, is waited for before anyone is asked what they may see."""
    async with await psycopg.AsyncConnection.connect(world.postgres.dsn()) as running:
        row = await (await running.execute("select (pg_current_xact_id()::text::bigint % 4294967296)")).fetchone()
        assert row is not None
        async with world.realtime.pool.connection() as connection:
            waiting = asyncio.create_task(until_visible(connection, row[0]))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done
            await running.commit()
            await asyncio.wait_for(waiting, DEADLINE_SECONDS)


async def test_a_large_transaction_arrives_whole_and_in_order(world: World) -> None:
    """Two thousand rows of one statement come once each, in the order they were written."""
    user = new_user()
    async with world.client(world.token(user)) as client:
        watch = await Watch(client).table().begin()
        await world.sql("insert into public.notes (owner, stars) select %s, n from generate_series(1, 2000) n", user)
        heard = [(await watch.next())["record"]["stars"] for _ in range(2000)]
    assert heard == list(range(1, 2001))


async def test_nobody_follows_when_nobody_subscribes(world: World) -> None:
    """The stream of changes, and its slot, exist only while there is a subscriber."""
    async with world.client() as client:
        await Watch(client).table().begin()
        following = world.realtime.changes._following
        assert following is not None
    await until(following.done)
    assert world.realtime.changes._following is None

"""The same server through the unmodified JavaScript SDK, in Node, in both protocol versions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.local.realtime_world import DEADLINE_SECONDS, World, listen, new_user, open_world, until

SCRIPT = Path(__file__).parent.parent / "node" / "realtime.mjs"
VERSIONS = pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (SCRIPT.parent / "node_modules").is_dir(),
    reason="needs Node and `npm ci --prefix tests/node`",
)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("realtime")) as opened:
        yield opened


@dataclass
class Node:
    """A process that runs supabase-js for us."""

    process: asyncio.subprocess.Process
    passed_over: list[dict[str, Any]] = field(default_factory=list)

    async def do(self, command: str, **arguments: Any) -> Any:
        """Send a command; its result."""
        await self.tell(command, **arguments)
        return await self.next("done")

    async def tell(self, command: str, **arguments: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        await self.process.stdin.drain()

    async def next(self, kind: str) -> Any:
        """The next message of a kind; others are kept for whoever asks for them."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                for message in self.passed_over:
                    if message["kind"] == kind:
                        self.passed_over.remove(message)
                        return message["message"]
                self.passed_over.append(await self._read())

    async def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "node ended early"
        message: dict[str, Any] = json.loads(line)
        return message

    async def join(self, topic: str, changes: list[dict[str, Any]] | None = None, **config: Any) -> dict[str, Any]:
        """Join a channel; its first state."""
        await self.do("join", topic=topic, config={"private": True, **config}, changes=changes or [])
        state: dict[str, Any] = await self.next("state")
        return state


@contextlib.asynccontextmanager
async def node(world: World, token: str | None, vsn: str = "2.0.0") -> AsyncIterator[Node]:
    """A client in Node, signed in by `token`."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("node", str(SCRIPT), stdin=pipe, stdout=pipe)
    client = Node(process)
    try:
        await client.do("open", url=world.url, key=world.settings.publishable_key, vsn=vsn)
        if token is not None:
            await client.do("auth", token=token)
        yield client
    finally:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await client.tell("end")
        await asyncio.wait_for(process.wait(), DEADLINE_SECONDS)


@VERSIONS
async def test_an_owner_hears_the_database(world: World, vsn: str) -> None:
    """supabase-js joins a private channel and hears what realtime.send commits."""
    user = new_user()
    async with node(world, world.token(user), vsn) as client:
        assert (await client.join(f"user:{user}"))["state"] == "SUBSCRIBED"
        await world.send(f"user:{user}", {"text": "grüße"}, "greeting")
        heard = await client.next("broadcast")
    assert (heard["event"], heard["payload"]["text"]) == ("greeting", "grüße")
    assert heard["meta"]["id"] == heard["payload"]["id"]


@VERSIONS
@pytest.mark.parametrize("who", ["stranger", "anonymous"])
async def test_others_are_refused(world: World, vsn: str, who: str) -> None:
    """supabase-js is told why it may not join."""
    token = world.token(new_user()) if who == "stranger" else None
    async with node(world, token, vsn) as client:
        state = await client.join(f"user:{new_user()}")
    assert state["state"] == "CHANNEL_ERROR"
    assert "You do not have permissions to read from this Channel topic" in state["error"]


@VERSIONS
async def test_broadcasts_between_node_and_python(world: World, vsn: str) -> None:
    """What either SDK sends, over the socket or HTTP, the other hears."""
    user = new_user()
    topic = f"user:{user}"
    async with node(world, world.token(user), vsn) as client, world.client(world.token(user)) as python:
        ear = listen(python, topic)
        assert await ear.subscribe() == "SUBSCRIBED"
        assert (await client.join(topic, broadcast={"ack": True, "self": True}))["state"] == "SUBSCRIBED"
        assert await client.do("send", topic=topic, event="from node", payload={"n": 1, "é": "ü"}) == "ok"
        assert (await client.next("broadcast"))["payload"] == {"n": 1, "é": "ü"}
        assert (await ear.next())["payload"] == {"n": 1, "é": "ü"}
        await ear.channel.send_broadcast("from python", {"n": 2})
        assert (await client.next("broadcast"))["payload"] == {"n": 2}
        assert await client.do("http", topic=topic, event="over http", payload={"n": 3}) == {"success": True}
        assert (await client.next("broadcast"))["payload"] == {"n": 3}
        assert (await ear.next())["event"] == "over http"


async def test_bytes_stay_bytes(world: World) -> None:
    """An ArrayBuffer sent by supabase-js arrives as an ArrayBuffer."""
    user = new_user()
    topic = f"user:{user}"
    async with node(world, world.token(user)) as sender, node(world, world.token(user)) as receiver:
        await sender.join(topic)
        await receiver.join(topic)
        await sender.do("send", topic=topic, event="b", bytes=[0, 255, 10])
        assert (await receiver.next("broadcast"))["payload"] == {"bytes": [0, 255, 10]}


@VERSIONS
async def test_rows_are_told_to_their_owner(world: World, vsn: str) -> None:
    """postgres_changes arrives converted by the SDK: new, old, eventType; a stranger's rows do not."""
    user = new_user()
    changes = [
        {"event": "INSERT", "schema": "public", "table": "notes", "filter": "stars=gte.1"},
        {"event": "UPDATE", "schema": "public", "table": "notes"},
    ]
    insert = "insert into public.notes (owner, stars, tags) values (%s, %s, array['a', 'b'])"
    async with node(world, world.token(user), vsn) as client:
        assert (await client.join(f"user:{user}", changes))["state"] == "SUBSCRIBED"
        assert (await client.next("system"))["message"] == "Subscribed to PostgreSQL"
        await world.sql(insert, new_user(), 5)
        await world.sql(insert, user, 0)
        await world.sql(insert, user, 1)
        inserted = await client.next("change")
        await world.sql("update public.notes set body = 'x' where id = %s", inserted["new"]["id"])
        updated = await client.next("change")
    assert (inserted["eventType"], inserted["new"]["stars"], inserted["new"]["tags"]) == ("INSERT", 1, ["a", "b"])
    assert (updated["eventType"], updated["new"]["body"]) == ("UPDATE", "x")
    assert updated["old"] == {"id": inserted["new"]["id"]}


async def test_waiting_for_the_subscription(world: World) -> None:
    """With `postgres_changes_options.wait`, SUBSCRIBED means that changes flow, or the join is refused."""
    user = new_user()
    options = {"postgres_changes_options": {"wait": True}}
    async with node(world, world.token(user)) as client:
        good = [{"event": "INSERT", "schema": "public", "table": "notes"}]
        assert (await client.join(f"user:{user}", good, **options))["state"] == "SUBSCRIBED"
        await world.sql("insert into public.notes (owner, stars) values (%s, 2)", user)
        assert (await client.next("change"))["new"]["stars"] == 2
        bad = [{"event": "INSERT", "schema": "public", "table": "unpublished"}]
        state = await client.join("elsewhere", bad, private=False, **options)
    assert state["state"] == "CHANNEL_ERROR"
    assert "RealtimeDisabledForConfiguration" in state["error"]


@VERSIONS
async def test_presence_between_node_and_python(world: World, vsn: str) -> None:
    """Both SDKs see the same people."""
    user = new_user()
    topic = f"user:{user}"
    async with node(world, world.token(user), vsn) as client, world.client(world.token(user)) as python:
        ear = listen(python, topic, presence={"key": "python", "enabled": True})
        ear.channel.on_presence_sync(lambda: ear.heard.put_nowait(sorted(ear.channel.presence_state())))
        await ear.subscribe()
        assert await ear.next() == []
        await ear.channel.track({"mood": "calm"})
        assert await ear.next() == ["python"]
        await client.join(topic, presence={"key": "node"})
        assert list(await client.next("presence")) == ["python"]
        await client.do("track", topic=topic, payload={"mood": "busy"})
        assert await ear.next() == ["node", "python"]
        state = await client.next("presence")
        assert {key: metas[0]["mood"] for key, metas in state.items()} == {"node": "busy", "python": "calm"}
        await client.do("leave", topic=topic)
        assert await ear.next() == ["python"]


@VERSIONS
async def test_tokens_are_refreshed(world: World, vsn: str) -> None:
    """`setAuth` keeps the channel while the token serves, and loses it when it does not."""
    user = new_user()
    async with node(world, world.token(user, room="yes"), vsn) as client:
        assert (await client.join("room"))["state"] == "SUBSCRIBED"
        await client.do("auth", token=world.token(user, 700, room="yes"))
        await world.send("room", {"n": 1})
        assert (await client.next("broadcast"))["payload"]["n"] == 1
        await client.do("auth", token=world.token(user, 800))
        system = await client.next("system")
        assert system["status"] == "error"
        assert "You do not have permissions" in system["message"]
        assert (await client.next("state"))["state"] == "CLOSED"


async def test_a_channel_survives_a_killed_postgres(world: World) -> None:
    """supabase-js hears the database again after a crash, without joining anew."""
    user = new_user()
    topic = f"user:{user}"
    async with node(world, world.token(user)) as client:
        assert (await client.join(topic))["state"] == "SUBSCRIBED"
        await asyncio.to_thread(world.postgres.kill)
        await until(lambda: not world.realtime.broadcasts.connected.is_set())
        await asyncio.to_thread(world.postgres.start)
        await asyncio.wait_for(world.realtime.broadcasts.connected.wait(), DEADLINE_SECONDS)
        await world.send(topic, {"n": 1})
        assert (await client.next("broadcast"))["payload"]["n"] == 1

"""The connection itself, spoken to in raw frames: both versions, binary frames, rejoins, refusals, slow consumers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from local.supabase.realtime_protocol import Broadcast
from local.supabase.realtime_socket import QUEUE_FRAMES_MAX
from local.supabase.realtime_topics import Topic
from tests.local.realtime_world import DEADLINE_SECONDS, World, new_user, open_world, until
from tests.local.test_realtime_protocol import push_frame, read_broadcast_frame

PUBLIC = {"config": {"private": False}}


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("realtime")) as opened:
        yield opened


@contextlib.asynccontextmanager
async def connected(world: World, vsn: str = "2.0.0", **options: Any) -> AsyncIterator[ClientConnection]:
    """A raw websocket."""
    address = world.url.replace("http", "ws") + "/realtime/v1/websocket"
    url = f"{address}?apikey={world.settings.publishable_key}&vsn={vsn}"
    async with websockets.connect(url, **options) as connection:
        yield connection


async def receive(connection: ClientConnection) -> Any:
    """The next frame: parsed JSON, or bytes."""
    frame = await asyncio.wait_for(connection.recv(), DEADLINE_SECONDS)
    return json.loads(frame) if isinstance(frame, str) else frame


async def ask(connection: ClientConnection, *message: Any) -> Any:
    """Send a vsn 2.0.0 message; what comes next."""
    await connection.send(json.dumps(message))
    return await receive(connection)


async def join(connection: ClientConnection, topic: str, ref: str = "1", config: dict[str, Any] | None = None) -> Any:
    """Join a channel; the reply's payload."""
    _, _, _, event, payload = await ask(connection, ref, ref, topic, "phx_join", {"config": config or {}})
    assert event == "phx_reply"
    return payload


async def test_heartbeats_are_answered_in_both_versions(world: World) -> None:
    """A heartbeat gets an ok with its own reference, in the version's own shape."""
    async with connected(world) as connection:
        answer = await ask(connection, None, "7", "phoenix", "heartbeat", {})
        assert answer == [None, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}]
    async with connected(world, "1.0.0") as connection:
        await connection.send(json.dumps({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "7"}))
        answer = await receive(connection)
    assert answer == {
        "ref": "7", "topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}},
    }  # fmt: skip


@pytest.mark.parametrize("query", ["", "?apikey=nonsense&vsn=2.0.0", "?apikey=sb_publishable_test&vsn=9.9.9"])
async def test_a_handshake_without_a_good_key_or_version_is_refused(world: World, query: str) -> None:
    """No connection is made for a key nobody issued, or a protocol nobody speaks."""
    address = world.url.replace("http", "ws") + "/realtime/v1/websocket" + query
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(address)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("frame", ["not json", "[1,2]", b"\x03abc", b"\x00"])
async def test_a_malformed_frame_ends_the_connection(world: World, frame: str | bytes) -> None:
    """Garbage is answered with a protocol error's close code, and nothing else suffers."""
    async with connected(world) as connection:
        await connection.send(frame)
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await receive(connection)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1002


async def test_joins_that_cannot_be(world: World) -> None:
    """Each refusal names its reason, and the connection lives on."""
    refusals: dict[str, tuple[str, dict[str, Any]]] = {
        "elsewhere": ("unmatched topic", {}),
        "realtime:": ("TopicNameRequired", {}),
        "realtime:a": ("InvalidJoinPayload: config.postgres_changes", {"postgres_changes": "all"}),
        "realtime:b": ("Error parsing `filter` params", {"postgres_changes": [{"table": "notes", "filter": "id~1"}]}),
        "realtime:c": ("Replay is not allowed for public channels", {"broadcast": {"replay": {"since": 1}}}),
    }
    async with connected(world) as connection:
        for topic, (reason, config) in refusals.items():
            payload = await join(connection, topic, config=config)
            assert payload["status"] == "error"
            assert reason in payload["response"]["reason"]
        assert (await join(connection, "realtime:d"))["status"] == "ok"


async def test_messages_for_a_channel_nobody_joined(world: World) -> None:
    """They get an error, but leaving is always fine."""
    async with connected(world) as connection:
        answer = await ask(connection, "1", "2", "realtime:x", "broadcast", {"event": "e", "payload": {}})
        assert answer[4] == {"status": "error", "response": {"reason": "unmatched topic"}}
        answer = await ask(connection, "1", "3", "realtime:x", "phx_leave", {})
        assert answer[4] == {"status": "ok", "response": {}}


async def test_leaving_is_answered_and_closes(world: World) -> None:
    """phx_leave gets its reply and then phx_close, with the reference of the join."""
    async with connected(world) as connection:
        await join(connection, "realtime:x", "5")
        assert (await ask(connection, "5", "6", "realtime:x", "phx_leave", {}))[:4] == [
            "5", "6", "realtime:x", "phx_reply",
        ]  # fmt: skip
        assert await receive(connection) == ["5", "5", "realtime:x", "phx_close", {}]


async def test_a_second_join_replaces_the_first(world: World) -> None:
    """The first is closed, and its late messages are not taken for the second's."""
    async with connected(world) as connection:
        await join(connection, "realtime:x", "1")
        assert await ask(connection, "2", "2", "realtime:x", "phx_join", PUBLIC) == [
            "1", "1", "realtime:x", "phx_close", {},
        ]  # fmt: skip
        assert (await receive(connection))[:2] == ["2", "2"]
        await connection.send(json.dumps(["1", "3", "realtime:x", "phx_leave", {}]))
        answer = await ask(connection, None, "4", "phoenix", "heartbeat", {})
        assert answer[1] == "4"


async def test_binary_frames_between_both_versions(world: World) -> None:
    """A binary push arrives as a binary frame, or as JSON where that is all the version has; bytes stay bytes."""
    async with connected(world) as sender, connected(world) as binary, connected(world, "1.0.0") as text:
        config = {"broadcast": {"ack": True}}
        for connection in (sender, binary):
            await join(connection, "realtime:x", config=config)
        await text.send(json.dumps({"topic": "realtime:x", "event": "phx_join", "payload": PUBLIC, "ref": "1"}))
        await receive(text)
        await sender.send(push_frame("1", "2", "realtime:x", "é", "", 1, b'{"n": [1,  2]}'))
        assert (await receive(sender))[4] == {"status": "ok", "response": {}}
        assert read_broadcast_frame(await receive(binary)) == ("realtime:x", "é", "", 1, b'{"n": [1,  2]}')
        assert (await receive(text))["payload"] == {"type": "broadcast", "event": "é", "payload": {"n": [1, 2]}}
        await sender.send(push_frame("1", "3", "realtime:x", "b", "", 0, b"\0\1\2"))
        assert read_broadcast_frame(await receive(binary)) == ("realtime:x", "b", "", 0, b"\0\1\2")


async def test_a_text_broadcast_reaches_both_versions(world: World) -> None:
    """What a vsn 1.0.0 client says is heard by a vsn 2.0.0 client."""
    async with connected(world) as listener, connected(world, "1.0.0") as sender:
        await join(listener, "realtime:x")
        await sender.send(json.dumps({"topic": "realtime:x", "event": "phx_join", "payload": PUBLIC, "ref": "1"}))
        await receive(sender)
        said = {"type": "broadcast", "event": "e", "payload": {"n": 1}}
        await sender.send(json.dumps({"topic": "realtime:x", "event": "broadcast", "payload": said, "ref": "2"}))
        assert await receive(listener) == [None, None, "realtime:x", "broadcast", said]


async def test_presence_of_a_lost_connection_ends(world: World) -> None:
    """A client that vanishes without a word is absent for the others."""
    config = {"presence": {"key": "ada", "enabled": True}}
    async with connected(world) as left, connected(world) as lost:
        await join(left, "realtime:lobby", config=config | {"presence": {"enabled": True}})
        assert await receive(left) == [None, None, "realtime:lobby", "presence_state", {}]
        await join(lost, "realtime:lobby", config=config)
        await lost.send(json.dumps(["1", "2", "realtime:lobby", "presence", {"event": "track", "payload": {}}]))
        assert list((await receive(left))[4]["joins"]) == ["ada"]
        lost.transport.abort()
        assert list((await receive(left))[4]["leaves"]) == ["ada"]


async def test_replication_ready_is_announced(world: World) -> None:
    """A client may ask to be told that the database is being followed."""
    async with connected(world) as connection:
        await join(connection, "realtime:x", config={"broadcast": {"replication_ready": True}})
        _, _, _, event, payload = await receive(connection)
    assert event == "system"
    assert (payload["extension"], payload["status"]) == ("system", "ok")
    assert payload["message"] == "Replication connection established"


async def test_an_unusable_access_token_message_changes_nothing(world: World) -> None:
    """The SDKs repeat the API key, or send null; neither closes a channel."""
    async with connected(world) as connection:
        await join(connection, "realtime:x")
        for token in (world.settings.publishable_key, None, 7):
            await connection.send(json.dumps(["1", None, "realtime:x", "access_token", {"access_token": token}]))
        assert (await ask(connection, None, "9", "phoenix", "heartbeat", {}))[1] == "9"


async def test_a_slow_consumer_is_dropped_and_holds_nobody_up(world: World) -> None:
    """Who does not read is disconnected once the queue is full; a reader beside it misses nothing."""
    topic, body = Topic("flood", private=False), json.dumps({"text": "x" * 20_000}).encode()
    count = QUEUE_FRAMES_MAX * 2
    async with connected(world, max_queue=1, close_timeout=0.1) as slow, connected(world) as quick:
        await join(slow, topic.wire)
        await join(quick, topic.wire)
        members = world.realtime.topics._members[topic]
        assert len(members) == 2
        reading = asyncio.create_task(_count(quick, count))
        for _ in range(count):
            world.realtime.topics.publish(Broadcast(topic.wire, "e", body), topic)
            await asyncio.sleep(0)
            if max(member._connection._queue.qsize() for member in members) > QUEUE_FRAMES_MAX // 2:  # type: ignore[attr-defined]
                await asyncio.sleep(0.001)
        assert await asyncio.wait_for(reading, DEADLINE_SECONDS) == count
        await until(lambda: len(members) == 1)


async def test_a_closed_connection_leaves_its_channels(world: World) -> None:
    """Nothing of a connection remains on its topics after it has gone."""
    async with connected(world) as connection:
        await join(connection, "realtime:gone")
        assert Topic("gone", private=False) in world.realtime.topics._members
    await until(lambda: Topic("gone", private=False) not in world.realtime.topics._members)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"messages": [{"topic": "x", "event": "e", "payload": {}}]}, {"apikey": "sb_publishable_test"}, 202),
        ({"messages": [{"topic": "x", "event": "e", "payload": {}}]}, {}, 401),
        ({"messages": [{"topic": "", "event": "e", "payload": {}}]}, {"apikey": "sb_publishable_test"}, 422),
        ({"messages": [{"topic": "x"}]}, {"apikey": "sb_publishable_test"}, 422),
    ],
)
async def test_the_batch_endpoint_checks_what_it_is_sent(
    world: World, body: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    """A key is needed, and every message must be whole."""
    async with httpx.AsyncClient(base_url=world.url) as client:
        answer = await client.post("/realtime/v1/api/broadcast", json=body, headers=headers)
    assert answer.status_code == status


async def test_a_batch_delivers_what_its_sender_may_send(world: World) -> None:
    """Private messages pass the policies one topic at a time; the refused ones vanish in silence, as on hosted."""
    user = new_user()
    mine, theirs = f"user:{user}", f"user:{new_user()}"
    messages = [
        {"topic": topic, "event": "e", "payload": {"nr": nr}, "private": private}
        for nr, (topic, private) in enumerate(((mine, True), (theirs, True), (theirs, False)))
    ]
    headers = {"apikey": world.settings.publishable_key, "Authorization": f"Bearer {world.token(user)}"}
    async with httpx.AsyncClient(base_url=world.url) as client, connected(world) as connection:
        await ask(
            connection,
            "1",
            "1",
            f"realtime:{mine}",
            "phx_join",
            {"config": {"private": True}, "access_token": world.token(user)},
        )
        await join(connection, f"realtime:{theirs}", "2")
        answer = await client.post("/realtime/v1/api/broadcast", json={"messages": messages}, headers=headers)
        assert answer.status_code == 202
        heard = [(await receive(connection))[4]["payload"] for _ in range(2)]
    assert sorted(message["nr"] for message in heard) == [0, 2]


async def _count(connection: ClientConnection, wanted: int) -> int:
    seen = 0
    while seen < wanted:
        await asyncio.wait_for(connection.recv(), DEADLINE_SECONDS)
        seen += 1
    return seen

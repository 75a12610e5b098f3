"""Private and public channels, broadcast and presence, through the unmodified Python SDK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from tests.local.realtime_world import Ear, World, listen, new_user, open_world, until


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("realtime")) as opened:
        yield opened


async def test_an_owner_hears_what_the_database_sends_to_their_topic(world: World) -> None:
    """A row that realtime.send commits reaches a subscriber whom the policies let in, with its id."""
    user = new_user()
    async with world.client(world.token(user)) as client:
        ear = listen(client, f"user:{user}")
        assert await ear.subscribe() == "SUBSCRIBED"
        await world.send(f"user:{user}", {"text": "grüße"}, "greeting")
        message = await ear.next()
    assert message["event"] == "greeting"
    assert message["payload"] == {"text": "grüße", "id": message["meta"]["id"]}


async def test_database_broadcasts_arrive_in_the_order_of_their_commits(world: World) -> None:
    """Five hundred messages of several transactions arrive once each and in order, none of a rolled back one."""
    user = new_user()
    topic = f"user:{user}"
    many = "select realtime.send(jsonb_build_object('n', n), 'n', %s) from generate_series(%s::int, %s::int) n"
    undone = "do $$ begin perform realtime.send('{\"n\": 0}', 'n', '" + topic + "'); raise 'no'; end $$"
    async with world.client(world.token(user)) as client:
        ear = listen(client, topic)
        await ear.subscribe()
        await world.sql(many, topic, 1, 200)
        with pytest.raises(psycopg.errors.RaiseException):
            await world.sql(undone)
        await world.sql(many, topic, 201, 500)
        heard = [(await ear.next())["payload"]["n"] for _ in range(500)]
    assert heard == list(range(1, 501))


@pytest.mark.parametrize("who", ["stranger", "anonymous", "a role nobody granted"])
async def test_others_are_refused(world: World, who: str) -> None:
    """A private topic opens to nobody whom no policy names."""
    role = "supabase_admin" if who == "a role nobody granted" else "authenticated"
    owner = new_user()
    token = None if who == "anonymous" else world.token(new_user(), role=role)
    async with world.client(token) as client:
        ear = listen(client, f"user:{owner}")
        await ear.channel.subscribe(ear.on_state)
        state, error = await ear.state()
    assert state == "CHANNEL_ERROR"
    assert "Unauthorized: You do not have permissions to read from this Channel topic" in error


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("expired", "InvalidJWTToken: Token has expired"),
        ("forged", "JwtSignatureError"),
        ("timeless", "`exp` are required"),
    ],
)
async def test_a_bad_token_is_refused(world: World, token: str, reason: str) -> None:
    """An expired, forged or never-expiring token joins no channel, not even a public one."""
    user = new_user()
    good = world.token(user)
    tokens = {
        "expired": world.token(user, -5),
        "forged": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "timeless": world.keys.sign({"sub": user, "role": "authenticated"}),
    }
    async with world.client(tokens[token]) as client:
        ear = listen(client, "anything", private=False)
        await ear.channel.subscribe(ear.on_state)
        state, error = await ear.state()
    assert (state, reason in error) == ("CHANNEL_ERROR", True)


async def test_private_and_public_channels_of_one_name_never_meet(world: World) -> None:
    """A public channel does not hear a private message of the same topic, nor the other way round."""
    user = new_user()
    topic = f"user:{user}"
    async with world.client(world.token(user)) as insider, world.client() as outsider:
        private, public = listen(insider, topic), listen(outsider, topic, private=False)
        assert [await private.subscribe(), await public.subscribe()] == ["SUBSCRIBED"] * 2
        await world.send(topic, {"n": 1}, private=True)
        await world.send(topic, {"n": 2}, private=False)
        await world.send(topic, {"n": 3}, private=True)
        assert [(await private.next())["payload"]["n"] for _ in range(2)] == [1, 3]
        assert (await public.next())["payload"]["n"] == 2
    assert private.heard.empty()
    assert public.heard.empty()


async def test_a_client_broadcasts_to_the_others_and_to_itself_only_if_it_asks(world: World) -> None:
    """`self` decides whether a sender hears itself."""
    async with world.client() as first, world.client() as second:
        echoing = listen(first, "square", private=False, broadcast={"self": True, "ack": True})
        silent = listen(second, "square", private=False)
        await echoing.subscribe()
        await silent.subscribe()
        await silent.channel.send_broadcast("a", {"from": "second"})
        assert (await echoing.next())["payload"] == {"from": "second"}
        await echoing.channel.send_broadcast("b", {"from": "first"})
        assert (await echoing.next())["payload"] == (await silent.next())["payload"] == {"from": "first"}
    assert silent.heard.empty()


async def test_a_reader_without_the_insert_policy_cannot_broadcast(world: World) -> None:
    """Writing needs its own policy: what a mere reader sends reaches nobody, over the socket and over HTTP."""
    async with world.client(world.token(new_user())) as first, world.client(world.token(new_user())) as second:
        reader, other = listen(first, "hall"), listen(second, "hall")
        assert [await reader.subscribe(), await other.subscribe()] == ["SUBSCRIBED"] * 2
        await reader.channel.send_broadcast("x", {"n": 1})
        with pytest.raises(Exception, match="permissions"):
            await reader.channel.http_send("x", {"n": 2})
        await world.send("hall", {"n": 3})
        assert (await other.next())["payload"]["n"] == 3


async def test_broadcast_over_http(world: World) -> None:
    """`http_send` delivers to a private topic that its sender may write to."""
    user = new_user()
    async with world.client(world.token(user)) as client:
        ear = listen(client, f"user:{user}")
        await ear.subscribe()
        await ear.channel.http_send("über", {"n": [1, 2]})
        message = await ear.next()
    assert (message["event"], message["payload"]) == ("über", {"n": [1, 2]})


async def test_a_token_that_no_longer_authorises_closes_the_channel(world: World) -> None:
    """The policies are asked again for each new token; who may not read any more is told so and closed."""
    user = new_user()
    async with world.client(world.token(user, room="yes")) as client:
        ear = listen(client, "room")
        assert await ear.subscribe() == "SUBSCRIBED"
        await client.realtime.set_auth(world.token(user, 700, room="yes"))
        await world.send("room", {"n": 1})
        assert (await ear.next())["payload"]["n"] == 1
        await client.realtime.set_auth(world.token(user, 800))
        state, error = await ear.state()
        assert state == "CHANNEL_ERROR"
        assert "You do not have permissions to read from this Channel topic: room" in error
        assert (await ear.state())[0] == "CLOSED"


async def test_an_expired_token_closes_its_channel(world: World) -> None:
    """A channel does not outlive the token it was joined with."""
    user = new_user()
    async with world.client(world.token(user, 2)) as client:
        ear = listen(client, f"user:{user}")
        assert await ear.subscribe() == "SUBSCRIBED"
        state, error = await ear.state()
    assert state == "CHANNEL_ERROR"
    assert "Token has expired" in error


async def test_a_refreshed_token_keeps_its_channel(world: World) -> None:
    """A new token moves the end: the channel is still open after the first one would have closed it."""
    user = new_user()
    first_expiry = time.time() + 2
    async with world.client(world.token(user, 2)) as client:
        ear = listen(client, f"user:{user}")
        await ear.subscribe()
        await client.realtime.set_auth(world.token(user, 600))
        await until(lambda: time.time() > first_expiry + 0.2)
        await world.send(f"user:{user}", {"n": 1})
        assert (await ear.next())["payload"]["n"] == 1
    assert ear.states.qsize() <= 1


async def test_presence_is_shared_by_everyone_on_the_topic(world: World) -> None:
    """Who tracks is seen by who is there and by who comes; who leaves is seen to leave."""
    async with world.client() as first, world.client() as second:
        ada, ben = _present(first, "ada"), _present(second, "ben")
        await ada.subscribe()
        assert await ada.next() == {}
        await ada.channel.track({"mood": "calm"})
        assert _moods(await ada.next()) == {"ada": ["calm"]}
        await ben.subscribe()
        assert _moods(await ben.next()) == {"ada": ["calm"]}
        await ben.channel.track({"mood": "busy"})
        assert _moods(await ada.next()) == _moods(await ben.next()) == {"ada": ["calm"], "ben": ["busy"]}
        await ben.channel.track({"mood": "done"})
        assert _moods(await ada.next()) == _moods(await ben.next()) == {"ada": ["calm"], "ben": ["done"]}
        await ben.channel.unsubscribe()
        assert _moods(await ada.next()) == {"ada": ["calm"]}
        await ada.channel.untrack()
        assert await ada.next() == {}


async def test_private_presence_needs_its_policy(world: World) -> None:
    """On a topic where the policy allows broadcast alone, tracking is refused and no state is shown."""
    async with world.client(world.token(new_user())) as client:
        ear = listen(client, "hall", presence={"key": "me", "enabled": True})
        states: asyncio.Queue[object] = asyncio.Queue()
        ear.channel.on_presence_sync(lambda: states.put_nowait(ear.channel.presence_state()))
        assert await ear.subscribe() == "SUBSCRIBED"
        await ear.channel.track({"mood": "hidden"})
        await world.send("hall", {"n": 1})
        await ear.next()
    assert states.empty()


async def test_missed_messages_are_replayed(world: World) -> None:
    """A private channel may ask for what the database sent since a time; it comes first, and marked."""
    user = new_user()
    topic = f"user:{user}"
    await world.send(topic, {"n": 1})
    await world.send(topic, {"n": 2})
    async with world.client(world.token(user)) as client:
        ear = listen(client, topic, broadcast={"replay": {"since": (time.time() - 60) * 1000, "limit": 10}})
        assert await ear.subscribe() == "SUBSCRIBED"
        heard = [await ear.next() for _ in range(2)]
    assert [message["payload"]["n"] for message in heard] == [1, 2]
    assert all(message["meta"]["replayed"] for message in heard)


async def test_a_channel_can_be_left_and_joined_again(world: World) -> None:
    """Leaving ends the messages, joining again brings them back; a second join replaces the first."""
    user = new_user()
    topic = f"user:{user}"
    async with world.client(world.token(user)) as client:
        first = listen(client, topic)
        await first.subscribe()
        await first.channel.unsubscribe()
        assert (await first.state())[0] == "CLOSED"
        await world.send(topic, {"n": 1})
        again = listen(client, topic)
        assert await again.subscribe() == "SUBSCRIBED"
        await world.send(topic, {"n": 2})
        assert (await again.next())["payload"]["n"] == 2
    assert first.heard.empty()


async def test_presence_can_be_added_to_a_joined_channel(world: World) -> None:
    """The SDK then leaves and joins again by itself; our answers must not close what it has just reopened."""
    async with world.client() as client:
        for n in range(10):
            ear = listen(client, f"late {n}", private=False)
            await ear.subscribe()
            ear.channel.on_presence_sync(lambda heard=ear.heard: heard.put_nowait("synced"))  # type: ignore[misc]
            assert await ear.next() == "synced"
            assert ear.channel.is_joined


def _present(client: object, key: str) -> Ear:
    ear = listen(client, "lobby", private=False, presence={"key": key, "enabled": True})  # type: ignore[arg-type]
    ear.channel.on_presence_sync(lambda: ear.heard.put_nowait(dict(ear.channel.presence_state())))
    return ear


def _moods(state: dict[str, list[dict[str, str]]]) -> dict[str, list[str]]:
    return {key: [meta["mood"] for meta in metas] for key, metas in sorted(state.items())}

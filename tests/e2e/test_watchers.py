"""A watch token in the hands of a browser: one session, live, and nothing else of its owner's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from realtime import RealtimeSubscribeStates

from sandstream.access import SupabaseAccess
from sandstream.errors import NotFoundError
from sandstream.watch import watch
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from tests.conftest import Person
from tests.e2e.acting import Actor, acting
from tests.e2e.sandboxes import until
from tests.e2e.test_refusals import assert_refused
from tests.e2e.test_stream import messages

Json = dict[str, Any]
STEP_SECONDS = 30


@pytest.fixture
async def actor(owner: Person) -> AsyncIterator[Actor]:
    """A conversation of the owner's whose runner is the test."""
    async with acting(owner.stack, owner, "hello") as made:
        yield made


@pytest.fixture
async def other(owner: Person) -> AsyncIterator[Actor]:
    """Another one of the same owner's."""
    async with acting(owner.stack, owner, "a secret") as made:
        yield made


async def ask(person: Person, session_id: str, body: Json | None = None) -> httpx.Response:
    """The answer to `POST /v1/sessions/{id}/token`."""
    async with person.endpoints() as http:
        return await http.post(f"/v1/sessions/{session_id}/token", json=body)


async def watcher(person: Person, session_id: str) -> Person:
    """Who got the token from the session's owner."""
    answer = await ask(person, session_id)
    assert answer.status_code == 200, answer.text
    return replace(person, token=answer.json()["token"])


def access(person: Person) -> SupabaseAccess:
    """Supabase with the person's token."""

    async def token() -> str:
        return person.token

    return SupabaseAccess(person.stack.supabase.url, person.stack.keys.publishable_key, token)


async def test_a_token_comes_with_where_to_take_it(owner: Person, actor: Actor) -> None:
    """Everything that a subscriber needs; an hour, or less where less is asked for."""
    told = (await ask(owner, actor.session_id)).json()
    assert (told["type"], told["session_id"]) == ("watch_token", actor.session_id)
    assert told["supabase_url"] == owner.stack.supabase.url
    assert told["publishable_key"] == owner.stack.keys.publishable_key
    assert datetime.fromisoformat(told["expires_at"]) > datetime.now(UTC) + timedelta(minutes=59)
    short = (await ask(owner, actor.session_id, {"expires_in_seconds": 60})).json()
    assert datetime.fromisoformat(short["expires_at"]) <= datetime.now(UTC) + timedelta(seconds=60)
    refused = assert_refused(await ask(owner, actor.session_id, {"expires_in_seconds": 3601}), 400)
    assert refused["param"] == "expires_in_seconds"


async def test_our_watch_follows_one_session_live(owner: Person, actor: Actor, other: Actor) -> None:
    """Each event once, in order, those that are there and those that come; another session is not there at all."""
    watching = access(await watcher(owner, actor.session_id))
    async with asyncio.timeout(STEP_SECONDS):
        async with aclosing(watch(watching, actor.session_id)) as events:
            assert (await anext(events)).type == "user.message"
            seqs = []
            for _ in range(3):
                last = await actor.append("agent.message", content=[])
                while not seqs or seqs[-1] < last:
                    seqs.append((await anext(events)).seq)
        assert seqs == list(range(2, last + 1))
        with pytest.raises(NotFoundError):
            await anext(watch(watching, other.session_id))


@asynccontextmanager
async def supabase_py(person: Person) -> AsyncIterator[AsyncClient]:
    """Supabase's own client with the person's token."""
    stack = person.stack
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
        client = await acreate_client(stack.supabase.url, stack.keys.publishable_key, options)
        client.postgrest.auth(person.token)
        await client.realtime.set_auth(person.token)
        try:
            yield client
        finally:
            await client.remove_all_channels()
            await client.realtime.close()


async def subscribed(client: AsyncClient, session_id: str, heard: asyncio.Queue[Json]) -> RealtimeSubscribeStates:
    """What becomes of the subscription; broadcasts go into `heard`."""
    states: asyncio.Queue[RealtimeSubscribeStates] = asyncio.Queue()
    channel = client.channel(f"session:{session_id}", {"config": {"private": True, "broadcast": {}, "presence": None}})
    channel.on_broadcast("events", heard.put_nowait)
    await channel.subscribe(lambda state, _: states.put_nowait(state))
    return await states.get()


async def test_supabase_py_hears_one_session(owner: Person, actor: Actor, other: Actor) -> None:
    """The unmodified client subscribes to the session's private topic, and is refused another's."""
    heard: asyncio.Queue[Json] = asyncio.Queue()
    async with asyncio.timeout(STEP_SECONDS), supabase_py(await watcher(owner, actor.session_id)) as client:
        assert await subscribed(client, actor.session_id, heard) == RealtimeSubscribeStates.SUBSCRIBED
        assert await subscribed(client, other.session_id, heard) == RealtimeSubscribeStates.CHANNEL_ERROR
        await other.append("agent.message", content=[])
        last = await actor.append("agent.message", content=[])
        payload = (await heard.get())["payload"]
        assert (payload["session_id"], payload["last_seq"]) == (actor.session_id, last)
        rows = (await client.table("agent_events").select("session_id").execute()).data
        assert {row["session_id"] for row in rows} == {actor.session_id}  # type: ignore[index,call-overload]
        sessions = (await client.table("agent_sessions").select("id").execute()).data
        assert sessions == [{"id": actor.session_id}]


async def test_pages_and_the_stream_take_a_watch_token(owner: Person, actor: Actor, other: Actor) -> None:
    """The endpoints' own ways to read are open to it, for its session."""
    async with (await watcher(owner, actor.session_id)).endpoints() as http, asyncio.timeout(STEP_SECONDS):
        path = f"/v1/sessions/{actor.session_id}"
        assert (await http.get(path)).json()["id"] == actor.session_id
        listed = (await http.get(f"{path}/events")).json()["data"]
        async with aclosing(messages(http, actor.session_id)) as events:
            assert [await anext(events) for _ in listed] == listed
            last = await actor.append("agent.message", content=[])
            while (event := await anext(events))["seq"] < last:
                pass
            assert event["type"] == "agent.message"
        for elsewhere in ("", "/events", "/events/stream"):
            assert_refused(await http.get(f"/v1/sessions/{other.session_id}{elsewhere}"), 404)


async def test_a_watch_token_does_nothing_else(owner: Person, actor: Actor) -> None:
    """No other operation, no table but three, no function, no change, no account; nor a token of its own."""
    person = await watcher(owner, actor.session_id)
    path = f"/v1/sessions/{actor.session_id}"
    async with person.endpoints() as http:
        for method, url in [
            ("GET", "/v1/sessions"), ("GET", "/v1/agents"), ("GET", "/v1/keys"), ("GET", f"/v1/runs/{actor.run['id']}"),
            ("POST", "/v1/runs"), ("POST", "/v1/keys"), ("POST", f"{path}/events"), ("POST", path), ("DELETE", path),
            ("POST", f"{path}/token"), ("POST", f"{path}/archive"), ("POST", f"/v1/runs/{actor.run['id']}/cancel"),
        ]:  # fmt: skip
            assert_refused(await http.request(method, url, json={}), 401)
    async with person.tables() as http:
        for table in (
            "agents",
            "environments",
            "sandbox_executions",
            "api_keys",
            "session_secrets",
            "idempotency_keys",
        ):
            assert (await http.get(f"/{table}", params={"select": "count"})).status_code == 403, table
        changed = await http.patch("/agent_sessions", params={"id": f"eq.{actor.session_id}"}, json={"title": "mine"})
        assert changed.status_code == 403
        assert (await http.delete("/agent_events", params={"seq": "gt.0"})).status_code == 403
        for function in ("send_events_v1", "delete_session_v1"):
            arguments = {"session_id": actor.session_id, "request_hash": "0" * 64}
            assert (await http.post(f"/rpc/{function}", json=arguments)).status_code in (403, 404)


async def test_a_watch_token_is_no_sign_in(owner: Person, actor: Actor) -> None:
    """Supabase Auth gives it no account to look at or to change."""
    person = await watcher(owner, actor.session_id)
    headers = {**person.headers, "apikey": owner.stack.keys.publishable_key}
    async with httpx.AsyncClient(base_url=f"{owner.stack.supabase.url}/auth/v1", headers=headers) as http:
        assert (await http.get("/user")).status_code == 403
        assert (await http.put("/user", json={"password": "another one"})).status_code == 403


async def test_a_strangers_session_gets_no_token(stranger: Person, actor: Actor) -> None:
    """It is not there for them."""
    assert_refused(await ask(stranger, actor.session_id), 404, "not_found_error")


async def test_a_reading_key_gets_tokens_that_go_with_it(owner: Person, actor: Actor) -> None:
    """`read` is enough, `run` is not; once the key is revoked the token sees nothing."""
    assert_refused(await ask(await owner.behind_key("run"), actor.session_id), 403, "scope_missing")
    made = await owner.key("read")
    person = await watcher(replace(owner, token=made["key"]), actor.session_id)
    async with person.tables() as tables, owner.endpoints() as http:
        assert len((await tables.get("/agent_sessions", params={"select": "id"})).json()) == 1
        await http.delete(f"/v1/keys/{made['id']}")
        assert (await tables.get("/agent_sessions", params={"select": "id"})).json() == []


async def test_a_token_that_has_ended_opens_nothing(owner: Person, actor: Actor) -> None:
    """Neither at the endpoints nor at Supabase."""
    answer = await ask(owner, actor.session_id, {"expires_in_seconds": 1})
    person = replace(owner, token=answer.json()["token"])
    async with person.tables() as tables, person.endpoints() as http:

        async def ended() -> bool:
            return (await tables.get("/agent_events")).status_code == 401

        await until(ended, "the token's end")

        async def refused() -> bool:
            return (await http.get(f"/v1/sessions/{actor.session_id}")).status_code == 401

        await until(refused, "the endpoints' leeway to pass")

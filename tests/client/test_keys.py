"""The client behind an API key: what it asks the endpoints for, and how it follows a session with their tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandstream import ConflictError, NotAuthenticatedError, NotFoundError, Sandstream
from sandstream.keys import is_key
from tests.client.fake_endpoints import FakeEndpoints, refused, serving
from tests.client.world import PUBLISHABLE_KEY, Deployment, Person, World

pytestmark = pytest.mark.usefixtures("quick")

KEY: dict[str, Any] = {
    "type": "api_key", "id": "key_1", "name": "ci", "prefix": "sst_aaaaaaaa", "scopes": ["read"], "expires_at": None,
    "last_used_at": None, "revoked_at": None, "created_at": "2026-11-21T08:00:00.123456+00:00",
}  # fmt: skip
SECRET = f"sst_{'a' * 43}"


@dataclass
class Minting(FakeEndpoints):
    """Endpoints that give watch tokens to a person's key, each for so many seconds, until they are told not to."""

    person: Person | None = None
    seconds: int = 3600
    revoked: bool = False

    async def answer(self, request: Request) -> Response:
        """A token of the session that the path names."""
        answer = await super().answer(request)
        if not request.url.path.endswith("/token"):
            return answer
        return refused(401, "invalid_key") if self.revoked else self._token(request.url.path.split("/")[3])

    def _token(self, session_id: str) -> Response:
        assert self.person is not None
        ends = datetime.fromtimestamp(time.time() + self.seconds, UTC)
        told = {
            "token": self.person.watch_token(session_id, self.seconds), "session_id": session_id,
            "expires_at": ends.isoformat(), **self.config,
        }  # fmt: skip
        return JSONResponse(told)


@pytest.fixture
async def minting(world: World) -> AsyncIterator[Minting]:
    config = {"supabase_url": world.supabase.url, "publishable_key": PUBLISHABLE_KEY}
    async with serving(Minting(config, person=await world.person())) as scripted:
        assert isinstance(scripted, Minting)
        scripted.script(JSONResponse({}))
        yield scripted


def test_a_key_is_known_by_its_mark() -> None:
    """A JWT is none."""
    assert is_key(SECRET)
    assert not is_key("eyJhbGciOiJFUzI1NiJ9.e30.AAAA")


async def test_keys_are_made_listed_and_revoked(minting: Minting) -> None:
    """Each by its path; a new key is asked for with an idempotency key, and its secret is not shown by accident."""
    page = {"data": [KEY], "has_more": True, "next_cursor": "c"}
    minting.script(JSONResponse(KEY | {"key": SECRET}, 201), JSONResponse(page), JSONResponse(KEY))
    async with Sandstream(minting.url, "a-token") as client:
        made = await client.keys.create("ci", ["read"], expires_at=datetime(2999, 1, 1, tzinfo=UTC))
        listed = await client.keys.list(limit=1, after="b")
        await client.keys.revoke("key_1")
    create, pages, revoke = minting.asked
    assert (made.key, made.id) == (SECRET, "key_1")
    assert SECRET not in repr(made)
    assert create.body == {"name": "ci", "scopes": ["read"], "expires_at": "2999-01-01T00:00:00+00:00"}
    assert create.headers["idempotency-key"]
    assert (pages.query, listed.data[0].name, listed.next_cursor) == ({"limit": "1", "after": "b"}, "ci", "c")
    assert [(asked.method, asked.path) for asked in minting.asked] == [
        ("POST", "/v1/keys"), ("GET", "/v1/keys"), ("DELETE", "/v1/keys/key_1"),
    ]  # fmt: skip
    assert revoke.body is None


async def test_a_secret_that_was_lost_on_the_way_is_said_to_be(minting: Minting) -> None:
    """The request is repeated with its key, and the refusal of that is the caller's to know."""
    minting.script(None, refused(409, "secret_not_shown_again", x_should_retry="false"))
    async with Sandstream(minting.url, "a-token") as client:
        with pytest.raises(ConflictError) as told:
            await client.keys.create("ci")
    assert told.value.type == "secret_not_shown_again"
    first, second = minting.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_a_watch_behind_a_key_takes_a_token_for_the_session(minting: Minting) -> None:
    """One, for this session; the key goes to the endpoints and nowhere else."""
    assert minting.person is not None
    run = await minting.person.admit()
    await run.append(2)
    await run.finish()
    async with Sandstream(minting.url, SECRET) as client, asyncio.timeout(60):
        seqs = [event.seq async for event in client.watch(run.session_id)]
    assert seqs == list(range(1, run.last_seq + 1))
    assert [(asked.method, asked.path) for asked in minting.asked] == [("POST", f"/v1/sessions/{run.session_id}/token")]
    assert minting.asked[0].headers["authorization"] == f"Bearer {SECRET}"


async def test_a_watch_with_a_users_token_asks_for_none(minting: Minting) -> None:
    """Who signed in goes on as before."""
    assert minting.person is not None
    run = await minting.person.admit()
    await run.finish()
    async with Sandstream(minting.url, minting.person.token) as client, asyncio.timeout(60):
        assert [event.seq async for event in client.watch(run.session_id)]
    assert minting.asked == []


async def test_a_token_is_renewed_before_it_ends(minting: Minting) -> None:
    """A watch outlives its tokens: it goes on, event by event, over several of them."""
    assert minting.person is not None
    minting.seconds = 3
    run = await minting.person.admit()
    seqs: list[int] = []
    client = Sandstream(minting.url, SECRET)
    async with client, aclosing(client.watch(run.session_id)) as events, asyncio.timeout(60):
        while len(minting.asked) < 4:
            last = await run.append()
            while not seqs or seqs[-1] < last:
                seqs.append((await anext(events)).seq)
    assert seqs == list(range(1, last + 1))


async def test_a_watch_ends_with_its_key(minting: Minting) -> None:
    """Once there is no other token, the watch says so instead of waiting for ever."""
    assert minting.person is not None
    minting.seconds = 2
    run = await minting.person.admit()
    client = Sandstream(minting.url, SECRET)
    async with client, aclosing(client.watch(run.session_id)) as events, asyncio.timeout(60):
        assert (await anext(events)).seq == 1
        minting.revoked = True
        with pytest.raises(NotAuthenticatedError):
            await anext(events)


async def test_a_real_key_watches_its_owners_session(world: World, deployment: Deployment) -> None:
    """Against the endpoints themselves: made, used, renewed by hand, and of no use for another's session."""
    person, stranger = await world.person(), await world.person()
    run, another = await person.admit(), await stranger.admit()
    await run.finish()
    async with Sandstream(deployment.url, person.token) as owner:
        made = await owner.keys.create("ci", ["read"])
    async with Sandstream(deployment.url, made.key) as client, asyncio.timeout(60):
        seqs = [event.seq async for event in client.watch(run.session_id)]
        assert seqs == list(range(1, run.last_seq + 1))
        assert (await client.watch_token(run.session_id, 60)).session_id.hex == run.session_id.replace("-", "")
        with pytest.raises(NotFoundError):
            await anext(client.watch(another.session_id))
    async with Sandstream(deployment.url, person.token) as owner:
        assert [key.id for key in (await owner.keys.list()).data] == [made.id]
        assert (await owner.keys.revoke(made.id)).revoked_at is not None

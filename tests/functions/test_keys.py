"""API keys as callers: what their secrets look like, how often the database is asked, and what is minted for them."""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from pydantic import ValidationError

from functions import keys as module
from functions.errors import NotAuthenticated, StoreUnavailable
from functions.identity import Caller, Users
from functions.keys import KeyRequest, Keys, hashed, new_secret
from functions.settings import Settings
from functions.store import Store
from tests.functions.conftest import ISSUER, SigningKey


class Rest:
    """Supabase's REST at the wire: it knows some hashes, counts what it is asked, and can be away."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.refusal: httpx.Response | None = None
        self.asked: list[str] = []
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/rest/v1/rpc/use_key_v1"
        assert request.headers["apikey"] == "sb_secret_canary"
        hash = json.loads(request.content)["hash"]
        self.asked.append(hash)
        self.heard.put_nowait(hash)
        row = self.known.get(hash)
        await self.go_on.wait()
        if self.refusal is not None:
            return self.refusal
        return httpx.Response(200, json=row) if row else refusal("PT401", "invalid_key")

    def make(self, *scopes: str, expires_in: float | None = None) -> str:
        """A key's secret."""
        secret = new_secret()
        ends = datetime.now(UTC) + timedelta(seconds=expires_in) if expires_in else None
        self.known[hashed(secret)] = {
            "id": "key_1", "owner": str(uuid4()), "scopes": list(scopes), "expires_at": ends and ends.isoformat(),
        }  # fmt: skip
        return secret

    def keys(self, settings: Settings) -> Keys:
        return Keys(settings, Store(settings, httpx.AsyncClient(transport=httpx.MockTransport(self))))


def refusal(code: str, message: str) -> httpx.Response:
    return httpx.Response(401, json={"code": code, "message": message, "details": None, "hint": None})


@pytest.fixture
async def rest() -> Rest:
    return Rest()


def a_second_later(keys: Keys, secret: str) -> None:
    """As if the last question had been put a second ago."""
    asked = keys._asked[hashed(secret)]
    keys._asked[hashed(secret)] = replace(asked, at=asked.at - module.ASK_EVERY_SECONDS)


def claims_of(caller: Caller) -> dict[str, Any]:
    return dict(jwt.decode(caller.token, options={"verify_signature": False}))


def test_a_secret_has_256_bits_and_a_mark() -> None:
    """`sst_` and 43 characters that need no quoting; no two are alike."""
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"sst_[A-Za-z0-9_-]{43}", secret) for secret in made)


async def test_a_key_is_its_owner(rest: Rest, settings: Settings, signing_key: SigningKey) -> None:
    """With its scopes, and a token that Supabase takes for one of its own: role, audience, issuer, subject, an hour."""
    secret = rest.make("read", "run")
    caller = await rest.keys(settings).verify(secret)
    row = rest.known[hashed(secret)]
    assert (caller.owner, caller.scopes) == (UUID(row["owner"]), {"read", "run"})
    claims = jwt.decode(
        caller.token, signing_key.private.public_key(), ["ES256"], audience="authenticated", issuer=ISSUER
    )
    assert jwt.get_unverified_header(caller.token)["kid"] == signing_key.kid
    assert claims.pop("exp") - claims.pop("iat") == module.TOKEN_SECONDS
    assert claims == {
        "role": "authenticated", "aud": "authenticated", "iss": ISSUER, "sub": row["owner"], "key_id": "key_1",
        "scopes": ["read", "run"],
    }  # fmt: skip


async def test_a_project_with_the_legacy_secret_has_keys_too(rest: Rest, settings: Settings) -> None:
    """The token for a key is then HS256, as run tokens are."""
    changed = {**settings.model_dump(), "run_token_key": None, "supabase_jwt_secret": "s" * 40}
    caller = await rest.keys(Settings.model_validate(changed)).verify(rest.make("read"))
    assert jwt.decode(caller.token, "s" * 40, ["HS256"], audience="authenticated")["key_id"] == "key_1"


async def test_the_database_is_asked_once_a_second(rest: Rest, settings: Settings) -> None:
    """However many requests show the key, together or one after another; the secret itself is never sent."""
    keys, secret = rest.keys(settings), rest.make("read")
    callers = await asyncio.gather(*(keys.verify(secret) for _ in range(50)))
    await keys.verify(secret)
    assert len(set(callers)) == 1
    assert rest.asked == [hashed(secret)]
    a_second_later(keys, secret)
    await keys.verify(secret)
    assert len(rest.asked) == 2


async def test_a_revoked_key_is_refused_after_a_second(rest: Rest, settings: Settings) -> None:
    """And stays refused, without a question for each attempt."""
    keys, secret = rest.keys(settings), rest.make("read")
    await keys.verify(secret)
    rest.known.clear()
    a_second_later(keys, secret)
    for _ in range(10):
        with pytest.raises(NotAuthenticated) as refused:
            await keys.verify(secret)
        assert refused.value.type == "invalid_key"
    assert len(rest.asked) == 2


async def test_the_second_begins_when_the_question_is_put(rest: Rest, settings: Settings) -> None:
    """A slow answer tells of the past: a key that was revoked meanwhile does not gain the time that it took."""
    keys, secret = rest.keys(settings), rest.make("read")
    rest.go_on.clear()
    first = asyncio.create_task(keys.verify(secret))
    await rest.heard.get()
    rest.known.clear()
    a_second_later(keys, secret)
    second = asyncio.create_task(keys.verify(secret))
    await rest.heard.get()
    rest.go_on.set()
    assert (await first).scopes == {"read"}
    with pytest.raises(NotAuthenticated):
        await second


async def test_a_client_that_leaves_takes_nothing_from_the_others(rest: Rest, settings: Settings) -> None:
    """The one question goes on when the request that put it is cancelled."""
    keys, secret = rest.keys(settings), rest.make("read")
    rest.go_on.clear()
    first, second = (asyncio.create_task(keys.verify(secret)) for _ in range(2))
    await rest.heard.get()
    first.cancel()
    rest.go_on.set()
    assert (await second).scopes == {"read"}
    assert len(rest.asked) == 1


async def test_the_token_is_kept_while_half_of_its_life_is_left(rest: Rest, settings: Settings) -> None:
    """Supabase remembers what it has verified; a token that is running out, or says too much, is replaced."""
    keys, secret = rest.keys(settings), rest.make("read", "run")
    first = await keys.verify(secret)
    a_second_later(keys, secret)
    assert (await keys.verify(secret)).token == first.token
    rest.known[hashed(secret)]["scopes"] = ["read"]
    a_second_later(keys, secret)
    assert claims_of(await keys.verify(secret))["scopes"] == ["read"]


async def test_a_token_that_is_running_out_is_replaced(
    rest: Rest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is let in has half an hour at least to read a stream."""
    keys, secret = rest.keys(settings), rest.make("read")
    monkeypatch.setattr(module, "TOKEN_SECONDS", 1700)
    assert claims_of(await keys.verify(secret))["exp"] < time.time() + 1701
    monkeypatch.undo()
    a_second_later(keys, secret)
    assert claims_of(await keys.verify(secret))["exp"] > time.time() + 3500


async def test_a_token_does_not_outlive_its_key(rest: Rest, settings: Settings) -> None:
    """A key that ends in a minute opens no stream of an hour."""
    caller = await rest.keys(settings).verify(rest.make("read", expires_in=60))
    assert claims_of(caller)["exp"] <= time.time() + 60


async def test_what_is_minted_for_a_key_opens_nothing_by_itself(
    rest: Rest, settings: Settings, signing_key: SigningKey
) -> None:
    """It never leaves the endpoints, and would know neither scopes nor revocation if it came back."""
    caller = await rest.keys(settings).verify(rest.make("read"))
    listed = httpx.MockTransport(lambda _: httpx.Response(200, json={"keys": [signing_key.public_jwk()]}))
    with pytest.raises(NotAuthenticated):
        await Users(settings, httpx.AsyncClient(transport=listed)).verify(caller.token)


@pytest.mark.parametrize(
    "secret", ["sst_", "sst_short", f"sst_{'a' * 44}", f"sst_{'a' * 42}/", f"sst_{'a' * 43}\n", f"SST_{'a' * 43}"]
)
async def test_what_is_no_secret_is_refused_without_a_question(secret: str, rest: Rest, settings: Settings) -> None:
    """Nobody can make the database work with rubbish."""
    with pytest.raises(NotAuthenticated):
        await rest.keys(settings).verify(secret)
    assert rest.asked == []


@pytest.mark.parametrize("refused", [httpx.Response(500), refusal("PGRST301", "No suitable key")], ids=["500", "ours"])
async def test_a_database_that_is_away_is_not_the_keys_fault(
    refused: httpx.Response, rest: Rest, settings: Settings
) -> None:
    """503, not 401, also when it is our own key that Supabase refuses; and the key holds again afterwards."""
    keys, secret = rest.keys(settings), rest.make("read")
    rest.refusal = refused
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await keys.verify(secret)
    rest.refusal = None
    a_second_later(keys, secret)
    assert (await keys.verify(secret)).scopes == {"read"}


async def test_made_up_keys_do_not_fill_the_memory(
    rest: Rest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for longest ago is forgotten."""
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    keys = rest.keys(settings)
    for _ in range(10):
        with pytest.raises(NotAuthenticated):
            await keys.verify(new_secret())
    assert len(keys._asked) == 3


@pytest.mark.parametrize("is_away", [False, True], ids=["revoked", "unknown"])
async def test_a_stream_ends_with_its_key(is_away: bool, rest: Rest, settings: Settings) -> None:
    """No message follows a revocation that is a second old, nor one that nobody can rule out; its source is let go."""
    keys, secret, closed = rest.keys(settings), rest.make("read"), asyncio.Event()
    caller = await keys.verify(secret)

    async def messages() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"event"
        finally:
            closed.set()

    heard = 0
    async for _ in keys.while_valid(caller, messages()):
        heard += 1
        if heard == 3:
            rest.known.clear()
            rest.refusal = httpx.Response(500) if is_away else None
            a_second_later(keys, secret)
    assert heard == 3
    assert closed.is_set()


async def test_a_users_stream_asks_for_no_key(rest: Rest, settings: Settings) -> None:
    """Who came with a token of their own is none of the keys' business."""

    async def messages() -> AsyncGenerator[bytes, None]:
        yield b"event"

    found = [each async for each in rest.keys(settings).while_valid(Caller(uuid4(), "a.users.token"), messages())]
    assert (found, rest.asked) == ([b"event"], [])


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": []}, {"scopes": ["root"]}, {"scopes": ["read", "read"]}, {"scopes": "read"}, {"name": ""},
        {"name": "x" * 201}, {"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "tomorrow"}, {"owner": "me"},
    ],
    ids=str,
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    """A key has a name, scopes that there are, and an end that is still to come."""
    with pytest.raises(ValidationError):
        KeyRequest.model_validate({"name": "ci", "scopes": ["read"], **change})


def test_an_end_without_a_zone_is_utc() -> None:
    """As every time that the endpoints are told."""
    asked = KeyRequest.model_validate({"name": "ci", "scopes": ["read"], "expires_at": "2999-01-01T00:00:00"})
    assert asked.model_dump(mode="json")["expires_at"] == "2999-01-01T00:00:00Z"

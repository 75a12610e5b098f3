"""Watch tokens: what they say, what they are taken for, and what they are not."""

import time
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from pydantic import ValidationError

from functions.errors import NotAuthenticated
from functions.identity import Caller, RunGrant, RunTokens, ShownKey, Users
from functions.settings import Settings
from functions.watch_tokens import WatchRequest, WatchTokens, is_watch_token
from tests.functions.conftest import SUPABASE_URL, SigningKey, user_claims
from tests.tokens import unsigned

OWNER = Caller(uuid4(), "the.owners.token")
SESSION = uuid4()


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_a_token_says_whose_session_it_is_for(settings: Settings, signing_key: SigningKey) -> None:
    """Role, audience, subject and session, and nothing that a user's token has; signed so that Supabase takes it."""
    minted = WatchTokens(settings).mint(SESSION, OWNER, 60)
    public = signing_key.private.public_key()
    claims = jwt.decode(minted.token, public, ["ES256"], audience="watcher", issuer="sandstream")
    assert jwt.get_unverified_header(minted.token)["kid"] == signing_key.kid
    assert claims.pop("exp") - claims.pop("iat") == 60
    assert claims == {
        "role": "watcher", "aud": "watcher", "iss": "sandstream", "sub": str(OWNER.owner), "session_id": str(SESSION),
    }  # fmt: skip
    assert minted.expires_at.timestamp() == claims_of(minted.token)["exp"]
    assert (minted.session_id, minted.supabase_url) == (SESSION, SUPABASE_URL)
    assert minted.publishable_key == "sb_publishable_canary"


def test_a_token_names_the_key_that_asked_for_it(settings: Settings) -> None:
    """So that it goes with the key."""
    minted = WatchTokens(settings).mint(SESSION, replace(OWNER, key=ShownKey("key_1", "0" * 64)), 60)
    assert claims_of(minted.token)["key_id"] == "key_1"


def test_a_token_comes_back_as_a_reader(settings: Settings) -> None:
    """The session's owner, who may read, as far as this very token sees."""
    tokens = WatchTokens(settings)
    minted = tokens.mint(SESSION, OWNER, 60)
    assert tokens.verify(minted.token) == Caller(OWNER.owner, minted.token, frozenset({"read"}))


def test_an_expired_token_is_refused(settings: Settings) -> None:
    """A watch token ends with its lifetime."""
    tokens = WatchTokens(settings)
    with pytest.raises(NotAuthenticated):
        tokens.verify(tokens.mint(SESSION, OWNER, -60).token)


@pytest.mark.parametrize("claim", ["sub", "session_id", "aud", "iss", "exp"])
def test_a_token_must_say_everything(claim: str, settings: Settings, signing_key: SigningKey) -> None:
    """A token of our key that lacks a claim watches nothing."""
    tokens = WatchTokens(settings)
    claims = claims_of(tokens.mint(SESSION, OWNER, 60).token)
    del claims[claim]
    with pytest.raises(NotAuthenticated):
        tokens.verify(signing_key.sign(claims))


def test_an_imitation_is_refused(settings: Settings, signing_key: SigningKey) -> None:
    """Unsigned, or signed by another key with the known id."""
    tokens = WatchTokens(settings)
    claims = claims_of(tokens.mint(SESSION, OWNER, 60).token)
    for imitation in (unsigned(claims), unsigned(claims, "ES256"), SigningKey(signing_key.kid).sign(claims)):
        assert is_watch_token(imitation)
        with pytest.raises(NotAuthenticated):
            tokens.verify(imitation)


async def test_no_token_passes_for_another(settings: Settings, signing_key: SigningKey) -> None:
    """Signed by the same key, a watcher is no user and no runner, and neither of them is a watcher."""
    watch, runs = WatchTokens(settings), RunTokens(settings)
    listed = httpx.MockTransport(lambda _: httpx.Response(200, json={"keys": [signing_key.public_jwk()]}))
    minted = watch.mint(SESSION, OWNER, 60).token
    with pytest.raises(NotAuthenticated):
        await Users(settings, httpx.AsyncClient(transport=listed)).verify(minted)
    with pytest.raises(NotAuthenticated):
        runs.verify(minted)
    for other in (runs.mint(RunGrant(uuid4(), SESSION, 1), 60), signing_key.sign(user_claims())):
        assert not is_watch_token(other)
        with pytest.raises(NotAuthenticated):
            watch.verify(other)


@pytest.mark.parametrize("rubbish", ["", "x", "a.b.c", "é.é.é", f"sst_{'a' * 43}", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"])
def test_rubbish_is_no_watch_token(rubbish: str) -> None:
    """What is not a JWT, or says nothing, is left to those who know other credentials."""
    assert not is_watch_token(rubbish)


def test_a_project_with_the_legacy_secret_has_watchers_too(settings: Settings) -> None:
    """The token is then HS256, as run tokens are."""
    changed = {**settings.model_dump(), "run_token_key": None, "supabase_jwt_secret": "s" * 40}
    tokens = WatchTokens(Settings.model_validate(changed))
    minted = tokens.mint(SESSION, OWNER, 60)
    assert jwt.get_unverified_header(minted.token)["alg"] == "HS256"
    assert tokens.verify(minted.token).owner == OWNER.owner


@pytest.mark.parametrize("seconds", [0, -1, 3601, 1.5, "60", None])
def test_an_hour_is_the_most(seconds: Any) -> None:
    """And a second the least; without a word it is an hour."""
    with pytest.raises(ValidationError):
        WatchRequest.model_validate({"expires_in_seconds": seconds})
    assert WatchRequest().expires_in_seconds == 3600


def test_a_token_lives_as_long_as_was_asked(settings: Settings) -> None:
    """Not longer, whoever asks."""
    minted = WatchTokens(settings).mint(UUID(int=1), OWNER, 5)
    assert time.time() < minted.expires_at.timestamp() <= time.time() + 5

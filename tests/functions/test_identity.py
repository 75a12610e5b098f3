"""Who is let in: users by Supabase's keys, runners by ours, and nobody by a trick with the header."""

import json
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.errors import NotAuthenticated, StoreUnavailable
from functions.identity import RunGrant, RunTokens, Users
from functions.settings import Settings
from tests.functions.conftest import SigningKey, user_claims
from tests.tokens import hmac_signed, unsigned


class Jwks:
    """Supabase's JWKS endpoint at the wire: what it lists can change, it can fail, and it counts its requests."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.failing = False
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        assert request.url.path == "/auth/v1/.well-known/jwks.json"
        return httpx.Response(500) if self.failing else httpx.Response(200, json={"keys": self.keys})

    def users(self, settings: Settings) -> Users:
        return Users(settings, httpx.AsyncClient(transport=httpx.MockTransport(self)))


@pytest.fixture
def jwks(signing_key: SigningKey) -> Jwks:
    return Jwks(signing_key.public_jwk())


def grant() -> RunGrant:
    return RunGrant(uuid4(), uuid4(), 1)


async def test_a_user_signed_by_supabase_is_let_in(jwks: Jwks, settings: Settings, signing_key: SigningKey) -> None:
    """A valid JWT gives its subject as owner, and goes on being the caller's own token."""
    claims = user_claims()
    token = signing_key.sign(claims)
    caller = await jwks.users(settings).verify(token)
    assert (caller.owner, caller.token) == (UUID(claims["sub"]), token)


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "runner"},
        {"aud": ["other"]},
        {"iss": "https://elsewhere.test/auth/v1"},
        {"exp": int(time.time()) - 60},
        {"role": "service_role"},
        {"role": "anon"},
        {"role": "runner"},
        {"sub": "not-a-uuid"},
        {"nbf": int(time.time()) + 3600},
    ],
    ids=lambda change: "-".join(change),
)
async def test_a_wrong_claim_is_refused(
    change: dict[str, Any], jwks: Jwks, settings: Settings, signing_key: SigningKey
) -> None:
    """Audience, issuer, expiry, role and subject must all be right, whoever signed."""
    with pytest.raises(NotAuthenticated):
        await jwks.users(settings).verify(signing_key.sign(user_claims(**change)))


@pytest.mark.parametrize("claim", ["exp", "sub", "aud", "iss", "role"])
async def test_a_missing_claim_is_refused(claim: str, jwks: Jwks, settings: Settings, signing_key: SigningKey) -> None:
    """A claim that is not there does not count as right."""
    claims = user_claims()
    del claims[claim]
    with pytest.raises(NotAuthenticated):
        await jwks.users(settings).verify(signing_key.sign(claims))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "ES256"])
async def test_an_unsigned_token_is_refused(algorithm: str, jwks: Jwks, settings: Settings) -> None:
    """No signature, whatever the header calls it, is no signature."""
    with pytest.raises(NotAuthenticated):
        await jwks.users(settings).verify(unsigned(user_claims(), algorithm))


async def test_the_public_key_is_no_hmac_secret(jwks: Jwks, settings: Settings, signing_key: SigningKey) -> None:
    """Key confusion: a token signed with HS256 and the published key, in any encoding, is refused."""
    public = signing_key.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, json.dumps(signing_key.public_jwk()).encode()):
        token = hmac_signed(user_claims(), secret, signing_key.kid)
        with pytest.raises(NotAuthenticated):
            await jwks.users(settings).verify(token)


async def test_another_key_with_a_known_id_is_refused(jwks: Jwks, settings: Settings, signing_key: SigningKey) -> None:
    """The id only chooses the key; the signature must be that key's."""
    with pytest.raises(NotAuthenticated):
        await jwks.users(settings).verify(SigningKey(signing_key.kid).sign(user_claims()))


async def test_the_header_cannot_choose_another_algorithm_for_a_key(settings: Settings) -> None:
    """An RSA key that is listed for RS256 verifies nothing that calls itself ES256."""
    private = rsa.generate_private_key(65537, 2048)
    listed = {**jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": "rsa", "alg": "RS256"}
    users = Jwks(listed).users(settings)
    claims = user_claims()
    accepted = await users.verify(jwt.encode(claims, private, "RS256", headers={"kid": "rsa"}))
    assert accepted.owner == UUID(claims["sub"])
    with pytest.raises(NotAuthenticated):
        await users.verify(SigningKey("rsa").sign(claims))


async def test_a_key_that_was_rotated_in_is_learnt(jwks: Jwks, settings: Settings, signing_key: SigningKey) -> None:
    """An unknown key id asks Supabase once more, but made-up ids do not make it ask each time."""
    users = jwks.users(settings)
    await users.verify(signing_key.sign(user_claims()))
    for _ in range(20):
        with pytest.raises(NotAuthenticated):
            await users.verify(SigningKey(f"made-up-{uuid4()}").sign(user_claims()))
    assert jwks.requests == 1
    users._fetched_at -= 60
    newer = SigningKey("key-2")
    jwks.keys.append(newer.public_jwk())
    await users.verify(newer.sign(user_claims()))
    assert jwks.requests == 2


async def test_known_keys_outlive_an_outage(jwks: Jwks, settings: Settings, signing_key: SigningKey) -> None:
    """With Auth away, users whose key is known are let in; with no key at all it is our failure, not theirs."""
    users = jwks.users(settings)
    jwks.failing = True
    with pytest.raises(StoreUnavailable):
        await users.verify(signing_key.sign(user_claims()))
    jwks.failing = False
    await users.verify(signing_key.sign(user_claims()))
    jwks.failing = True
    users._fetched_at -= 10_000
    await users.verify(signing_key.sign(user_claims()))


async def test_the_legacy_secret_counts_only_where_it_is_set(jwks: Jwks, settings: Settings) -> None:
    """HS256 is accepted with the project's secret and refused without one."""
    secret = "a-legacy-secret-of-at-least-32-bytes"
    token = jwt.encode(user_claims(), secret, "HS256")
    with pytest.raises(NotAuthenticated):
        await jwks.users(settings).verify(token)
    legacy = Settings.model_validate({**settings.model_dump(), "supabase_jwt_secret": secret})
    await jwks.users(legacy).verify(token)
    with pytest.raises(NotAuthenticated):
        await jwks.users(legacy).verify(jwt.encode(user_claims(), "x" * 40, "HS256"))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é.é.é", "." * 10, "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"])
async def test_rubbish_is_refused(token: str, jwks: Jwks, settings: Settings) -> None:
    """What is not a JWT is refused, not an error of ours."""
    with pytest.raises(NotAuthenticated):
        await jwks.users(settings).verify(token)


def test_a_run_token_comes_back_as_its_grant(settings: Settings) -> None:
    """What was minted for a run and an epoch stands for exactly those."""
    tokens, minted = RunTokens(settings), grant()
    assert tokens.verify(tokens.mint(minted, 60)) == minted


def test_an_hs256_deployment_mints_too(settings: Settings) -> None:
    """A project without signing keys signs run tokens with its legacy secret."""
    changed = {**settings.model_dump(), "run_token_key": None, "supabase_jwt_secret": "s" * 40}
    tokens, minted = RunTokens(Settings.model_validate(changed)), grant()
    token = tokens.mint(minted, 60)
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    assert tokens.verify(token) == minted
    with pytest.raises(NotAuthenticated):
        RunTokens(settings).verify(token)


def test_an_expired_run_token_is_refused(settings: Settings) -> None:
    """A run token ends with its lifetime."""
    tokens = RunTokens(settings)
    with pytest.raises(NotAuthenticated):
        tokens.verify(tokens.mint(grant(), -60))


async def test_neither_token_passes_for_the_other(jwks: Jwks, settings: Settings, signing_key: SigningKey) -> None:
    """Signed by the same key, a user's token is no runner's and a runner's no user's."""
    tokens = RunTokens(settings)
    with pytest.raises(NotAuthenticated):
        tokens.verify(signing_key.sign(user_claims()))
    with pytest.raises(NotAuthenticated):
        await jwks.users(settings).verify(tokens.mint(grant(), 60))


@pytest.mark.parametrize("claim", ["run_id", "session_id", "epoch", "aud", "iss", "exp"])
def test_a_run_token_must_say_everything(claim: str, settings: Settings, signing_key: SigningKey) -> None:
    """A token of our key that lacks a claim stands for no run."""
    tokens = RunTokens(settings)
    claims = jwt.decode(tokens.mint(grant(), 60), options={"verify_signature": False})
    del claims[claim]
    with pytest.raises(NotAuthenticated):
        tokens.verify(signing_key.sign(claims))

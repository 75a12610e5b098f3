"""Who is calling: users by Supabase's JWT; runners, and those who watch one session, by tokens that we minted."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import httpx
import jwt

from functions.errors import NotAuthenticated, StoreUnavailable
from functions.settings import Settings

USER_AUDIENCE = "authenticated"
RUNNER = "runner"
# Names the API key in the tokens that stand for one.
KEY_CLAIM = "key_id"
RUN_TOKEN_ISSUER = "sandstream"  # noqa: S105 the name of the issuer, not a secret
CLOCK_SKEW_SECONDS = 5
JWKS_MAX_AGE_SECONDS = 600
# An unknown key id asks Supabase again, but not more often than this: anyone can send made-up ids.
JWKS_MIN_AGE_SECONDS = 5
ASYMMETRIC = ("ES256", "RS256")

# What a caller may do: start, say and stop; read and stream; keep the account's keys.
Scope = Literal["run", "read", "admin"]
SCOPES: tuple[Scope, ...] = ("run", "read", "admin")


@dataclass(frozen=True)
class ShownKey:
    """The API key that a caller showed: its id, and its secret's hash."""

    id: str
    hash: str = field(repr=False)


@dataclass(frozen=True)
class Caller:
    """Who calls. `token` is a JWT of theirs: what is done for them is done as them, and RLS decides what they see."""

    owner: UUID
    token: str
    scopes: frozenset[Scope] = frozenset(SCOPES)
    key: ShownKey | None = None


@dataclass(frozen=True)
class RunGrant:
    """What a run token stands for."""

    run_id: UUID
    session_id: UUID
    epoch: int


class Signer:
    """Signs tokens that Supabase accepts: ES256 with our own key, or HS256 with the project's legacy secret."""

    def __init__(self, settings: Settings) -> None:
        if settings.run_token_key is not None:
            key = jwt.PyJWK(json.loads(settings.run_token_key.get_secret_value()), "ES256")
            self._algorithm, self._kid = "ES256", key.key_id
            self._private: Any = key.key
            self._public: Any = key.key.public_key()
        elif settings.supabase_jwt_secret is not None:
            self._algorithm, self._kid = "HS256", None
            self._private = self._public = settings.supabase_jwt_secret.get_secret_value()

    def sign(self, claims: dict[str, Any], lifetime_seconds: int) -> str:
        """A token with these claims, good from now on for so long."""
        now = int(time.time())
        headers = {"kid": self._kid} if self._kid else None
        timed = {**claims, "iat": now, "exp": now + lifetime_seconds}
        return jwt.encode(timed, self._private, self._algorithm, headers=headers)

    def claims(self, token: str, audience: str, required: tuple[str, ...]) -> dict[str, Any]:
        """What a token of ours says. Raises jwt.PyJWTError unless it is whole, for this audience and in time."""
        return jwt.decode(
            token,
            self._public,
            algorithms=[self._algorithm],
            audience=audience,
            issuer=RUN_TOKEN_ISSUER,
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["exp", "aud", "iss", *required]},
        )


class RunTokens:
    """Mints and verifies the tokens of runners."""

    def __init__(self, settings: Settings) -> None:
        self._signer = Signer(settings)

    def mint(self, grant: RunGrant, lifetime_seconds: int) -> str:
        """A token that can append, heartbeat and finish for this run and epoch, for so long."""
        claims = {
            "role": RUNNER,
            "aud": RUNNER,
            "iss": RUN_TOKEN_ISSUER,
            "sub": str(grant.run_id),
            "run_id": str(grant.run_id),
            "session_id": str(grant.session_id),
            "epoch": grant.epoch,
        }
        return self._signer.sign(claims, lifetime_seconds)

    def verify(self, token: str) -> RunGrant:
        """Raises NotAuthenticated for anything but a run token of ours that has not expired."""
        try:
            claims = self._signer.claims(token, RUNNER, ("run_id", "session_id", "epoch"))
            return RunGrant(UUID(claims["run_id"]), UUID(claims["session_id"]), int(claims["epoch"]))
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise NotAuthenticated("the run token is not valid") from error


class Users:
    """Verifies users' tokens by the project's JWKS, or by its legacy secret where that is set."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._issuer = settings.issuer
        self._jwks_url = f"{settings.supabase_url}/auth/v1/.well-known/jwks.json"
        self._secret = settings.supabase_jwt_secret
        self._http = http
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")

    async def verify(self, token: str) -> Caller:
        """Raises NotAuthenticated unless Supabase Auth signed this for a signed-in user and it has not expired."""
        try:
            header = jwt.get_unverified_header(token)
            key, algorithm = await self._key_for(header)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=USER_AUDIENCE,
                issuer=self._issuer,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
            # What we mint for an API key never leaves us: whoever shows it has not got it from us.
            if claims.get("role") != USER_AUDIENCE or KEY_CLAIM in claims:
                raise NotAuthenticated("the token is not a signed-in user's")
            return Caller(UUID(claims["sub"]), token)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise NotAuthenticated("the token is not valid") from error

    async def _key_for(self, header: dict[str, Any]) -> tuple[Any, str]:
        """The key and the one algorithm that goes with it; the token's header only chooses among ours."""
        algorithm = header.get("alg")
        if algorithm == "HS256" and self._secret is not None:
            return self._secret.get_secret_value(), "HS256"
        if algorithm not in ASYMMETRIC:
            raise NotAuthenticated("the token's algorithm is not accepted")
        key = await self._public_key(str(header.get("kid")))
        if key.algorithm_name != algorithm:
            raise NotAuthenticated("the token's algorithm is not its key's")
        return key.key, key.algorithm_name

    async def _public_key(self, kid: str) -> jwt.PyJWK:
        age = time.monotonic() - self._fetched_at
        if age > JWKS_MAX_AGE_SECONDS or (kid not in self._keys and age > JWKS_MIN_AGE_SECONDS):
            await self._fetch()
        if kid not in self._keys:
            raise NotAuthenticated("the token's key is not known")
        return self._keys[kid]

    async def _fetch(self) -> None:
        try:
            answer = await self._http.get(self._jwks_url)
            answer.raise_for_status()
            listed = answer.json()["keys"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            if self._keys:
                # Known keys serve on; the next attempt is not every request's.
                self._fetched_at = time.monotonic() - JWKS_MAX_AGE_SECONDS + JWKS_MIN_AGE_SECONDS
                return
            raise StoreUnavailable("the keys that sign users' tokens cannot be fetched") from error
        self._keys = {key["kid"]: jwt.PyJWK(key) for key in listed if key.get("alg") in ASYMMETRIC and "kid" in key}
        self._fetched_at = time.monotonic()

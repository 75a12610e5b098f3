"""API keys: what a program shows in place of its owner's token. Only hashes are kept; a key acts as its owner."""

import asyncio
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from functions.errors import NotAuthenticated, StoreUnavailable
from functions.identity import KEY_CLAIM, USER_AUDIENCE, Caller, Scope, ShownKey, Signer
from functions.models import Answer, Request, Title
from functions.pages import aware
from functions.rest import Row
from functions.settings import Settings
from functions.store import Store
from sandstream.access import expiry

MARK = "sst_"
SECRET_BYTES = 32
SECRET = re.compile(r"sst_[A-Za-z0-9_-]{43}")
PREFIX_CHARACTERS = 12
# A key that is revoked opens nothing once this has passed.
ASK_EVERY_SECONDS = 1.0
TOKEN_SECONDS = 3600
# Anyone can make up keys: those that were asked for longest ago are forgotten.
MAX_REMEMBERED = 10_000
INVALID = "invalid_key"


def distinct(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    """Each scope once."""
    if len(set(scopes)) < len(scopes):
        raise ValueError("names a scope twice")
    return scopes


def to_come(moment: datetime) -> datetime:
    """A key that has expired already is a mistake."""
    if moment <= datetime.now(UTC):
        raise ValueError("must be in the future")
    return moment


End = Annotated[datetime, Field(strict=False), AfterValidator(aware), AfterValidator(to_come)]


class KeyRequest(Request):
    """The body of `POST /v1/keys`. Without `expires_at` the key is good until it is revoked."""

    name: Title
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, strict=False), AfterValidator(distinct)]
    expires_at: End | None = None


class Key(Answer):
    """A key as it stands; `prefix` is how its secret begins. `last_used_at` is exact to a minute."""

    type: Literal["api_key"] = "api_key"
    id: str
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


class NewKey(Key):
    """A key that was just made. `key` is its secret, which nobody can show again."""

    key: str = Field(repr=False)


def new_secret() -> str:
    """256 random bits behind a mark that people and scanners know it by."""
    return MARK + secrets.token_urlsafe(SECRET_BYTES)


def hashed(secret: str) -> str:
    """SHA-256 in hex: enough for a secret that nobody can guess."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_key(credential: str) -> bool:
    """Whether somebody shows a key, good or not, instead of a JWT."""
    return credential.startswith(MARK)


@dataclass(frozen=True)
class Asked:
    """A question to the database, and when it was put (monotonic seconds)."""

    at: float
    answer: asyncio.Task[Caller | None]


class Keys:
    """Who is behind a key. Each key is looked up at most once a second, however many requests show it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._issuer = settings.issuer
        self._signer = Signer(settings)
        self._store = store
        self._asked: OrderedDict[str, Asked] = OrderedDict()

    async def verify(self, secret: str) -> Caller:
        """The key's owner, with its scopes. Raises NotAuthenticated, StoreUnavailable."""
        if not SECRET.fullmatch(secret):
            raise invalid()
        return await self.still(hashed(secret))

    async def still(self, hash: str) -> Caller:
        """The same for a key that was shown before. Raises NotAuthenticated, StoreUnavailable."""
        asked = self._asked.get(hash)
        if asked is None or time.monotonic() - asked.at >= ASK_EVERY_SECONDS:
            asked = self._ask(hash, asked)
        # A client that leaves does not take the answer from the others who wait for it.
        caller = await asyncio.shield(asked.answer)
        if caller is None:
            raise invalid()
        return caller

    async def while_valid(self, caller: Caller, messages: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """The messages, until the key that was shown for them is none any more, or nobody can tell whether it is."""
        async with aclosing(messages):
            async for message in messages:
                if caller.key is not None and not await self._holds(caller.key.hash):
                    return
                yield message

    async def _holds(self, hash: str) -> bool:
        try:
            await self.still(hash)
        except (NotAuthenticated, StoreUnavailable):
            return False
        return True

    def _ask(self, hash: str, before: Asked | None) -> Asked:
        known = before.answer if before is not None and before.answer.done() else None
        answer = asyncio.create_task(self._look_up(hash, known))
        # Also when nobody is left who waits: a failure is theirs to hear, and nobody else's.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._asked[hash] = Asked(time.monotonic(), answer)
        self._asked.move_to_end(hash)
        if len(self._asked) > MAX_REMEMBERED:
            self._asked.popitem(last=False)
        return self._asked[hash]

    async def _look_up(self, hash: str, known: asyncio.Task[Caller | None] | None) -> Caller | None:
        try:
            row = await self._store.as_service().use_key(hash)
        except NotAuthenticated as error:
            if error.type != INVALID:
                raise StoreUnavailable("Supabase refuses the endpoints themselves") from error
            return None
        before = known.result() if known is not None and known.exception() is None else None
        return self._caller(hash, row, before)

    def _caller(self, hash: str, row: Row, before: Caller | None) -> Caller:
        """The caller as before while their token has half of its life left: Supabase remembers what it has verified."""
        scopes = frozenset(row["scopes"])
        seconds = lifetime(row["expires_at"])
        if before is not None and before.scopes == scopes and expiry(before.token) - time.time() > seconds / 2:
            return before
        return Caller(UUID(row["owner"]), self._mint(row, seconds), scopes, ShownKey(row["id"], hash))

    def _mint(self, row: Row, seconds: int) -> str:
        """What Supabase takes for a token of its own, and RLS for the owner's."""
        claims = {
            "role": USER_AUDIENCE,
            "aud": USER_AUDIENCE,
            "iss": self._issuer,
            "sub": row["owner"],
            KEY_CLAIM: row["id"],
            "scopes": row["scopes"],
        }
        return self._signer.sign(claims, seconds)


def lifetime(expires_at: str | None) -> int:
    """Seconds that a token for the key may live: never longer than the key."""
    if expires_at is None:
        return TOKEN_SECONDS
    left = datetime.fromisoformat(expires_at) - datetime.now(UTC)
    return min(TOKEN_SECONDS, max(1, int(left.total_seconds())))


def invalid() -> NotAuthenticated:
    """Unknown, revoked, expired or no key at all: the four look the same."""
    return NotAuthenticated("the API key is not valid", type=INVALID)

"""How Supabase is reached, and as whom."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from sandstream.errors import NotAuthenticatedError, UnavailableError

# A token is asked for again when a fifth of its remaining life is left, or a minute, whichever is less.
RENEW_AT_LEFT = 0.2
RENEW_AT_MOST_SECONDS = 60.0
ASK_AT_MOST_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class SupabaseAccess:
    """A project's address, its publishable key, and a source of the caller's current token.

    `token` is asked again shortly before the JWT it gave expires and whenever Supabase refuses that JWT. It may raise
    UnavailableError (asked again later); whatever else it raises ends the watch.
    `http` is one client for many watches, made by `log.http_client()` and closed by whoever made it.
    """

    url: str
    publishable_key: str
    token: Callable[[], Awaitable[str]]
    http: httpx.AsyncClient | None = None


class Tokens:
    """The caller's token, kept until it is about to expire."""

    def __init__(self, ask: Callable[[], Awaitable[str]]) -> None:
        self._ask = ask
        self._token = ""
        self._renew_at = -math.inf
        self._lock = asyncio.Lock()

    @property
    def seconds_left(self) -> float:
        """Until the token is to be asked for again; infinite for one that says nothing of its end."""
        return max(0.0, self._renew_at - time.time())

    async def current(self) -> str:
        """The token to use now. Raises what the source raises."""
        async with self._lock:
            if time.time() >= self._renew_at:
                await self._renew()
            return self._token

    async def instead_of(self, refused: str) -> str:
        """Another token than the one that was refused. Raises NotAuthenticatedError when the source has no other."""
        async with self._lock:
            if self._token == refused:
                await self._renew()
            if self._token == refused:
                raise NotAuthenticatedError("the access token was refused, and there is no newer one", status=401)
            return self._token

    async def _renew(self) -> None:
        try:
            self._token = await self._ask()
        except UnavailableError:
            # What is left of the old token's life is time for the source to come back.
            if not self._token or expiry(self._token) <= time.time():
                raise
        now = time.time()
        left = expiry(self._token) - now
        margin = min(RENEW_AT_MOST_SECONDS, left * RENEW_AT_LEFT)
        self._renew_at = now + max(ASK_AT_MOST_EVERY_SECONDS, left - margin)


def expiry(token: str) -> float:
    """The token's `exp`, unverified since it only says when to ask again. Infinite without one."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return math.inf

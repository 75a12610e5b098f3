"""Who the caller is: a token from elsewhere, or somebody who signs in with Supabase Auth and stays signed in."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from sandstream.errors import NotAuthenticatedError, UnavailableError, is_temporary
from sandstream.log import tls
from sandstream.wire import Config

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient
    from supabase_auth.errors import AuthError
    from supabase_auth.types import AuthResponse

# A token is renewed when a quarter of its life is left, by our own clock, however wrong that may be.
RENEW_AT_LEFT = 0.25
HOUR_SECONDS = 3600
AUTH_SECONDS = 15.0


@dataclass(frozen=True)
class Password:
    """Somebody with an account."""

    email: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Anonymous:
    """Nobody in particular: a new user, who is lost when the client is closed."""


class SignedIn:
    """A signed-in user's tokens."""

    def __init__(self, config: Config, who: Password | Anonymous) -> None:
        # Here, since it costs a fifth of a second that users of fixed tokens need not wait for.
        from supabase_auth import AsyncGoTrueClient

        headers = {"apikey": config.publishable_key, "Authorization": f"Bearer {config.publishable_key}"}
        url = f"{config.supabase_url.rstrip('/')}/auth/v1"
        http = httpx.AsyncClient(timeout=AUTH_SECONDS, verify=tls(url))
        self._auth: AsyncGoTrueClient = AsyncGoTrueClient(
            url=url, headers=headers, auto_refresh_token=False, http_client=http
        )
        self._who = who
        self._token = ""
        self._refresh_token = ""
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token that is good for a while. Raises NotAuthenticatedError, UnavailableError."""
        async with self._lock:
            if time.time() >= self._renew_at:
                self._keep(await self._fresh())
            return self._token

    async def close(self) -> None:
        """Close the connections; the session stays valid at Supabase until it expires."""
        await self._auth.close()

    async def _fresh(self) -> AuthResponse:
        from supabase_auth.errors import AuthError

        try:
            if self._refresh_token:
                return await self._auth.refresh_session(self._refresh_token)
            return await self._sign_in()
        except AuthError as error:
            raised = _translated(error)
            if not (self._refresh_token and isinstance(self._who, Password)) or isinstance(raised, UnavailableError):
                raise raised from error
        # The session is over, the account is not.
        self._refresh_token = ""
        return await self._fresh()

    async def _sign_in(self) -> AuthResponse:
        if isinstance(self._who, Password):
            return await self._auth.sign_in_with_password({"email": self._who.email, "password": self._who.password})
        return await self._auth.sign_in_anonymously()

    def _keep(self, answer: AuthResponse) -> None:
        if answer.session is None:
            raise NotAuthenticatedError("Supabase Auth gave no session: is the address confirmed?", status=401)
        self._token = answer.session.access_token
        self._refresh_token = answer.session.refresh_token
        self._renew_at = time.time() + (answer.session.expires_in or HOUR_SECONDS) * (1 - RENEW_AT_LEFT)


def _translated(error: AuthError) -> NotAuthenticatedError | UnavailableError:
    status = getattr(error, "status", 0)
    if status == 0 or is_temporary(status):
        return UnavailableError(f"Supabase Auth cannot be reached: {error.message}")
    return NotAuthenticatedError(f"Supabase Auth refused: {error.message}", status=status, type=error.code or "")

"""The table: a session's log and its state, read over Supabase's REST as the caller, so that RLS decides."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from postgrest import APIError, AsyncPostgrestClient
from pydantic import TypeAdapter, ValidationError

from sandstream.access import SupabaseAccess, Tokens
from sandstream.errors import NotAuthenticatedError, NotFoundError, UnavailableError, is_temporary, refusal
from sandstream.events import IDLE, Event, is_final

REQUEST_SECONDS = 15.0
CONNECT_SECONDS = 5.0
_EVENTS = TypeAdapter(list[Event])
_COLUMNS = "seq,session_id,run_id,n,type,data,produced_at,created_at"


@dataclass(frozen=True)
class State:
    """A session as its row has it. `ended` is whether its last idleness was an end, None when that was not asked."""

    status: str
    last_seq: int
    ended: bool | None = None


def http_client(url: str) -> httpx.AsyncClient:
    """A client for this address whose answers are successes: postgrest's own errors do not tell the HTTP status."""
    timeout = httpx.Timeout(REQUEST_SECONDS, connect=CONNECT_SECONDS)
    return httpx.AsyncClient(timeout=timeout, verify=tls(url), event_hooks={"response": [_raise_for_status]})


def tls(url: str) -> ssl.SSLContext | bool:
    """How httpx verifies servers. For plain HTTP a context that trusts nobody: loading authorities takes 50 ms."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.startswith("http://") else True


class Log:
    """One session's rows. Every method raises UnavailableError, or a RefusedError that fits the status."""

    def __init__(self, access: SupabaseAccess, tokens: Tokens, http: httpx.AsyncClient, session_id: UUID) -> None:
        headers = {"apikey": access.publishable_key}
        url = f"{access.url.rstrip('/')}/rest/v1"
        # Retrying is ours: the library's own sleeps for seconds and cannot ask for another token.
        self._rest = AsyncPostgrestClient(url, headers=headers, http_client=http, retry_enabled=False)
        self._tokens = tokens
        self._id = str(session_id)

    async def page(self, after: int, limit: int) -> list[Event]:
        """The first events past `after`, at most `limit`, in order."""
        rows = await self._get(lambda: self._events().gt("seq", after).order("seq").limit(limit))
        return _parse(rows)

    async def state(self, *, with_end: bool) -> State:
        """The session's row; with `with_end` also what its last idleness was. Raises NotFoundError."""
        rows = await self._get(lambda: self._rest.from_("agent_sessions").select("status,last_seq").eq("id", self._id))
        if not rows:
            raise NotFoundError(f"there is no session {self._id}", status=404, type="not_found_error")
        status, last_seq = str(rows[0]["status"]), int(rows[0]["last_seq"])
        return State(status, last_seq, await self._ended() if with_end and status == "idle" else None)

    async def _ended(self) -> bool:
        """Whether the session rests for good: also when it never ran."""
        rows = await self._get(lambda: self._events().eq("type", IDLE).order("seq", desc=True).limit(1))
        return all(is_final(event) for event in _parse(rows))

    def _events(self) -> Any:
        return self._rest.from_("agent_events").select(_COLUMNS).eq("session_id", self._id)

    async def _get(self, query: Callable[[], Any]) -> list[dict[str, Any]]:
        """The rows; a refused token is exchanged once."""
        token = await self._tokens.current()
        try:
            return await self._execute(query, token)
        except NotAuthenticatedError:
            return await self._execute(query, await self._tokens.instead_of(token))

    async def _execute(self, query: Callable[[], Any], token: str) -> list[dict[str, Any]]:
        self._rest.auth(token)
        try:
            answer = await query().execute()
        except httpx.HTTPStatusError as error:
            raise _translated(error.response) from error
        except (httpx.TransportError, OSError) as error:
            raise UnavailableError(f"Supabase cannot be reached: {error!r}") from error
        except (APIError, ValueError) as error:
            raise UnavailableError("Supabase answered with something that is not JSON") from error
        return list(answer.data)


def _parse(rows: list[dict[str, Any]]) -> list[Event]:
    try:
        return _EVENTS.validate_python(rows)
    except ValidationError as error:
        raise UnavailableError(f"Supabase answered with something that is not a log: {error}") from error


async def _raise_for_status(response: httpx.Response) -> None:
    if response.is_error:
        await response.aread()
        response.raise_for_status()


def _translated(response: httpx.Response) -> Exception:
    message = f"Supabase answered {response.status_code}: {_message(response)}"
    if is_temporary(response.status_code):
        return UnavailableError(message, retry_after=retry_after(response))
    return refusal(response.status_code)(message, status=response.status_code)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def retry_after(response: httpx.Response) -> float | None:
    """The seconds of a `Retry-After` header. A date in it is not understood."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None

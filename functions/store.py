"""Supabase, by name: each method is one call of a SQL function or one read under the caller's RLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from functions.errors import (
    ApiError,
    Conflict,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    StoreUnavailable,
)
from functions.settings import Settings

Row = dict[str, Any]

# PostgREST turns SQLSTATE PTxyz into HTTP status xyz; our SQL raises nothing else on purpose.
REFUSALS: dict[str, type[ApiError]] = {
    "PT400": InvalidRequest,
    "PT401": NotAuthenticated,
    "PT403": NotPermitted,
    "PT404": NotFound,
    "PT409": Conflict,
}
# Data that Postgres cannot take: a date out of range, a row that breaks a CHECK.
BAD_DATA = ("22", "23514")
# All but `input`, which may have megabytes and is the runner's alone.
RUN_COLUMNS = (
    "id,session_id,kind,status,epoch,limit_seconds,result,error,sandbox_id,"
    "cancel_requested_at,created_at,started_at,ended_at"
)
TOKEN_REFUSED = ("PGRST301", "PGRST302", "PGRST303")


class Store:
    """The database as one role sees it. `as_user` sees a user's rows; `as_service` may call the service's functions."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http

    def as_user(self, token: str) -> "UserStore":
        """The caller's own view: their JWT goes through, so RLS decides."""
        return UserStore(self._client(self._settings.supabase_publishable_key, token))

    def as_service(self) -> "ServiceStore":
        """The control plane's view. For the few functions that no user may call."""
        key = self._settings.supabase_secret_key.get_secret_value()
        return ServiceStore(self._client(key, key))

    def _client(self, apikey: str, bearer: str) -> AsyncPostgrestClient:
        return AsyncPostgrestClient(
            f"{self._settings.supabase_url}/rest/v1",
            headers={"apikey": apikey, "Authorization": f"Bearer {bearer}"},
            http_client=self._http,
        )


class UserStore:
    """What a signed-in user may do. Every method raises StoreUnavailable when Supabase fails."""

    def __init__(self, client: AsyncPostgrestClient) -> None:
        self._client = client

    async def admit_run(self, arguments: Row) -> Row:
        """`admit_run_v1`: `{"run", "replayed"}`. Raises NotFound, Conflict."""
        return await call(self._client, "admit_run_v1", arguments)

    async def request_cancel(self, run_id: UUID, request_hash: str, idempotency_key: str | None) -> Row:
        """`request_cancel_v1`: the run. Raises NotFound, Conflict."""
        arguments = {"run_id": str(run_id), "request_hash": request_hash, "idempotency_key": idempotency_key}
        return await call(self._client, "request_cancel_v1", arguments)

    async def run(self, run_id: UUID) -> Row:
        """One run. Raises NotFound."""
        return await one(self._client, "agent_runs", RUN_COLUMNS, run_id)

    async def session(self, session_id: UUID) -> Row:
        """One session. Raises NotFound."""
        return await one(self._client, "agent_sessions", "*", session_id)

    async def sessions(self, limit: int, before: tuple[str, str] | None) -> list[Row]:
        """The newest sessions first; `before` is (created_at, id) of the last one seen."""
        query = self._client.from_("agent_sessions").select("*")
        if before is not None:
            created_at, id = before
            query = query.or_(f'created_at.lt."{created_at}",and(created_at.eq."{created_at}",id.lt.{id})')
        with refusals():
            answer = await query.order("created_at", desc=True).order("id", desc=True).limit(limit).execute()
        return rows(answer.data)

    async def events(self, session_id: UUID, after: int, limit: int) -> list[Row]:
        """The session's events with `seq > after`, in order; nothing for a session that is not the caller's."""
        query = self._client.from_("agent_events").select("*").eq("session_id", str(session_id)).gt("seq", after)
        with refusals():
            answer = await query.order("seq").limit(limit).execute()
        return rows(answer.data)


class ServiceStore:
    """What only the control plane may do. Every method raises StoreUnavailable when Supabase fails."""

    def __init__(self, client: AsyncPostgrestClient) -> None:
        self._client = client

    async def run(self, run_id: UUID) -> Row:
        """Any run. Raises NotFound."""
        return await one(self._client, "agent_runs", RUN_COLUMNS, run_id)

    async def record_sandbox(self, run_id: UUID, sandbox_id: str, template: str) -> Row:
        """`record_sandbox_v1`: the run as it stands now. Raises NotFound."""
        arguments = {"run_id": str(run_id), "sandbox_id": sandbox_id, "template": template}
        return await call(self._client, "record_sandbox_v1", arguments)

    async def fail_launch(self, run_id: UUID, error: Row) -> Row:
        """`fail_launch_v1`: the run; unchanged when it has started or ended meanwhile. Raises NotFound."""
        return await call(self._client, "fail_launch_v1", {"run_id": str(run_id), "error": error})

    async def close_sandbox(self, sandbox_id: str, reason: str) -> None:
        """`close_sandbox_v1`: the first reason stays."""
        with refusals():
            await self._client.rpc("close_sandbox_v1", {"sandbox_id": sandbox_id, "reason": reason}).execute()


async def call(client: AsyncPostgrestClient, function: str, arguments: Row) -> Row:
    """A SQL function that answers with one object. Raises the refusal that its SQLSTATE stands for."""
    with refusals():
        answer = await client.rpc(function, arguments).execute()
    if not isinstance(answer.data, dict):
        raise StoreUnavailable(f"{function} answered with something else than an object")
    return answer.data


def rows(data: object) -> list[Row]:
    """PostgREST's answer to a read. Raises StoreUnavailable for anything but a list: it is not the same as nothing."""
    if not isinstance(data, list):
        raise StoreUnavailable("Supabase answered a read with something else than rows")
    return data


async def one(client: AsyncPostgrestClient, table: str, columns: str, id: UUID) -> Row:
    """The row with this id. Raises NotFound when there is none that the client's role may see."""
    with refusals():
        answer = await client.from_(table).select(columns).eq("id", str(id)).limit(1).execute()
    found = rows(answer.data)
    if not found:
        raise NotFound(f"no such {table.removeprefix('agent_').removesuffix('s')}")
    return found[0]


@contextmanager
def refusals() -> Iterator[None]:
    """Turns what PostgREST and the connection raise into our own errors."""
    try:
        yield
    except APIError as error:
        raise as_refusal(error) from error
    except httpx.HTTPError as error:
        raise StoreUnavailable("Supabase did not answer") from error


def as_refusal(error: APIError) -> ApiError:
    """The error that a PostgREST answer stands for; what is not a refusal of ours is Supabase's failure."""
    if error.code in REFUSALS:
        word = error.message or "refused"
        return REFUSALS[error.code](error.details or word.replace("_", " "), type=word)
    if error.code in TOKEN_REFUSED:
        return NotAuthenticated("the token is not valid")
    if error.code is not None and error.code.startswith(BAD_DATA):
        return InvalidRequest("the database cannot take a value of this request")
    return StoreUnavailable("Supabase failed")

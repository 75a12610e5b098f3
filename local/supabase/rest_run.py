"""Runs one statement as the caller, in a transaction of its own, in as few round trips as can be."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from local.supabase.pool import Connection, Pool, PoolTimeoutError, connect
from local.supabase.rest_errors import RestError, from_postgres, unreachable
from local.supabase.rest_request import RestRequest
from local.supabase.rest_schema import Catalogue, read_catalogue

POOL_SIZE = 20
RELISTEN_SECONDS = 0.5
STALE_CODES = ("42P01", "42703", "42883", "0A000", "42804")
SETTINGS = (
    "select set_config('search_path', $1, true), set_config('role', $2, true), "
    "set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true), "
    "set_config('request.path', $5, true), set_config('request.headers', $6, true)"
)
# What a function asked to be answered, by `set_config('response.status', …)`.
ANSWER = "nullif(current_setting('response.status', true), ''), nullif(current_setting('response.headers', true), '')"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """A statement that yields one row: (total | null, number of rows, body, …ANSWER), all of it text.

    `one_row`: anything but one row undoes the transaction and raises PGRST116.
    """

    sql: str
    values: list[Any]
    one_row: bool = False
    read_only: bool = False


@dataclass(frozen=True)
class Outcome:
    """A plan's row. `location` is the first new row's key, for who asked for headers only."""

    total: int | None
    count: int
    body: bytes
    status: int | None
    headers: list[tuple[str, str]]


class Database:
    """What REST reaches Postgres by: the pool (as `authenticator`), and the catalogue, read anew when it is stale."""

    def __init__(self, dsn: str, schemas: tuple[str, ...]) -> None:
        self._dsn = dsn
        self._schemas = schemas
        self._pool = Pool(dsn, POOL_SIZE)
        self._catalogue: Catalogue | None = None
        self._reading = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listens for `notify pgrst` while it is open, and closes the pool afterwards."""
        listener = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await self._pool.close()

    async def catalogue(self) -> Catalogue:
        """The catalogue. Raises RestError (503) when it must be read and cannot be."""
        async with self._reading:
            if self._catalogue is None:
                self._catalogue = await self._read()
            return self._catalogue

    def forget(self, catalogue: Catalogue | None = None) -> None:
        """Have the catalogue read anew by the next who asks; given one, only if it is still the one held."""
        if catalogue is None or catalogue is self._catalogue:
            self._catalogue = None

    async def run(self, request: RestRequest, plan: Plan, catalogue: Catalogue) -> Outcome:
        """Raises RestError for whatever Postgres says, or when it says nothing."""
        try:
            async with self._pool.connection() as connection:
                return await self._run_on(connection, request, plan, catalogue)
        except psycopg.Error as error:
            if error.sqlstate in STALE_CODES:
                self.forget(catalogue)
            raise from_postgres(error, anonymous=request.caller.role == "anon") from error
        except PoolTimeoutError:
            message = "Timed out acquiring connection from connection pool."
            raise RestError(504, "PGRST003", message) from None

    async def _run_on(self, connection: Connection, request: RestRequest, plan: Plan, catalogue: Catalogue) -> Outcome:
        if not plan.one_row:
            return await _transaction(connection, request, plan, catalogue, commit=True)
        outcome = await _transaction(connection, request, plan, catalogue, commit=False)
        await connection.execute("commit" if outcome.count == 1 else "rollback")
        if outcome.count != 1:
            raise not_one_row(outcome.count)
        return outcome

    async def _read(self) -> Catalogue:
        try:
            connection = await connect(self._dsn)
            async with connection:
                return await read_catalogue(connection, self._schemas)
        except psycopg.OperationalError as error:
            raise unreachable() from error

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                connection = await connect(self._dsn)
                async with connection:
                    await connection.execute("listen pgrst")
                    self.forget()
                    async for _ in connection.notifies():
                        self.forget()
            log.debug("the schema listener lost its connection")
            await asyncio.sleep(RELISTEN_SECONDS)


def not_one_row(count: int) -> RestError:
    """PGRST116."""
    return RestError(
        406, "PGRST116", "Cannot coerce the result to a single JSON object", f"The result contains {count} rows"
    )


async def _transaction(
    connection: Connection, request: RestRequest, plan: Plan, catalogue: Catalogue, *, commit: bool
) -> Outcome:
    became: psycopg.AsyncCursor[Any] | None = None
    try:
        async with connection.pipeline():
            await connection.execute("begin read only" if plan.read_only else "begin", prepare=False)
            became = await _become(connection, request, catalogue)
            cursor = await connection.execute(plan.sql.encode(), plan.values)
            if commit:
                await connection.execute("commit", prepare=False)
        return _outcome(cursor)
    except psycopg.Error:
        # A statement that was to be prepared behind a failed one never was, and psycopg does not know: hence no
        # preparing above, and where the caller's role was refused, with the plan behind it, an end to the connection.
        if became is None or became.pgresult is None:
            await connection.close()
        elif not connection.closed:
            await connection.execute("rollback", prepare=False)
        raise


async def _become(connection: Connection, request: RestRequest, catalogue: Catalogue) -> psycopg.AsyncCursor[Any]:
    caller = request.caller
    search_path = f'"{request.schema}", "public", "extensions"'
    values = [search_path, caller.role, caller.claims_json, request.method, request.path, request.headers_json]
    became = await connection.execute(SETTINGS, values)
    for name, value in catalogue.role_settings.get(caller.role, {}).items():
        await connection.execute("select set_config($1, $2, true)", (name, value))
    return became


def _outcome(cursor: psycopg.AsyncCursor[Any]) -> Outcome:
    """The row as the bytes that came: the body is not decoded on its way through."""
    result = cursor.pgresult
    if result is None or result.ntuples != 1:
        raise RuntimeError("a plan yields one row")
    total, count, body, status, headers = (result.get_value(0, column) for column in range(5))
    return Outcome(
        total=int(total) if total is not None else None,
        count=int(count or 0),
        body=body or b"",
        status=int(status) if status is not None else None,
        headers=_headers(headers),
    )


def _headers(value: bytes | None) -> list[tuple[str, str]]:
    """`response.headers` is a list of objects of one member. Raises RestError (PGRST111) for anything else."""
    if value is None:
        return []
    try:
        return [(str(name), str(text)) for one in json.loads(value) for name, text in one.items()]
    except (ValueError, AttributeError, TypeError):
        message = "response.headers guc must be a JSON array composed of objects with a single key and a string value"
        raise RestError(500, "PGRST111", message) from None

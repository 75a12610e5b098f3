"""A pool of Postgres connections that notices at once when the server went away, and when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

CONNECT_SECONDS = 5
ACQUIRE_SECONDS = 10.0

Connection = AsyncConnection[TupleRow]


class PoolTimeoutError(Exception):
    """Every connection stayed busy for ACQUIRE_SECONDS."""


class Pool:
    """At most `size` connections in autocommit, opened when needed, the last used given first.

    A connection whose server has hung up is noticed without a round trip, and replaced: a restarted server costs its
    callers nothing once it is up, and a dead one refuses them at once. Statements are written with `$1`.
    """

    def __init__(self, dsn: str, size: int) -> None:
        self._dsn = dsn
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(size)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; one that comes back inside a transaction, or broken, is closed.

        Raises psycopg.OperationalError when there is no server, PoolTimeoutError when all are busy.
        """
        await self._take_turn()
        try:
            connection = await self._idle_or_new()
            try:
                yield connection
            finally:
                await self._give_back(connection)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            await self._idle.pop().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise PoolTimeoutError("every connection is busy") from None

    async def _idle_or_new(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not _has_hung_up(connection):
                return connection
            await connection.close()
        return await connect(self._dsn)

    async def _give_back(self, connection: Connection) -> None:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            await connection.close()


async def connect(dsn: str) -> Connection:
    """One connection, as the pool makes them. Raises psycopg.OperationalError."""
    return await AsyncConnection.connect(
        dsn,
        autocommit=True,
        prepare_threshold=1,
        cursor_factory=AsyncRawCursor,
        connect_timeout=CONNECT_SECONDS,
        application_name="local-supabase",
    )


def _has_hung_up(connection: Connection) -> bool:
    """An idle server says nothing: whatever waits to be read is its goodbye."""
    if connection.closed:
        return True
    try:
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN)
        return bool(poller.poll(0))
    except psycopg.OperationalError:
        return True

"""Follows a publication over Postgres's streaming replication protocol, and comes back when Postgres does.

psycopg has no API for replication, but libpq has what it takes: a connection with `replication=database` and COPY BOTH.
The slot is temporary: it ends with its connection, so that no slot of ours keeps the WAL of a server nobody follows.
What is committed while the connection is down is not delivered, as on hosted Supabase.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from local.supabase.realtime_pgoutput import EPOCH, Decoder, Transaction

STATUS_SECONDS = 2.0
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)

log = logging.getLogger(__name__)
Handler = Callable[[Transaction], Awaitable[None]]


class Follower:
    """Gives every transaction of a publication to `handle`, one at a time, in the order of their commits."""

    def __init__(self, dsn: str, publication: str, handle: Handler) -> None:
        self._dsn = dsn
        self._publication = publication
        self._handle = handle
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; reconnect for ever."""
        failures = 0
        while True:
            try:
                async with open_stream(self._dsn, self._publication) as stream:
                    self.connected.set()
                    failures = 0
                    await self._follow(stream)
            except (psycopg.Error, OSError) as error:
                log.info("the stream of %s ended: %s", self._publication, str(error).strip())
            except Exception:  # the edge of a handler: what is wrong with one transaction must not end the stream
                log.exception("a transaction of %s could not be handled and is skipped", self._publication)
            finally:
                self.connected.clear()
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1

    async def _follow(self, stream: Stream) -> None:
        decoder = Decoder()
        async for message in stream:
            transaction = decoder.decode(message)
            if transaction is not None:
                await self._handle(transaction)


class Stream:
    """The pgoutput messages of one slot, as an async iterator. Raises psycopg.OperationalError when it ends."""

    def __init__(self, connection: PGconn) -> None:
        self._connection = connection
        self._received = 0
        self._status_due = time.monotonic() + STATUS_SECONDS

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[bytes]:
        while True:
            size, data = self._connection.get_copy_data(1)
            if size < 0:
                raise psycopg.OperationalError("the server ended the stream")
            if time.monotonic() >= self._status_due:
                self._report()
            if size == 0:
                await self.wait_for_input()
            elif (message := self._read(bytes(data))) is not None:
                yield message

    async def wait_for_input(self) -> None:
        """Return when there is something to read, or a status is due. Raises psycopg.OperationalError."""
        loop, descriptor, readable = asyncio.get_running_loop(), self._connection.socket, asyncio.Event()
        # Watched only while we wait: a busy handler would otherwise be called back for every turn of the loop.
        loop.add_reader(descriptor, readable.set)
        try:
            async with asyncio.timeout(STATUS_SECONDS):
                await readable.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_reader(descriptor)
        self._connection.consume_input()

    def _read(self, data: bytes) -> bytes | None:
        """A message's body; None for a keepalive."""
        if data[:1] == b"w":
            self._received = max(self._received, struct.unpack(">Q", data[1:9])[0])
            return data[25:]
        self._received = max(self._received, struct.unpack(">Q", data[1:9])[0])
        if data[17:18] == b"\1":
            self._status_due = 0
        return None

    def _report(self) -> None:
        """Tell the server how far we are: it disconnects the silent, and keeps WAL for the slow."""
        now = int((time.time() - EPOCH.timestamp()) * 1e6)
        at = self._received
        self._connection.put_copy_data(b"r" + struct.pack(">QQQqB", at, at, at, now, 0))
        self._connection.flush()
        self._status_due = time.monotonic() + STATUS_SECONDS


@contextlib.asynccontextmanager
async def open_stream(dsn: str, publication: str) -> AsyncIterator[Stream]:
    """A stream of what is committed from now on. Waits for the transactions that run now to end.

    Raises psycopg.Error when there is no server, no publication or no free slot.
    """
    connection = await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, prepare_threshold=None, replication="database", application_name="realtime"
    )
    # Not `async with connection`: its commit or rollback has no place in a stream.
    try:
        slot = f"sandstream_{uuid.uuid4().hex}"
        command = f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"
        await connection.execute(command.encode())
        stream = Stream(connection.pgconn)
        await _start(connection.pgconn, stream, slot, publication)
        yield stream
    finally:
        await connection.close()


async def _start(connection: PGconn, stream: Stream, slot: str, publication: str) -> None:
    options = f"proto_version '1', publication_names '\"{publication}\"'"
    connection.send_query(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})".encode())
    connection.flush()
    while connection.is_busy():
        await stream.wait_for_input()
    result = connection.get_result()
    if result is None or result.status != ExecStatus.COPY_BOTH:
        raise psycopg.OperationalError(result.get_error_message() if result else "no answer to START_REPLICATION")

"""The E2B server's side of the frames: operations of one sandbox's envd, as asyncio streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from local.e2b.envd_wire import CHUNK_BYTES, DATA, HEADER, JSON, MAX_FRAME_BYTES, pack, pack_json


class EnvdError(Exception):
    """The operation failed inside, or the sandbox went away under it (`unavailable`). `code` is a Connect code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


ENDED = "the connection to the sandbox ended before the stream completed"


class Operation:
    """One operation in progress."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def receive(self) -> tuple[int, bytes]:
        """The next frame. Raises EnvdError when the stream ended or the frame tells a failure."""
        try:
            kind, length = HEADER.unpack(await self.reader.readexactly(HEADER.size))
            if length > MAX_FRAME_BYTES:
                raise EnvdError("internal", "the sandbox sent a frame that is too large")
            return kind, await self.reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise EnvdError("unavailable", ENDED) from error

    async def receive_json(self) -> dict[str, Any]:
        """The next frame, which must be JSON. Raises EnvdError."""
        kind, payload = await self.receive()
        return decode(kind, payload)

    async def send(self, data: bytes) -> None:
        """One DATA frame. Raises EnvdError when the stream ended."""
        try:
            self.writer.write(pack(DATA, data))
            await self.writer.drain()
        except OSError as error:
            raise EnvdError("unavailable", ENDED) from error


def decode(kind: int, payload: bytes) -> dict[str, Any]:
    """The message of a JSON frame. Raises EnvdError for a failure, and for anything else: the inside is not trusted."""
    try:
        message = json.loads(payload) if kind == JSON else None
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise EnvdError("internal", "the sandbox sent something that is not of the protocol")
    if "error" in message:
        raise EnvdError(str(message["error"]), str(message.get("message", "")))
    return message


class EnvdClient:
    """Operations against the envd that listens on the unix socket `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: set[asyncio.StreamWriter] = set()

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """An operation with one answer. Raises EnvdError."""
        async with self.begin(operation, **arguments) as running:
            return await running.receive_json()

    @asynccontextmanager
    async def begin(self, operation: str, **arguments: Any) -> AsyncIterator[Operation]:
        """An operation that streams; leaving the block ends it. Raises EnvdError."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path), limit=4 * CHUNK_BYTES)
        except OSError as error:
            raise EnvdError("unavailable", ENDED) from error
        self._open.add(writer)
        try:
            writer.write(pack_json({"op": operation, **arguments}))
            yield Operation(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    def abort(self) -> None:
        """End every operation now: the sandbox is about to stop answering."""
        for writer in list(self._open):
            writer.transport.abort()

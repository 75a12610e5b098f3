"""A proxy between a client and Supabase that loses, doubles and delays doorbells and tears connections apart.

It reads only what it needs: the head of a connection's first request, to tell a websocket from plain HTTP, and the
frames that the server sends on a websocket, to tell broadcasts from the rest. Plain HTTP passes through untouched. It
does not speak TLS, and reads no frame compressed (it does not let compression be agreed on) or fragmented.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
TEXT, BINARY = 1, 2
# realtime-js, serializer 2.0.0: the kind of a binary frame that carries a broadcast.
BINARY_BROADCAST = 4
CHUNK_BYTES = 65_536


@dataclass
class Faults:
    """What happens to doorbells: the share lost, the share doubled, and how many connections are still to be cut."""

    lose: float = 0.0
    double: float = 0.0
    cuts: int = 0
    doorbells_before_cut: int = 3
    refuse: bool = False
    """Every new connection is closed at once."""
    mute: bool = False
    """Websockets are accepted and never answered."""


@dataclass
class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to `upstream`, but for the faults."""

    upstream: int
    faults: Faults = field(default_factory=Faults)
    seed: int = 1
    port: int = 0
    opened: int = 0
    joined: int = 0
    cut: int = 0
    lost: int = 0
    doubled: int = 0
    passed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._websockets: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Supabase's address, seen through the proxy."""
        return f"http://{HOST}:{self.port}"

    @property
    def connected(self) -> int:
        """How many websockets are open now."""
        return len(self._websockets)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self.faults.refuse:
                await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        up_reader, up_writer = await asyncio.open_connection(HOST, self.upstream)
        try:
            if re.search(rb"^upgrade: *websocket", head, re.IGNORECASE | re.MULTILINE):
                up_writer.write(re.sub(rb"(?im)^sec-websocket-extensions:.*\r\n", b"", head))
                await first_of(_pipe(reader, up_writer), self._websocket(up_reader, writer))
            else:
                up_writer.write(head)
                await first_of(_pipe(reader, up_writer), _pipe(up_reader, writer))
        finally:
            up_writer.transport.abort()

    async def _websocket(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """The server's side of one websocket, until it is cut."""
        self.opened += 1
        self._websockets.add(client)
        try:
            if self.faults.mute:
                await asyncio.Future()
            client.write(await server.readuntil(b"\r\n\r\n"))
            left = self._random.randint(1, self.faults.doorbells_before_cut)
            while left > 0 or self.faults.cuts == 0:
                frame, opcode, payload = await read_frame(server)
                times = 1
                self.joined += b"phx_reply" in payload and b"realtime:session:" in payload
                if is_broadcast(opcode, payload):
                    left -= 1
                    times = self._fate()
                for _ in range(times):
                    client.write(frame)
                await client.drain()
            await self._tear(client)
        finally:
            self._websockets.discard(client)

    async def _tear(self, client: asyncio.StreamWriter) -> None:
        """Cut now, at a moment of no connection's choosing, sometimes in the middle of a frame."""
        self.faults.cuts -= 1
        self.cut += 1
        if self._random.random() < 0.3:
            client.write(b"\x81\x7e")
        await asyncio.sleep(self._random.uniform(0, 0.02))

    def _fate(self) -> int:
        """How often this doorbell is passed on."""
        drawn = self._random.random()
        if drawn < self.faults.lose:
            self.lost += 1
            return 0
        if drawn < self.faults.lose + self.faults.double:
            self.doubled += 1
            return 2
        self.passed += 1
        return 1


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """One frame as the server sent it: all its bytes, its opcode, its payload (RFC 6455, 5.2; never masked)."""
    head = await reader.readexactly(2)
    length = head[1] & 0x7F
    extended = await reader.readexactly({126: 2, 127: 8}.get(length, 0))
    payload = await reader.readexactly(int.from_bytes(extended) if extended else length)
    return head + extended + payload, head[0] & 0x0F, payload


def is_broadcast(opcode: int, payload: bytes) -> bool:
    """Whether a frame carries a broadcast, in either version of the protocol."""
    if opcode == BINARY:
        return payload[:1] == bytes([BINARY_BROADCAST])
    if opcode != TEXT:
        return False
    message = json.loads(payload)
    return bool((message[3] if isinstance(message, list) else message["event"]) == "broadcast")


async def first_of(*ways: Coroutine[object, object, None]) -> None:
    """Run them until one ends, then end the others."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()

"""The egress gate: the only way out of a sandbox. It lives outside, so nothing inside can change what it decides.

Each connection begins with one line that envd writes: `loopback PORT` for what connected to a declared port, or
`proxy` for an HTTP proxy's client. A program inside may write that line itself; it gains nothing by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from pathlib import Path

from local.e2b.egress import LOOPBACK, Destination, DestinationError, IPAddress, Policy
from local.e2b.relay import Relay, copy_both

# Of one sandbox, both ways counted: whoever opens more takes nobody's descriptors but its own.
MAX_CONNECTIONS = 256
# A connection that does not say where it wants to go.
GREETING_SECONDS = 10

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
STREAM_LIMIT = 256 * 1024


class Gate:
    """One sandbox's gate."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self, path: Path) -> None:
        """Accept connections at a unix socket that every user may use. Raises OSError."""
        self._server = await asyncio.start_unix_server(self._accept, str(path), limit=STREAM_LIMIT)
        # Only the sandbox has it mounted; the directories above are closed to everybody else.
        path.chmod(0o666)  # noqa: ASYNC240 one system call

    def set_policy(self, policy: Policy) -> None:
        """Decide by this from now on; what is open was decided by the old one and is cut."""
        self.policy = policy
        self.abort()

    def abort(self) -> None:
        """Cut every open connection."""
        for writer in list(self._open):
            writer.transport.abort()

    async def close(self) -> None:
        """Accept nothing more, and cut what is open."""
        if self._server is not None:
            self._server.close()
        self.abort()

    async def connect(self, target: Destination) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the target if the policy allows it. Raises DestinationError, OSError, TimeoutError."""
        policy = self.policy
        address = policy.check(target, await self._addresses(target))
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(str(address), target.port, limit=STREAM_LIMIT)
        if policy is not self.policy:
            # It was replaced while this was under way, and abort() could not know of it.
            writer.transport.abort()
            raise DestinationError(f"{target.host}:{target.port} was allowed by rules that hold no more")
        self._open.add(writer)
        return reader, writer

    def release(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection that `connect()` made."""
        self._open.discard(writer)
        writer.close()

    async def _addresses(self, target: Destination) -> list[IPAddress]:
        """Resolved once, here: the address that is checked is the one that is connected to."""
        if not self.policy.may_be_allowed(target):
            raise DestinationError(f"{target.host}:{target.port} is not allowed")
        if target.address is not None:
            return [target.address]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DestinationError(f"{target.host} cannot be resolved") from error
        return [ipaddress.ip_address(entry[4][0]) for entry in found]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, ValueError, DestinationError) as error:
            log.debug("egress refused or cut: %s", error)
        finally:
            self.release(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(GREETING_SECONDS):
            line = await reader.readuntil(b"\n")
        kind, _, port = line.decode("ascii").strip().partition(" ")
        if kind == "proxy":
            await Relay(self, reader, writer, None).run()
        elif kind == "loopback":
            await self._serve_loopback(reader, writer, Destination(LOOPBACK, int(port)))

    async def _serve_loopback(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Destination
    ) -> None:
        if self.policy.injected(target):
            await Relay(self, reader, writer, target).run()
            return
        server = await self.connect(target)
        with contextlib.closing(_Release(self, server[1])):
            await copy_both((reader, writer), server)


class _Release:
    def __init__(self, gate: Gate, writer: asyncio.StreamWriter) -> None:
        self._gate, self._writer = gate, writer

    def close(self) -> None:
        self._gate.release(self._writer)

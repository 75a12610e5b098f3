"""A local E2B server as a process of its own, and small HTTP servers for sandboxes to call."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from e2b import AsyncSandbox
from e2b.sandbox.sandbox_api import SandboxNetworkOpts

DEADLINE_SECONDS = 20.0
DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@dataclass
class Server:
    """The server's process and how to reach it."""

    url: str
    api_key: str
    root: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def options(self) -> dict[str, Any]:
        """What the SDK is given to talk to it."""
        return {"api_key": self.api_key, "api_url": self.url, "sandbox_url": self.url, "request_timeout": 30}

    def http(self) -> httpx.AsyncClient:
        """The control API, without the SDK."""
        return httpx.AsyncClient(base_url=self.url, headers={"X-API-KEY": self.api_key}, timeout=30)

    @contextlib.asynccontextmanager
    async def sandbox(self, **wishes: Any) -> AsyncIterator[AsyncSandbox]:
        """One of its sandboxes, killed afterwards."""
        made = await AsyncSandbox.create(**wishes, **self.options)
        try:
            yield made
        finally:
            await made.kill()

    def children(self) -> list[psutil.Process]:
        """Every living process below it."""
        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if is_alive(p)]


@contextlib.contextmanager
def serving(root: Path, **environment: str) -> Iterator[Server]:
    """A server on a free port, stopped by SIGTERM at the end if it still runs."""
    api_key = f"e2b_{secrets.token_hex(20)}"
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = {"LOCAL_E2B_API_KEY": api_key, "LOCAL_E2B_URL": url, "LOCAL_SANDBOX_ROOT": str(root / "sandboxes")}
        log = root / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "local.part",
                    "local.e2b.app:create_app",
                    str(listener.fileno()),
                    str(os.getpid()),
                ],
                env={**os.environ, **settings, **environment},
                pass_fds=[listener.fileno()],
                stdout=output,
                stderr=output,
            )
    try:
        yield Server(url, api_key, root / "sandboxes", process, log)
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def is_alive(process: psutil.Process) -> bool:
    """A zombie is dead: nobody but its parent can see it off."""
    try:
        return process.status() not in DEAD
    except psutil.NoSuchProcess:
        return False


def end(server: Server, how: signal.Signals) -> None:
    """Signal the server and wait until it is gone."""
    server.process.send_signal(how)
    server.process.wait(DEADLINE_SECONDS)


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Wait for it, not longer than the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}")


@dataclass
class Upstream:
    """An HTTP/1.1 server that keeps what it was sent and answers with a fixed body; with `first`, in the beginning."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    first: list[bytes] = field(default_factory=list)

    @property
    def netloc(self) -> str:
        """As it is written in a network configuration."""
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request of one connection."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                self.bodies.append(await read_body(head.lower(), reader))
                writer.write(self.first.pop(0) if self.first else self.answer)
                await writer.drain()
        writer.close()


async def read_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """By its Content-Length or in chunks."""
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return body
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return await reader.readexactly(length)


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """A server of that kind on a free loopback port."""
    served = Upstream()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()


def only(*hosts: str, **headers: str) -> SandboxNetworkOpts:
    """A network that reaches these netlocs and nothing else; the headers are set for the first."""
    rules: Any = {hosts[0]: [{"transform": {"headers": headers}}]} if headers else {}
    return {"allow_out": list(hosts), "deny_out": lambda ctx: [ctx.all_traffic], "rules": rules}

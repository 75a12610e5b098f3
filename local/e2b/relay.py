"""HTTP/1.1 through the gate: every request of a connection is read, checked, given its headers and passed on.

Bodies are streamed both ways with their own framing and never held. A protocol switch (websocket) and CONNECT turn the
connection into a plain tunnel; nothing can be injected into the encrypted stream of a CONNECT.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11

from local.e2b.egress import DEFAULT_PORTS, Destination, DestinationError, parse_destination

if TYPE_CHECKING:
    from local.e2b.gate import Gate

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Headers = list[tuple[bytes, bytes]]

CHUNK_BYTES = 64 * 1024
MAX_HEAD_BYTES = 256 * 1024
# Meant for this hop only; `Connection` and `Upgrade` are kept when a switch of protocol is asked for.
HOP = {b"proxy-connection", b"proxy-authorization", b"keep-alive"}


class RefusedError(Exception):
    """The request is answered by the gate itself, and the connection closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Peer:
    """One side of the relay: a stream and what h11 knows about it."""

    def __init__(self, role: type[h11.CLIENT] | type[h11.SERVER], stream: Stream) -> None:
        self.http = h11.Connection(role, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.reader, self.writer = stream

    async def next(self) -> object:
        """The next event, which is never NEED_DATA. Raises h11.RemoteProtocolError and OSError."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(CHUNK_BYTES))
        return event

    async def send(self, event: h11.Event) -> None:
        """Raises h11.LocalProtocolError and OSError."""
        if data := self.http.send(event):
            self.writer.write(data)
            await self.writer.drain()

    def may_go_on(self) -> bool:
        """Make ready for the next request, if this side can take one."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return not self.reader.at_eof()


class Relay:
    """One connection from inside. With `fixed` it goes to that destination only; without, it is a proxy's client."""

    def __init__(
        self, gate: Gate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fixed: Destination | None
    ) -> None:
        self._gate = gate
        self._client = Peer(h11.SERVER, (reader, writer))
        self._fixed = fixed
        self._server: Peer | None = None
        self._target: Destination | None = None

    async def run(self) -> None:
        """Serve requests until one side closes. Raises OSError."""
        try:
            while await self._serve_one():
                pass
        except h11.RemoteProtocolError as error:
            await self._answer(RefusedError(error.error_status_hint or 400, str(error)))
        except RefusedError as error:
            await self._answer(error)
        except h11.LocalProtocolError:
            return  # one side broke off in the middle of what the other was owed
        finally:
            self._drop_server()

    async def _serve_one(self) -> bool:
        event = await self._client.next()
        if not isinstance(event, h11.Request):
            return False
        if event.method == b"CONNECT":
            await self._tunnel(event)
            return False
        target, path = self._route(event)
        server = await self._connect(target)
        await server.send(h11.Request(method=event.method, target=path, headers=self._request_headers(event, target)))
        if await self._exchange(server):
            await self._switch(server)
            return False
        if not server.may_go_on():
            self._drop_server()
        return self._client.may_go_on()

    def _route(self, request: h11.Request) -> tuple[Destination, bytes]:
        """Where the request goes, and its target there. Raises RefusedError."""
        try:
            target, path = self._asked(request)
        except ValueError as error:
            raise RefusedError(400, f"bad address: {error}") from error
        if self._fixed is not None and target != self._fixed:
            raise RefusedError(403, f"{target.host}:{target.port} is not where this connection goes")
        return target, path

    def _asked(self, request: h11.Request) -> tuple[Destination, bytes]:
        raw = request.target.decode("latin-1")
        if raw.startswith("/") or raw == "*":
            if self._fixed is None:
                raise ValueError("a proxy needs the whole URL")
            host = next((v for k, v in request.headers if k == b"host"), b"").decode("latin-1")
            return parse_destination(host, DEFAULT_PORTS["http"]), request.target
        url = urlsplit(raw)
        if url.scheme != "http" or url.username is not None:
            raise ValueError("only http:// URLs without user information are relayed; https takes CONNECT")
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        return parse_destination(url.netloc, DEFAULT_PORTS["http"]), path.encode("latin-1")

    def _request_headers(self, request: h11.Request, target: Destination) -> Headers:
        """The client's own, less what a rule sets, plus that; `Host` says where it really goes."""
        injected = self._gate.policy.injected(target)
        replaced = {name.lower().encode() for name in injected}
        headers = _without(request.headers.raw_items(), HOP | replaced)
        if self._fixed is None:
            host = target.host if target.port == DEFAULT_PORTS["http"] else f"{target.host}:{target.port}"
            headers = [(b"Host", host.encode()), *_without(headers, {b"host"})]
        return headers + [(name.encode(), value.encode()) for name, value in injected.items()]

    async def _connect(self, target: Destination) -> Peer:
        """The open connection when it goes there, or a new one. Raises RefusedError."""
        if self._server is not None and self._target == target and not self._server.reader.at_eof():
            # Asked again: the policy may have changed, and every request stands on its own.
            return self._server
        self._drop_server()
        self._server, self._target = Peer(h11.CLIENT, await self._open(target)), target
        return self._server

    async def _open(self, target: Destination) -> Stream:
        try:
            return await self._gate.connect(target)
        except DestinationError as error:
            raise RefusedError(403, str(error)) from error
        except (OSError, TimeoutError) as error:
            raise RefusedError(502, f"{target.host}:{target.port} cannot be reached") from error

    async def _exchange(self, server: Peer) -> bool:
        """Body one way and answer the other way, at the same time. True when the protocol was switched."""
        upload = asyncio.create_task(_pass_body(self._client, server))
        try:
            switched = await self._pass_answer(server)
            if not upload.done():
                upload.cancel()
            return switched
        finally:
            upload.cancel()
            await asyncio.wait([upload])
            if not upload.cancelled():
                upload.exception()

    async def _pass_answer(self, server: Peer) -> bool:
        while True:
            event = await self._next_answer(server)
            if isinstance(event, h11.InformationalResponse):
                await self._client.send(event)
                if event.status_code == 101:
                    return True
            elif isinstance(event, h11.Response):
                await self._client.send(_response(event))
            elif isinstance(event, h11.Data):
                await self._client.send(h11.Data(data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                await self._client.send(h11.EndOfMessage(headers=list(event.headers.raw_items())))
                return False
            else:
                raise h11.LocalProtocolError("the server closed")

    async def _next_answer(self, server: Peer) -> object:
        try:
            return await server.next()
        except (h11.RemoteProtocolError, OSError) as error:
            if self._client.http.our_state is h11.SEND_RESPONSE:
                raise RefusedError(502, "the server closed before it answered") from error
            raise h11.LocalProtocolError("the server broke off") from error

    async def _switch(self, server: Peer) -> None:
        for one, other in ((self._client, server), (server, self._client)):
            if rest := one.http.trailing_data[0]:
                other.writer.write(rest)
        await copy_both((self._client.reader, self._client.writer), (server.reader, server.writer))

    async def _tunnel(self, request: h11.Request) -> None:
        try:
            target = parse_destination(request.target.decode("latin-1"), DEFAULT_PORTS["https"])
        except ValueError as error:
            raise RefusedError(400, f"bad address: {error}") from error
        if self._fixed is not None:
            raise RefusedError(403, "this connection is no proxy's")
        server = await self._connect(target)
        await self._client.next()
        await self._client.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        await self._switch(server)

    async def _answer(self, error: RefusedError) -> None:
        if self._client.writer.is_closing() or self._client.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = json.dumps({"code": error.status, "message": error.message}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        await self._client.send(h11.Response(status_code=error.status, headers=list(headers.items())))
        await self._client.send(h11.Data(data=body))
        await self._client.send(h11.EndOfMessage())

    def _drop_server(self) -> None:
        if self._server is not None:
            self._gate.release(self._server.writer)
        self._server = self._target = None


async def copy_both(one: Stream, other: Stream) -> None:
    """Carry bytes both ways until both directions have ended, or either breaks."""
    tasks = [asyncio.create_task(_copy(one[0], other[1])), asyncio.create_task(_copy(other[0], one[1]))]
    try:
        await asyncio.gather(*tasks)
    except OSError:
        return
    finally:
        for task in tasks:
            task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _pass_body(client: Peer, server: Peer) -> None:
    while True:
        event = await client.next()
        if isinstance(event, h11.Data):
            await server.send(h11.Data(data=bytes(event.data)))
        elif isinstance(event, h11.EndOfMessage):
            await server.send(h11.EndOfMessage(headers=list(event.headers.raw_items())))
            return
        else:
            # The client left in the middle of its body: the server must not take the part for the whole.
            server.writer.transport.abort()
            return


def _response(answer: h11.Response) -> h11.Response:
    headers = _without(answer.headers.raw_items(), HOP | {b"connection"})
    return h11.Response(status_code=answer.status_code, headers=headers, reason=answer.reason)


def _without(headers: Iterable[tuple[bytes, bytes]], names: set[bytes]) -> Headers:
    headers = list(headers)
    # A body with both framings would be read one way here and another way there.
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        names = names | {b"content-length"}
    return [(name, value) for name, value in headers if name.lower() not in names]

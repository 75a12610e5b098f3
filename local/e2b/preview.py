"""Preview addresses: `http://PORT-SANDBOX.localhost:P` reaches the server on that port inside the sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from local.e2b.envd_client import EnvdError, Operation
from local.e2b.preview_websocket import carry_websocket
from local.e2b.relay import Peer
from local.e2b.sandbox import Sandbox
from local.e2b.sandboxes import NotFoundError, Sandboxes

HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"proxy-connection", b"x-access-token"}


class Preview:
    """Proxies HTTP and websockets to ports inside."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    async def serve(self, sandbox_id: str, port: int, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app for one port of one sandbox."""
        try:
            sandbox = await self._sandboxes.awake(sandbox_id)
            await self._carry(sandbox, port, scope, receive, send)
        except NotFoundError:
            await _refuse(sandbox_id, "The sandbox was not found", scope, receive, send)
        except EnvdError:
            await _refuse(sandbox_id, "The sandbox is running but port is not open", scope, receive, send)

    async def _carry(self, sandbox: Sandbox, port: int, scope: Scope, receive: Receive, send: Send) -> None:
        async with sandbox.envd.begin("tunnel", port=port) as operation:
            await operation.receive_json()
            if scope["type"] == "websocket":
                await carry_websocket(operation, scope, receive, send)
            else:
                await carry_http(operation, scope, receive, send)


async def carry_http(operation: Operation, scope: Scope, receive: Receive, send: Send) -> None:
    """One request and its answer, both streamed. Raises EnvdError when there is no answer."""
    server = Peer(h11.CLIENT, (operation.reader, operation.writer))
    started = False
    try:
        await server.send(_request(scope))
        upload = asyncio.create_task(_upload(server, receive))
        try:
            async for message in _answer(server):
                started = True
                await send(message)
        finally:
            upload.cancel()
            await asyncio.wait([upload])
    except (h11.RemoteProtocolError, h11.LocalProtocolError, OSError) as error:
        if not started:
            raise EnvdError("unavailable", "the server inside did not answer") from error


def _request(scope: Scope) -> h11.Request:
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    chunked = any(k == b"transfer-encoding" for k, _ in scope["headers"])
    headers = [(k, v) for k, v in scope["headers"] if k not in HOP]
    framing = [(b"transfer-encoding", b"chunked")] if chunked else []
    target = scope.get("raw_path", scope["path"].encode()).partition(b"?")[0] + query
    return h11.Request(method=scope["method"], target=target, headers=[*headers, *framing, (b"connection", b"close")])


async def _upload(server: Peer, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            server.writer.transport.abort()
            return
        if message.get("body"):
            await server.send(h11.Data(data=message["body"]))
        if not message.get("more_body"):
            await server.send(h11.EndOfMessage())
            break
    # The visitor's leaving ends the request inside as well.
    await receive()
    server.writer.transport.abort()


async def _answer(server: Peer) -> Any:
    while True:
        event = await server.next()
        if isinstance(event, h11.Response):
            headers = [(k, v) for k, v in event.headers if k not in HOP]
            yield {"type": "http.response.start", "status": event.status_code, "headers": headers}
        elif isinstance(event, h11.Data):
            yield {"type": "http.response.body", "body": bytes(event.data), "more_body": True}
        elif isinstance(event, h11.EndOfMessage):
            yield {"type": "http.response.body", "body": b"", "more_body": False}
            return
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the server inside closed")


async def _refuse(sandbox_id: str, message: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1011, "reason": message})
        return
    body = {"sandboxId": sandbox_id, "message": message, "code": 502}
    await JSONResponse(body, status_code=502)(scope, receive, send)

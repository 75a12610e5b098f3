"""Websockets to a port inside a sandbox: the visitor's on one side, one of our own on the other."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from local.e2b.envd_client import EnvdError, Operation
from local.e2b.envd_wire import CHUNK_BYTES


class Inside:
    """A websocket client over a tunnel that is open already."""

    def __init__(self, operation: Operation, scope: Scope) -> None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        uri = parse_uri(f"ws://{headers.get('host', 'localhost')}{scope['path']}{query}")
        origin = Origin(headers["origin"]) if "origin" in headers else None
        protocols = [Subprotocol(name) for name in scope.get("subprotocols", [])]
        self.protocol = ClientProtocol(uri, origin=origin, subprotocols=protocols or None)
        self._cookie = headers.get("cookie")
        self._operation = operation

    async def open(self) -> None:
        """Shake hands. Raises EnvdError when the server inside does not want to."""
        request = self.protocol.connect()
        if self._cookie is not None:
            request.headers["Cookie"] = self._cookie
        self.protocol.send_request(request)
        await self.flush()
        while True:
            for event in await self.read():
                if isinstance(event, Response) and self.protocol.handshake_exc is None:
                    return
            if self.protocol.handshake_exc is not None or self.protocol.close_expected():
                raise EnvdError("unavailable", "the server inside refused the websocket")

    async def read(self) -> list[object]:
        """What came, at least one read of it; an empty list at the end."""
        data = await self._operation.reader.read(CHUNK_BYTES)
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        await self.flush()
        return list(self.protocol.events_received())

    async def flush(self) -> None:
        """Send what the protocol has to say."""
        for data in self.protocol.data_to_send():
            if data:
                self._operation.writer.write(data)
        await self._operation.writer.drain()

    @property
    def close_code(self) -> int:
        """The code that the server inside closed with; 1005 and 1006 stand for none, and may not be sent."""
        received = self.protocol.close_rcvd
        return received.code if received is not None and received.code not in (1005, 1006) else 1000

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._operation.reader.at_eof() or self.protocol.close_expected()


async def carry_websocket(operation: Operation, scope: Scope, receive: Receive, send: Send) -> None:
    """Accept the visitor's websocket once the inside has accepted, and carry messages. Raises EnvdError."""
    inside = Inside(operation, scope)
    await receive()
    await inside.open()
    await send({"type": "websocket.accept", "subprotocol": inside.protocol.subprotocol})
    tasks = [asyncio.create_task(_outward(inside, send)), asyncio.create_task(_inward(inside, receive))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except (OSError, WebSocketException):
        return  # one side broke off, which is the end of both
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _outward(inside: Inside, send: Send) -> None:
    message, is_text = bytearray(), False
    while not inside.over:
        for event in await inside.read():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            is_text = event.opcode is Opcode.TEXT if event.opcode is not Opcode.CONT else is_text
            message += event.data
            if event.fin:
                whole = bytes(message)
                message.clear()
                await send({"type": "websocket.send", **({"text": whole.decode()} if is_text else {"bytes": whole})})
    await send({"type": "websocket.close", "code": inside.close_code})


async def _inward(inside: Inside, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            inside.protocol.send_close(1000)
            await inside.flush()
            return
        if message.get("text") is not None:
            inside.protocol.send_text(message["text"].encode())
        elif message.get("bytes") is not None:
            inside.protocol.send_binary(message["bytes"])
        await inside.flush()

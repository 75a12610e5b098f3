"""One websocket connection: frames in, frames out, and the channels joined over it."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from starlette.websockets import WebSocket, WebSocketDisconnect

from local.supabase.keys import Caller
from local.supabase.realtime_channel import Channel, Services, make_channel
from local.supabase.realtime_join import JoinRefusedError
from local.supabase.realtime_protocol import Frame, Message, ProtocolError, Push, Version, decode, encode
from local.supabase.realtime_topics import WIRE_PREFIX

QUEUE_FRAMES_MAX = 1024
"""What a slow consumer may lag behind before it is disconnected."""
SILENCE_SECONDS = 60.0
"""A client that sends nothing, not even a heartbeat, is taken for dead: Phoenix's default."""
CLOSE_SECONDS = 1.0
NORMAL, TOO_SLOW, MALFORMED = 1000, 1013, 1002

log = logging.getLogger(__name__)


class Socket:
    """A connection, accepted by `serve()`. Channels queue frames; one task writes them."""

    def __init__(self, services: Services, by_key: Caller, version: Version) -> None:
        self.version = version
        self.by_key = by_key
        self._services = services
        self._channels: dict[str, Channel] = {}
        self._queue: asyncio.Queue[Frame] = asyncio.Queue(QUEUE_FRAMES_MAX)
        self._overflow = asyncio.Event()

    def send(self, frame: Frame) -> None:
        """Queue a frame. A full queue ends the connection, so that a slow reader cannot hold the others up."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self._overflow.set()

    def forget(self, channel: Channel) -> None:
        """The channel is over."""
        name = channel.topic.wire
        if self._channels.get(name) is channel:
            del self._channels[name]

    async def serve(self, websocket: WebSocket) -> None:
        """Accept, and run until either side ends it."""
        await websocket.accept()
        tasks = {
            asyncio.create_task(self._read(websocket)),
            asyncio.create_task(self._write(websocket)),
            asyncio.create_task(self._watch_overflow()),
        }
        code = NORMAL
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            code = max(task.result() for task in done)
        finally:
            await _cancel(tasks)
            for channel in list(self._channels.values()):
                channel.close()
        await _close(websocket, code)

    async def _read(self, websocket: WebSocket) -> int:
        """Handle what comes, in order. The code to close with."""
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    received = await websocket.receive()
                if received["type"] == "websocket.disconnect":
                    break
                text: str | None = received.get("text")
                try:
                    message = decode(received["bytes"] if text is None else text, self.version)
                except ProtocolError as error:
                    log.info("closing a connection that sent a malformed frame: %s", error)
                    return MALFORMED
                await self._handle(message)
        return NORMAL

    async def _write(self, websocket: WebSocket) -> int:
        with contextlib.suppress(WebSocketDisconnect, OSError):
            while True:
                frame = await self._queue.get()
                kind = "text" if isinstance(frame, str) else "bytes"
                await websocket.send({"type": "websocket.send", kind: frame})
        return NORMAL

    async def _watch_overflow(self) -> int:
        await self._overflow.wait()
        log.warning("disconnecting a consumer that lags %d messages behind", QUEUE_FRAMES_MAX)
        return TOO_SLOW

    async def _handle(self, message: Message | Push) -> None:
        channel = self._channels.get(message.topic)
        if message.topic == "phoenix" and message.event == "heartbeat":
            self._reply(message, {})
        elif isinstance(message, Message) and message.event == "phx_join":
            await self._join(message)
        elif channel is None:
            self._reply_without_channel(message)
        elif message.join_ref in (None, channel.join_ref):
            # A message of an earlier join of this topic is none of the present one's business.
            if isinstance(message, Message) and message.event == "phx_leave":
                channel.reply(message.ref, {})
                channel.close()
            else:
                await channel.handle(message)

    async def _join(self, message: Message) -> None:
        earlier = self._channels.pop(message.topic, None)
        if earlier is not None:
            earlier.close()
        try:
            channel = make_channel(self._services, self, message, _topic_name(message.topic))
            self._channels[message.topic] = channel
            await channel.join(message.ref)
        except JoinRefusedError as error:
            self._channels.pop(message.topic, None)
            self._reply(message, {"reason": str(error)}, "error")

    def _reply_without_channel(self, message: Message | Push) -> None:
        if message.event == "phx_leave":
            self._reply(message, {})
        elif message.ref is not None:
            self._reply(message, {"reason": "unmatched topic"}, "error")

    def _reply(self, message: Message | Push, response: object, status: str = "ok") -> None:
        payload = {"status": status, "response": response}
        self.send(encode(self.version, message.topic, "phx_reply", payload, message.ref, message.join_ref))


def _topic_name(wire: str) -> str:
    name = wire.removeprefix(WIRE_PREFIX)
    if name == wire:
        raise JoinRefusedError("unmatched topic")
    if not name:
        raise JoinRefusedError("TopicNameRequired: You must provide a topic name")
    return name


async def _cancel(tasks: set[asyncio.Task[int]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _close(websocket: WebSocket, code: int) -> None:
    """Say goodbye, but not to someone who does not read: the write would wait for ever."""
    with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect, OSError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code)

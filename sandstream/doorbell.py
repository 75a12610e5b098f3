"""Realtime as a doorbell: stays subscribed to a session's broadcasts, one fresh connection after another.

realtime-py gives up after five attempts, waits long between them and leaves timers behind, so each of its clients
serves one connection here and is then taken apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol
from uuid import UUID

import websockets
from pydantic import ValidationError
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates

from sandstream.access import SupabaseAccess, Tokens
from sandstream.backoff import Backoff
from sandstream.cursor import Bell
from sandstream.errors import NotAuthenticatedError, UnavailableError

logger = logging.getLogger(__name__)

EVENT = "events"
PREVIEWS = "previews"
JOIN_SECONDS = 10
CLOSE_SECONDS = 1.0
# A connection that held so long was a good one: the next is opened without much waiting.
STABLE_SECONDS = 2.0
_LIBRARY_LOGGERS = ("realtime._async.client", "realtime._async.channel", "realtime._async.push")
_ours = contextvars.ContextVar("sandstream_doorbell", default=False)


class Listener(Protocol):
    """Who is told. Called on the event loop, and must neither block nor raise."""

    def rang(self, bell: Bell | None) -> None:
        """A broadcast; None for one that makes no sense."""

    def previewed(self, message: Any) -> None:
        """A broadcast of previews, as it came."""

    def joined(self) -> None:
        """Broadcasts may come from now on, or a few seconds from now."""

    def lost(self) -> None:
        """No broadcast comes until `joined`."""


class Doorbell:
    """The subscription of one watch."""

    def __init__(
        self, access: SupabaseAccess, tokens: Tokens, session_id: UUID, listener: Listener, backoff: Backoff
    ) -> None:
        self._url = f"{access.url.rstrip('/')}/realtime/v1"
        self._key = access.publishable_key
        self._tokens = tokens
        self._topic = f"session:{session_id}"
        self._listener = listener
        self._backoff = backoff

    async def stay(self) -> None:
        """Stay subscribed until cancelled. Raises only what the token's source raises for good."""
        _ours.set(True)
        _quieten_library()
        while True:
            started = time.monotonic()
            try:
                await self._connection()
            except (OSError, TimeoutError, UnavailableError, websockets.WebSocketException) as error:
                logger.debug("the doorbell of %s is lost: %r", self._topic, error)
            finally:
                self._listener.lost()
            if time.monotonic() - started > STABLE_SECONDS:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next())

    async def _connection(self) -> None:
        """One connection, from its beginning to its end. Raises UnavailableError when it ends."""
        token = await self._tokens.current()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with self._channel(token) as (client, channel):
            channel.on_broadcast(EVENT, lambda message: self._listener.rang(_parse(message)))
            channel.on_broadcast(PREVIEWS, self._listener.previewed)
            async with asyncio.timeout(JOIN_SECONDS):
                await client.connect()
            # Ends with the socket, whatever else happens; a channel that is not joined yet is told nothing of that.
            ends = {lost, asyncio.ensure_future(client._listen_task or lost)}  # noqa: SLF001 no public name
            await _unless(ends, channel.subscribe(lambda state, error: self._changed(state, error, lost)))
            await self._keep_token(client, token, ends)
            reason = lost.result() if lost.done() else "the connection was closed"
            await self._renew_if_refused(reason, token)
            raise UnavailableError(reason)

    def _changed(self, state: RealtimeSubscribeStates, error: Exception | None, lost: asyncio.Future[str]) -> None:
        if state == RealtimeSubscribeStates.SUBSCRIBED:
            self._listener.joined()
        elif not lost.done():
            lost.set_result(f"{state.value}: {error}")

    async def _keep_token(self, client: AsyncRealtimeClient, token: str, ends: set[asyncio.Future[Any]]) -> None:
        """Hand newer tokens to the connection until it ends."""
        while True:
            left = self._tokens.seconds_left
            done, _ = await asyncio.wait(
                ends, timeout=None if math.isinf(left) else left, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            newer = await self._tokens.current()
            if newer != token:
                token = newer
                await client.set_auth(token)

    async def _renew_if_refused(self, reason: str, token: str) -> None:
        """Realtime tells of a bad token in words only. Without a newer one the table's refusal is what counts."""
        if "jwt" in reason.lower() or "token" in reason.lower():
            with contextlib.suppress(NotAuthenticatedError):
                await self._tokens.instead_of(token)

    @contextlib.asynccontextmanager
    async def _channel(self, token: str) -> AsyncIterator[tuple[AsyncRealtimeClient, AsyncRealtimeChannel]]:
        client = AsyncRealtimeClient(self._url, self._key, auto_reconnect=False, max_retries=1, timeout=JOIN_SECONDS)
        await client.set_auth(token)
        config: Any = {"broadcast": {"ack": False, "self": False}, "presence": None, "private": True}
        channel = client.channel(self._topic, {"config": config})
        try:
            yield client, channel
        finally:
            await _take_apart(client, channel)


async def _unless(ends: set[asyncio.Future[Any]], work: Coroutine[Any, Any, Any]) -> None:
    """Do the work, or leave it when one of `ends` comes first. Raises what the work raises."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _parse(message: Any) -> Bell | None:
    try:
        return Bell.model_validate(message["payload"])
    except (ValidationError, KeyError, TypeError):
        return None


async def _take_apart(client: AsyncRealtimeClient, channel: AsyncRealtimeChannel) -> None:
    """Close the connection and end every task that the library started for it: it cancels some, and waits for none."""
    pushes = [channel.join_push, *channel.messages_waiting_for_ack.values()]
    tasks = {client._listen_task, client._heartbeat_task, channel.rejoin_timer.timer}  # noqa: SLF001 no public names
    tasks |= {push.timeout_task for push in pushes} | channel._background_tasks  # noqa: SLF001
    running = [task for task in tasks if task is not None]
    socket = client._ws_connection  # noqa: SLF001
    for task in running:
        task.cancel()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
    except TimeoutError:
        logger.debug("the other side does not close its connection")
    finally:
        if socket is not None:
            # Does nothing once it is closed; a dead peer would hold the socket for as long as TCP waits.
            socket.transport.abort()
        await asyncio.gather(*running, return_exceptions=True)


class _Demote(logging.Filter):
    """The library reports as errors, to everybody's logs, what this module lives with; ours become debug records."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not _ours.get():
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logger.isEnabledFor(logging.DEBUG)


def _quieten_library() -> None:
    for name in _LIBRARY_LOGGERS:
        library = logging.getLogger(name)
        if not any(isinstance(known, _Demote) for known in library.filters):
            library.addFilter(_Demote())

"""One channel of one connection: join, broadcast, presence, postgres_changes, and the token that all of it rests on.

Answers and messages follow supabase/realtime (`lib/realtime_web/channels/realtime_channel.ex`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from pydantic import ValidationError

from local.supabase.keys import Caller, Keyring, TokenRefusedError
from local.supabase.pool import Pool, PoolTimeoutError
from local.supabase.realtime_authorize import (
    EVERYTHING,
    Authorizer,
    DatabaseUnavailableError,
    Identity,
    Policies,
    identify,
)
from local.supabase.realtime_broadcast import replay
from local.supabase.realtime_changes import Binding, Changes, ChangesUnavailableError
from local.supabase.realtime_filter import FilterError
from local.supabase.realtime_join import Join, JoinRefusedError, read_join
from local.supabase.realtime_protocol import Broadcast, Frame, Message, Push, Version, dumps, encode
from local.supabase.realtime_topics import Topic, Topics

RECHECK_SECONDS = 3600.0
RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
NO_DATABASE = "Realtime was unable to connect to the project database"

log = logging.getLogger(__name__)


class ChannelClosedError(Exception):
    """The channel ends; the message is what the client is told."""


@dataclass(frozen=True)
class Services:
    """What all channels share."""

    keys: Keyring
    pool: Pool
    topics: Topics
    authorizer: Authorizer
    changes: Changes
    replicating: asyncio.Event


class Connection(Protocol):
    """What a channel needs of its connection."""

    version: Version
    by_key: Caller

    def send(self, frame: Frame) -> None:
        """Queue a frame. Never blocks."""

    def forget(self, channel: Channel) -> None:
        """The channel is over."""


class Channel:
    """A joined channel. Made by `joined()`; ends with `close()`, after which it sends nothing."""

    def __init__(
        self, services: Services, connection: Connection, join: Join, topic: Topic, join_ref: str | None
    ) -> None:
        self.topic = topic
        self.join_ref = join_ref
        self.version = connection.version
        self._services = services
        self._connection = connection
        self._config = join.config
        self._caller = identify(services.keys, connection.by_key, join.access_token)
        self._policies = EVERYTHING
        self._presence_enabled = join.config.presence.enabled
        self._presence_key = join.config.presence.key or str(uuid.uuid4())
        self._bindings = [Binding.read(asked) for asked in join.config.postgres_changes]
        self._tasks: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def hears_broadcasts(self) -> bool:
        """Whether the policies let it read broadcasts."""
        return self._policies.broadcast_read

    @property
    def hears_presence(self) -> bool:
        """Whether it asked for presence, and the policies let it read that."""
        return self._presence_enabled and self._policies.presence_read

    def send(self, frame: Frame) -> None:
        """Queue a frame. Never blocks."""
        self._connection.send(frame)

    async def join(self, ref: str | None) -> None:
        """Authorise, answer the join, and go live. Raises JoinRefusedError."""
        self._policies = await self._authorise(self._caller)
        if not self._policies.readable:
            raise JoinRefusedError(f"Unauthorized: {self._unreadable()}")
        if self._bindings and self._config.postgres_changes_options.wait:
            await self._subscribe_before_join()
        missed = await self._missed()
        asked = self._config.postgres_changes
        bound = [params | {"id": binding.id} for params, binding in zip(asked, self._bindings, strict=True)]
        self._services.topics.join(self)
        self.reply(ref, {"postgres_changes": bound})
        self._go_live(missed)

    async def handle(self, message: Message | Push) -> None:
        """Act on what the client sent, other than joining and leaving."""
        try:
            if isinstance(message, Push):
                body = Broadcast(self.topic.wire, message.event, message.payload, message.encoding)
                self._broadcast(body, message.ref)
            elif message.event == "broadcast":
                self._broadcast_text(message)
            elif message.event == "presence":
                self._present(message)
            elif message.event == "access_token":
                await self._refresh(message.payload.get("access_token"))
        except ChannelClosedError as error:
            self._shut_down(str(error))

    def reply(self, ref: str | None, response: Any, status: str = "ok") -> None:
        """Answer the message `ref`."""
        payload = {"status": status, "response": response}
        self.send(encode(self.version, self.topic.wire, "phx_reply", payload, ref, self.join_ref))

    def close(self) -> None:
        """Leave the topic, stop all work, tell the client."""
        self._services.topics.leave(self)
        self._services.changes.unsubscribe(self)
        if self._expiry is not None:
            self._expiry.cancel()
        for task in self._tasks:
            task.cancel()
        self._connection.forget(self)
        self.send(encode(self.version, self.topic.wire, "phx_close", {}, self.join_ref, self.join_ref))

    async def _authorise(self, caller: Caller) -> Policies:
        if not self.topic.private:
            return EVERYTHING
        try:
            return await self._services.authorizer.policies(self.topic.name, Identity.of(caller))
        except DatabaseUnavailableError as error:
            raise JoinRefusedError(f"UnableToConnectToProject: {NO_DATABASE}") from error

    async def _missed(self) -> Sequence[Broadcast]:
        wanted = self._config.broadcast.replay
        if wanted is None:
            return ()
        if not self.topic.private:
            raise JoinRefusedError("UnableToReplayMessages: Replay is not allowed for public channels")
        try:
            return await replay(self._services.pool, self.topic, wanted.since, wanted.limit)
        except (psycopg.Error, PoolTimeoutError) as error:
            raise JoinRefusedError("UnableToReplayMessages: Realtime was unable to replay messages") from error

    def _go_live(self, missed: Sequence[Broadcast]) -> None:
        if self.hears_presence:
            self._sync_presence()
        for broadcast in missed if self.hears_broadcasts else ():
            frame = broadcast.frame(self.version)
            if frame is not None:
                self.send(frame)
        if self._config.broadcast.replication_ready:
            self._start(self._announce_replication())
        if self._bindings and self._config.postgres_changes_options.wait:
            self._system("postgres_changes", "ok", "Subscribed to PostgreSQL")
        elif self._bindings:
            self._start(self._subscribe())
        self._watch_expiry()

    def _broadcast_text(self, message: Message) -> None:
        event = message.payload.get("event")
        if isinstance(event, str):
            body = dumps(message.payload.get("payload", {})).encode()
            self._broadcast(Broadcast(self.topic.wire, event, body, framed=False), message.ref)

    def _broadcast(self, broadcast: Broadcast, ref: str | None) -> None:
        """Publish, unless the policies forbid it: then silence, as on hosted Supabase."""
        if not self._policies.broadcast_write:
            return
        self._services.topics.publish(broadcast, self.topic, but=None if self._config.broadcast.echo else self)
        if self._config.broadcast.ack:
            self.reply(ref, {})

    def _present(self, message: Message) -> None:
        event, payload = str(message.payload.get("event")).lower(), message.payload.get("payload", {})
        if event == "untrack":
            self._services.topics.untrack(self)
        elif event != "track" or not isinstance(payload, dict):
            return self.reply(message.ref, {"reason": "Presence track payload must be a map"}, "error")
        elif not self._policies.presence_write:
            return self.reply(message.ref, {}, "error")
        else:
            self._track(payload)
        return self.reply(message.ref, {})

    def _track(self, payload: dict[str, Any]) -> None:
        newly_enabled, self._presence_enabled = not self._presence_enabled, True
        if newly_enabled and self.hears_presence:
            self._sync_presence()
        self._services.topics.track(self, self._presence_key, payload)

    def _sync_presence(self) -> None:
        state = self._services.topics.presence(self.topic)
        self.send(encode(self.version, self.topic.wire, "presence_state", state))

    async def _refresh(self, token: Any) -> None:
        """Take a new token. Raises ChannelClosedError when it no longer opens the channel."""
        if not isinstance(token, str) or token.startswith("sb_") or token == self._caller.token:
            return
        try:
            caller = identify(self._services.keys, self._connection.by_key, token)
            policies = await self._authorise(caller)
        except TokenRefusedError as error:
            raise ChannelClosedError(str(error)) from error
        except JoinRefusedError as error:
            raise ChannelClosedError(NO_DATABASE) from error
        if not policies.readable:
            raise ChannelClosedError(self._unreadable())
        if policies.revokes(self._policies):
            raise ChannelClosedError(
                f"You no longer have permission to read from this Channel topic: {self.topic.name}"
            )
        self._caller, self._policies = caller, policies
        self._watch_expiry()
        if self._bindings:
            self._start(self._subscribe())

    def _watch_expiry(self) -> None:
        """Close when the token expires; a far `exp` is looked at again every hour."""
        if self._expiry is not None:
            self._expiry.cancel()
        expires = self._caller.claims.get("exp")
        if expires is None:
            return
        left = float(expires) - time.time()
        if left <= 0:
            self._shut_down("Token has expired")
            return
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(min(left, RECHECK_SECONDS), self._watch_expiry)

    async def _subscribe_before_join(self) -> None:
        try:
            await self._services.changes.subscribe(self, Identity.of(self._caller), self._bindings)
        except FilterError as error:
            raise JoinRefusedError(f"RealtimeDisabledForConfiguration: {self._unable(error)}") from error
        except ChangesUnavailableError as error:
            raise JoinRefusedError(f"PostgresChangesSubscribeTimeout: {error}") from error

    async def _subscribe(self) -> None:
        """Ask until it is granted or can never be, and say so."""
        for attempt in itertools.count():
            try:
                await self._services.changes.subscribe(self, Identity.of(self._caller), self._bindings)
            except FilterError as error:
                return self._system("postgres_changes", "error", self._unable(error))
            except ChangesUnavailableError as error:
                log.info("postgres_changes of %s must wait: %s", self.topic.name, error)
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            else:
                return self._system("postgres_changes", "ok", "Subscribed to PostgreSQL")
        return None

    async def _announce_replication(self) -> None:
        await self._services.replicating.wait()
        self._system("system", "ok", "Replication connection established")

    def _unable(self, error: FilterError) -> str:
        return f"Unable to subscribe to changes with given parameters. {error}"

    def _unreadable(self) -> str:
        return f"You do not have permissions to read from this Channel topic: {self.topic.name}"

    def _system(self, extension: str, status: str, message: str) -> None:
        payload = {"extension": extension, "status": status, "message": message, "channel": self.topic.name}
        self.send(encode(self.version, self.topic.wire, "system", payload))

    def _shut_down(self, message: str) -> None:
        self._system("system", "error", message)
        self.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def make_channel(services: Services, connection: Connection, message: Message, topic_name: str) -> Channel:
    """The channel that a `phx_join` asks for, not joined yet. Raises JoinRefusedError."""
    join = read_join(message.payload)
    topic = Topic(topic_name, join.config.private)
    try:
        return Channel(services, connection, join, topic, message.join_ref or message.ref)
    except TokenRefusedError as error:
        code = "InvalidJWTToken" if error.expired or "required" in str(error) else "JwtSignatureError"
        raise JoinRefusedError(f"{code}: {error}") from error
    except (FilterError, ValidationError) as error:
        raise JoinRefusedError(f"RealtimeDisabledForConfiguration: {error}") from error

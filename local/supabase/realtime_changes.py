"""postgres_changes: rows of the publication `supabase_realtime`, for the channels that asked, where the caller may see.

The stream is open only while somebody subscribes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
from pydantic import BaseModel

from local.supabase.pool import Pool, PoolTimeoutError
from local.supabase.realtime_authorize import Identity
from local.supabase.realtime_filter import Condition, parse
from local.supabase.realtime_pgoutput import Change, Kind, Relation, Transaction
from local.supabase.realtime_protocol import Frame, Version, dumps, splice
from local.supabase.realtime_replication import Follower
from local.supabase.realtime_rows import Batch, Row, Rows
from local.supabase.realtime_topics import Topic

PUBLICATION = "supabase_realtime"
BATCH_ROWS = 500
READY_SECONDS = 15.0

log = logging.getLogger(__name__)


class ChangesUnavailableError(Exception):
    """The database cannot be followed now; trying again may help."""


class Asked(BaseModel):
    """One element of `config.postgres_changes`, as a client sends it."""

    event: str = "*"
    schema_: str = "public"
    table: str | None = None
    filter: str | None = None
    select: list[str] | None = None


@dataclass(frozen=True)
class Binding:
    """One thing a channel asked for. `id` is the same for the same parameters, so that frames are shared."""

    id: int
    event: str
    schema: str
    table: str | None
    conditions: tuple[Condition, ...]
    select: frozenset[str] | None

    @classmethod
    def read(cls, params: dict[str, Any]) -> Binding:
        """From the parameters of a join. Raises FilterError, or pydantic.ValidationError."""
        asked = Asked.model_validate({**params, "schema_": params.get("schema") or "public"})
        select = frozenset(asked.select) if asked.select else None
        return cls(binding_id(params), asked.event, asked.schema_, asked.table, parse(asked.filter), select)

    def wants(self, relation: Relation, kind: Kind) -> bool:
        """Whether it is about this table and kind of change."""
        return (
            self.event in ("*", kind)
            and self.schema in ("*", relation.schema)
            and (self.table or "*") in ("*", relation.table)
        )


class Listener(Protocol):
    """What is needed to know of a channel."""

    @property
    def topic(self) -> Topic:
        """Where it is joined."""

    @property
    def version(self) -> Version:
        """Which frames it reads."""

    def send(self, frame: Frame) -> None:
        """Queue a frame. Never blocks."""


@dataclass(frozen=True)
class Subscription:
    """A channel's bindings, and who it is."""

    listener: Listener
    identity: Identity
    bindings: Sequence[Binding]


@dataclass
class Frames:
    """The frames of one row, each written once, for however many subscribers get it."""

    relation: Relation
    batch: Batch
    commit: str
    row: Row
    _documents: dict[frozenset[str], str] = field(default_factory=dict)
    _frames: dict[Any, Frame] = field(default_factory=dict)

    def frame(self, listener: Listener, ids: list[int], columns: frozenset[str]) -> Frame:
        """What to send to a listener for the bindings `ids`, with these columns."""
        key = (listener.topic.wire, listener.version, tuple(ids), columns)
        if key not in self._frames:
            payload = f'{{"ids":{dumps(ids)},"data":{self._document(columns)}}}'
            self._frames[key] = splice(listener.version, listener.topic.wire, "postgres_changes", payload)
        return self._frames[key]

    def _document(self, columns: frozenset[str]) -> str:
        if columns not in self._documents:
            self._documents[columns] = dumps(self._data(columns))
        return self._documents[columns]

    def _data(self, columns: frozenset[str]) -> dict[str, Any]:
        row = self.row
        data: dict[str, Any] = {"schema": self.relation.schema, "table": self.relation.table, "type": row.kind}
        data["commit_timestamp"], data["errors"] = self.commit, None
        data["columns"] = [{"name": c.name, "type": c.type} for c in self.batch.columns if c.name in columns]
        if row.kind is not Kind.DELETE:
            data["record"] = {name: value for name, value in row.new.items() if name in columns}
        if row.kind is not Kind.INSERT:
            data["old_record"] = {name: value for name, value in row.old.items() if name in columns}
        return data


class Changes:
    """All subscriptions, and the stream that feeds them."""

    def __init__(self, dsn: str, pool: Pool) -> None:
        self._dsn = dsn
        self._rows = Rows(pool)
        self._subscriptions: dict[Listener, Subscription] = {}
        self._connected = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def subscribe(self, listener: Listener, identity: Identity, bindings: Sequence[Binding]) -> None:
        """From the return on, the listener gets what it asked for; a second call replaces the first.

        Raises FilterError when it asked for something impossible, ChangesUnavailableError when Postgres is away.
        """
        subscription = Subscription(listener, identity, bindings)
        try:
            for binding in bindings:
                await self._rows.check(binding.schema, binding.table, binding.conditions, identity)
        except (psycopg.OperationalError, PoolTimeoutError) as error:
            raise ChangesUnavailableError(str(error)) from error
        self._subscriptions[listener] = subscription
        if self._following is None:
            follower = Follower(self._dsn, PUBLICATION, self.deliver)
            self._connected, self._following = follower.connected, asyncio.create_task(follower.run())
        try:
            await asyncio.wait_for(self._connected.wait(), READY_SECONDS)
        except TimeoutError as error:
            raise ChangesUnavailableError("the stream of changes did not start in time") from error

    def unsubscribe(self, listener: Listener) -> None:
        """Nothing more for it. Does nothing when it never subscribed."""
        self._subscriptions.pop(listener, None)
        if not self._subscriptions and self._following is not None:
            self._following.cancel()
            self._following = None

    async def close(self) -> None:
        """Stop following."""
        self._subscriptions.clear()
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def deliver(self, transaction: Transaction) -> None:
        """Queue a committed transaction's changes for everyone who asked and may see them."""
        commit = transaction.committed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for _, group in itertools.groupby(transaction.changes, lambda change: (change.relation, change.kind)):
            changes = list(group)
            for start in range(0, len(changes), BATCH_ROWS):
                await self._deliver(transaction.xid, changes[start : start + BATCH_ROWS], commit)

    async def _deliver(self, xid: int, changes: list[Change], commit: str) -> None:
        relation, kind = changes[0].relation, changes[0].kind
        interested = list(self._interested(relation, kind))
        if not interested:
            return
        filters = {binding.conditions for _, wanted in interested for binding in wanted}
        identities = {subscription.identity for subscription, _ in interested}
        try:
            batch = await self._rows.evaluate(xid, changes, filters, identities)
        except (psycopg.Error, PoolTimeoutError, TimeoutError) as error:
            log.warning("%d changes of %s.%s are lost: %s", len(changes), relation.schema, relation.table, error)
            return
        for at, row in enumerate(batch.rows):
            frames = Frames(relation, batch, commit, row)
            for subscription, wanted in interested:
                if subscription.listener in self._subscriptions:
                    _send(frames, at, subscription, wanted)
            await asyncio.sleep(0)

    def _interested(self, relation: Relation, kind: Kind) -> Iterable[tuple[Subscription, list[Binding]]]:
        for subscription in self._subscriptions.values():
            wanted = [binding for binding in subscription.bindings if binding.wants(relation, kind)]
            if wanted:
                yield subscription, wanted


def _send(frames: Frames, at: int, subscription: Subscription, wanted: Iterable[Binding]) -> None:
    """One message for all bindings that want the same columns of row `at`."""
    batch = frames.batch
    sight = batch.sights[subscription.identity]
    if at not in sight.rows:
        return
    by_columns: dict[frozenset[str], list[int]] = {}
    for binding in wanted:
        if at in batch.passing[binding.conditions]:
            columns = sight.columns & binding.select if binding.select else sight.columns
            by_columns.setdefault(columns, []).append(binding.id)
    for columns, ids in by_columns.items():
        subscription.listener.send(frames.frame(subscription.listener, ids, columns))


def binding_id(params: dict[str, Any]) -> int:
    """A positive integer that the same parameters always get."""
    return zlib.crc32(repr(sorted(params.items())).encode()) or 1

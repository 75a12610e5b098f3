"""Reads the messages of Postgres's output plugin `pgoutput`, protocol version 1. Pure.

Source: PostgreSQL documentation, «Logical Replication Message Formats».
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class _Unchanged:
    """The one value `UNCHANGED`."""


UNCHANGED = _Unchanged()
"""A value kept out of line that an UPDATE left as it was: the log does not repeat it."""
Value = str | None | _Unchanged
Values = tuple[Value, ...]


class Kind(StrEnum):
    """What happened to a row, as postgres_changes names it."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True)
class Relation:
    """A table as it was when its rows were written. `keys` are the columns of its replica identity."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    keys: frozenset[str]


@dataclass(frozen=True)
class Change:
    """One row, as text values by column. `old` is what the replica identity kept, None where nothing was logged."""

    kind: Kind
    relation: Relation
    new: dict[str, Value] | None
    old: dict[str, Value] | None


@dataclass(frozen=True)
class Transaction:
    """The rows of one committed transaction, in the order they were written. `xid` has 32 bits."""

    xid: int
    committed_at: datetime
    changes: Sequence[Change]


@dataclass
class Decoder:
    """Feed it messages in order; it gives a transaction at each commit that changed something."""

    _relations: dict[int, Relation] = field(default_factory=dict)
    _changes: list[Change] = field(default_factory=list)
    _xid: int = 0

    def decode(self, message: bytes) -> Transaction | None:
        """Read one message. Raises ValueError for one that protocol version 1 does not know."""
        reader = _Reader(message)
        tag = reader.take(1)
        if tag == b"R":
            relation = _relation(reader)
            self._relations[relation.oid] = relation
        elif tag in (b"I", b"U", b"D"):
            self._changes.append(self._change(tag, reader))
        elif tag == b"B":
            reader.take(16)
            self._xid = reader.integer("I")
        elif tag == b"C":
            return self._commit(reader)
        elif tag not in (b"O", b"T", b"Y", b"M"):
            raise ValueError(f"unknown pgoutput message {tag!r}")
        return None

    def _commit(self, reader: _Reader) -> Transaction | None:
        reader.take(17)
        committed_at = EPOCH + timedelta(microseconds=reader.integer("q"))
        changes, self._changes = self._changes, []
        return Transaction(self._xid, committed_at, changes) if changes else None

    def _change(self, tag: bytes, reader: _Reader) -> Change:
        relation = self._relations[reader.integer("I")]
        old = new = None
        while (part := reader.take(1)) in (b"K", b"O", b"N"):
            values = dict(zip(relation.columns, reader.values(), strict=True))
            if part == b"N":
                new = values
            else:
                old = (
                    values
                    if part == b"O"
                    else {name: values[name] for name in relation.columns if name in relation.keys}
                )
        kind = {b"I": Kind.INSERT, b"U": Kind.UPDATE, b"D": Kind.DELETE}[tag]
        return Change(kind, relation, new, old)


class _Reader:
    def __init__(self, message: bytes) -> None:
        self._message = message
        self._position = 0

    def take(self, length: int) -> bytes:
        """The next bytes; fewer at the end."""
        start, self._position = self._position, self._position + length
        return self._message[start : self._position]

    def integer(self, code: str) -> int:
        """A big-endian integer, `code` as in struct."""
        value: int = struct.unpack(f">{code}", self.take(struct.calcsize(f">{code}")))[0]
        return value

    def string(self) -> str:
        """A C string."""
        end = self._message.index(b"\0", self._position)
        text = self._message[self._position : end].decode()
        self._position = end + 1
        return text

    def values(self) -> Values:
        """A tuple's columns."""
        return tuple(self._value() for _ in range(self.integer("H")))

    def _value(self) -> Value:
        kind = self.take(1)
        if kind == b"n":
            return None
        if kind == b"u":
            return UNCHANGED
        return self.take(self.integer("i")).decode()


def _relation(reader: _Reader) -> Relation:
    oid, schema, table = reader.integer("I"), reader.string(), reader.string()
    reader.take(1)
    columns: list[str] = []
    keys: set[str] = set()
    for _ in range(reader.integer("H")):
        is_key = reader.integer("B")
        columns.append(reader.string())
        reader.take(8)
        if is_key:
            keys.add(columns[-1])
    return Relation(oid, schema or "pg_catalog", table, tuple(columns), frozenset(keys))

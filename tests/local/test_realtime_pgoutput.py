"""The decoder of Postgres's replication messages, fed bytes built by the book."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.supabase.realtime_pgoutput import UNCHANGED, Decoder, Kind, Transaction, Value

TEXT = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
COMMITTED = b"C\0" + bytes(16) + struct.pack(">q", 1_000_000)


def relation(*columns: str, keys: int = 1) -> bytes:
    """A relation message of a table with these columns, the first of which are its key."""
    names = b"".join(bytes([at < keys]) + name.encode() + b"\0" + bytes(8) for at, name in enumerate(columns))
    return b"R" + struct.pack(">I", 7) + b"public\0notes\0d" + struct.pack(">H", len(columns)) + names


def row(*values: Value) -> bytes:
    """A tuple."""
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if isinstance(value, str):
            encoded = value.encode()
            parts.append(b"t" + struct.pack(">i", len(encoded)) + encoded)
        else:
            parts.append(b"n" if value is None else b"u")
    return b"".join(parts)


def transaction(*messages: bytes) -> Transaction:
    """What a decoder makes of them and a commit."""
    decoder = Decoder()
    for message in (b"B" + bytes(16) + struct.pack(">I", 77), *messages):
        assert decoder.decode(message) is None
    decoded = decoder.decode(COMMITTED)
    assert decoded is not None
    return decoded


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_inserts_come_out_as_they_went_in(rows: list[tuple[str | None, str | None]]) -> None:
    """Any values, nulls among them, in the order they were written."""
    decoded = transaction(relation("id", "body"), *(b"I\0\0\0\7N" + row(*values) for values in rows))
    assert [change.new for change in decoded.changes] == [{"id": a, "body": b} for a, b in rows]
    assert {change.kind for change in decoded.changes} == {Kind.INSERT}


def test_updates_and_deletes_carry_their_identity() -> None:
    """An old key is cut to the key columns, a full old row is whole, and neither is there when neither was logged."""
    decoded = transaction(
        relation("id", "body"),
        b"U\0\0\0\7N" + row("1", "a"),
        b"U\0\0\0\7K" + row("1", None) + b"N" + row("2", UNCHANGED),
        b"U\0\0\0\7O" + row("2", "a") + b"N" + row("2", "b"),
        b"D\0\0\0\7K" + row("2", None),
    )
    assert [change.old for change in decoded.changes] == [None, {"id": "1"}, {"id": "2", "body": "a"}, {"id": "2"}]
    assert [change.new for change in decoded.changes] == [
        {"id": "1", "body": "a"}, {"id": "2", "body": UNCHANGED}, {"id": "2", "body": "b"}, None,
    ]  # fmt: skip


def test_the_commit_has_its_time() -> None:
    """Microseconds since 2000 become a time in UTC."""
    decoded = transaction(relation("id"), b"I\0\0\0\7N" + row("1"))
    assert decoded.committed_at == datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert decoded.xid == 77


def test_an_empty_transaction_is_none() -> None:
    """A commit without rows of ours is nothing to handle, nor are truncates, types, origins and messages."""
    decoder = Decoder()
    for message in (b"B" + bytes(20), b"T", b"Y", b"O", b"M", COMMITTED):
        assert decoder.decode(message) is None


def test_a_table_that_changes_is_read_with_its_new_columns() -> None:
    """A relation message replaces the one before."""
    decoded = transaction(
        relation("id"), b"I\0\0\0\7N" + row("1"), relation("id", "more"), b"I\0\0\0\7N" + row("2", "x")
    )
    assert [change.new for change in decoded.changes] == [{"id": "1"}, {"id": "2", "more": "x"}]


def test_an_unknown_message_is_an_error() -> None:
    """Streaming or two-phase messages, which we never ask for, are not skipped in silence."""
    with pytest.raises(ValueError, match="unknown pgoutput message"):
        Decoder().decode(b"S\0")

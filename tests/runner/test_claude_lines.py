"""Bytes become lines: whatever arrives in whatever pieces, every byte is in a line or is reported as no line."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_scripts.drivers.claude.lines import (
    HEAD_BYTES,
    LIMIT_BYTES,
    PATIENCE_LINES,
    Line,
    LineReader,
    Splitter,
    Unparsed,
)
from tests.runner.claude_record import RECORDS, items, recorded

LIMIT_EVENT = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}, "uuid": "u", "session_id": "s"}
FOREIGN = json.dumps(LIMIT_EVENT).encode()
OUTER = {"type": "assistant", "message": {"content": [{"type": "text", "text": "größer 😀"}]}, "session_id": "s"}
WHOLE = json.dumps(OUTER, ensure_ascii=False).encode()
AFTER = b'{"type":"result"}'


def told(found: list[Line | Unparsed]) -> list[Any]:
    """What can be compared."""
    return [
        item.value if isinstance(item, Line) else (item.offset, item.bytes, item.sha256, item.head, item.reason)
        for item in found
    ]


def split(raw: bytes, cuts: list[int], limit: int = LIMIT_BYTES) -> list[Line | Unparsed]:
    """The lines of an output that arrives cut at these places."""
    splitter, found, at = Splitter(limit), [], 0
    for cut in sorted({min(cut, len(raw)) for cut in cuts}):
        found += splitter.feed(raw[at:cut])
        at = cut
    return [*found, *splitter.feed(raw[at:]), *splitter.end()]


@pytest.mark.parametrize("name", RECORDS)
def test_what_the_cli_writes_is_lines(name: str) -> None:
    """Every recorded line is read, is its own bytes, and says where it stands."""
    raw = recorded(name)
    found = items(raw)
    assert [item.value for item in found if isinstance(item, Line)] == [json.loads(row) for row in raw.splitlines()]
    for item in found:
        assert isinstance(item, Line)
        assert raw[item.offset : item.offset + len(item.raw)] == item.raw


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(RECORDS), cuts=st.lists(st.integers(0, 20_000), max_size=12))
def test_recorded_output_may_arrive_in_any_pieces(name: str, cuts: list[int]) -> None:
    """A pipe's borders mean nothing."""
    raw = recorded(name)
    assert told(split(raw, cuts)) == told(items(raw))


PIECES = st.sampled_from(
    [WHOLE, FOREIGN, AFTER, WHOLE[:40], WHOLE[40:], b"\n", b"\n", b"{", b"}", b"\xff", b"null", b"[1]", b" ", b"x" * 90]
)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PIECES | st.binary(max_size=9), max_size=14), cuts=st.lists(st.integers(0, 900), max_size=8))
def test_any_bytes_in_any_pieces_are_the_same_lines(parts: list[bytes], cuts: list[int]) -> None:
    """Garbage, halves and overlong lines too; and the limit does not depend on the pieces."""
    raw = b"".join(parts)
    assert told(split(raw, cuts, limit=256)) == told(split(raw, [], limit=256))


def test_a_half_is_not_forgotten_over_lines_that_are_whole() -> None:
    """Two lines without a newline between, while a half waits that they are too long to belong to."""
    half = WHOLE + b'{"type":"result"}'
    found = split(half + b"\n" + WHOLE + WHOLE, [], limit=256)
    assert [item.bytes for item in found if isinstance(item, Unparsed)] == [len(half)]
    assert len([item for item in found if isinstance(item, Line)]) == 2


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PIECES | st.binary(max_size=9), max_size=14))
def test_no_byte_is_lost(parts: list[bytes]) -> None:
    """What is not blank is in a line or counted in what is no line, once."""
    raw = b"".join(parts)
    found = split(raw, [], limit=256)
    kept = sum(len(item.raw) if isinstance(item, Line) else item.bytes for item in found)
    assert kept == sum(len(row) for row in raw.split(b"\n") if row.strip())


def test_half_a_line_waits_for_the_rest(tmp_path: Path) -> None:
    """A reader that is faster than the writer gives whole lines only, and the last one when the writer is gone."""
    path = tmp_path / "out"
    reader = LineReader(str(path))
    assert reader.read() == []
    with path.open("ab", buffering=0) as file:
        file.write(WHOLE + b"\n" + AFTER[:5])
        assert told(reader.read()) == [OUTER]
        assert reader.read() == []
        file.write(AFTER[5:])
        assert reader.read() == []
    assert reader.offset == path.stat().st_size
    assert told(reader.read(final=True)) == [{"type": "result"}]
    assert reader.read(final=True) == []
    reader.close()


def test_reading_may_begin_later(tmp_path: Path) -> None:
    """From an offset on, lines have the places they have in the file."""
    path = tmp_path / "out"
    path.write_bytes(WHOLE + b"\n" + AFTER + b"\n")
    reader = LineReader(str(path), offset=len(WHOLE) + 1)
    (found,) = reader.read()
    assert isinstance(found, Line)
    assert found.offset == len(WHOLE) + 1
    reader.close()


def test_what_is_no_file_holds_nobody(tmp_path: Path) -> None:
    """A FIFO in the output's place is an empty output, not a wait without end."""
    path = tmp_path / "out"
    os.mkfifo(path)
    reader = LineReader(str(path))
    assert reader.read(final=True) == []
    reader.close()


def test_a_line_of_fifty_megabytes_takes_no_memory() -> None:
    """Past the limit a line is counted and hashed while it passes; the next line is read as ever."""
    size, chunk = 50 * 1024 * 1024, b"x" * (1024 * 1024)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "out"
        with path.open("wb") as file:
            for _ in range(50):
                file.write(chunk)
            file.write(b"\n" + AFTER + b"\n")
        reader = LineReader(str(path))
        long, after = reader.read()
        reader.close()
    assert isinstance(long, Unparsed)
    assert (long.bytes, long.reason) == (size, "too_long")
    assert long.sha256 == hashlib.sha256(chunk * 50).hexdigest()
    assert len(long.head) == HEAD_BYTES
    assert told([after]) == [{"type": "result"}]


def test_an_overlong_line_is_known_before_it_ends() -> None:
    """A watchdog need not wait for a newline that never comes; and the bytes are not kept."""
    splitter = Splitter(limit=1000)
    known = []
    for piece in (b"x" * 1000, b"x", *[b"x" * 1000] * 100):
        splitter.feed(piece)
        known.append(splitter.overlong)
    assert known == [False, *[True] * 101]
    assert sum(map(len, splitter._parts)) == 0
    (long,) = splitter.feed(b"\n")
    assert isinstance(long, Unparsed)
    assert long.bytes == 101_001


@pytest.mark.parametrize("newline", [b"", b"\n"], ids=["without", "with"])
def test_an_event_inside_another_line_is_taken_out(newline: bytes) -> None:
    """Wherever the writer was interrupted, inside a string or a character too, both events are there."""
    for at in range(1, len(WHOLE)):
        raw = WHOLE[:at] + FOREIGN + newline + WHOLE[at:] + b"\n" + AFTER + b"\n"
        assert told(items(raw)) == [LIMIT_EVENT, OUTER, {"type": "result"}], at


@settings(max_examples=150, deadline=None)
@given(cuts=st.lists(st.integers(1, len(WHOLE) - 1), min_size=2, max_size=4, unique=True), data=st.data())
def test_several_events_inside_one_line_are_taken_out(cuts: list[int], data: st.DataObject) -> None:
    """Each with or without its newline, and other lines between the halves."""
    raw, at = b"", 0
    for cut in sorted(cuts):
        raw += WHOLE[at:cut] + FOREIGN
        at = cut
    raw += WHOLE[at:] + b"\n"
    found = told(items(raw))
    assert found[-1] == OUTER
    assert found[:-1] == [LIMIT_EVENT] * len(cuts)


def test_halves_find_each_other_over_other_lines() -> None:
    """Whole lines between two halves are given as they come."""
    raw = WHOLE[:50] + FOREIGN + b"\n" + AFTER + b"\nWarning: of a library\n" + WHOLE[50:] + b"\n"
    found = told(items(raw))
    assert found[:2] == [LIMIT_EVENT, {"type": "result"}]
    assert found[2][4] == "not_json"
    assert found[3] == OUTER


def test_a_half_without_its_other_is_reported() -> None:
    """Neither at the end of the output nor after many lines is a half forgotten."""
    half = WHOLE[:50]
    ended = items(half + b"\n" + AFTER)
    assert told(ended[:1]) == [{"type": "result"}]
    assert isinstance(ended[1], Unparsed)
    assert (ended[1].bytes, ended[1].sha256, ended[1].offset) == (50, hashlib.sha256(half).hexdigest(), 0)
    splitter = Splitter()
    splitter.feed(half + b"\n")
    found = [item for _ in range(PATIENCE_LINES + 1) for item in splitter.feed(AFTER + b"\n")]
    assert [type(item) for item in found].count(Unparsed) == 1
    assert splitter.end() == []


def test_two_lines_without_a_newline_are_in_order() -> None:
    """A newline that was not written costs no event."""
    second = {"type": "result", "session_id": "s"}
    assert told(items(WHOLE + json.dumps(second).encode() + b"\n")) == [OUTER, second]


def test_parts_of_a_line_are_no_events_of_their_own() -> None:
    """A line that is cut right after an inner object is half a line, not that object."""
    cut = WHOLE[: WHOLE.index(b"]")]
    assert json.loads(cut[cut.index(b'{"type": "text"') :])
    (found,) = items(cut + b"\n")
    assert isinstance(found, Unparsed)
    assert found.bytes == len(cut)


@pytest.mark.parametrize(
    "raw",
    [b"null", b"42", b'"text"', b"[]", b"{", b"{]", b"[" * 100_000, b'{"a":' * 5000, b"1" * 5000, b"\xef\xbb\xbf{}"],
    ids=["null", "number", "string", "array", "open", "wrong", "deep", "deep-object", "large-number", "mark"],
)
def test_what_is_no_object_is_reported(raw: bytes) -> None:
    """Size, hash and head of it; nothing raises."""
    (found,) = items(raw + b"\n")
    assert isinstance(found, Unparsed)
    assert (found.bytes, found.sha256, found.reason) == (len(raw), hashlib.sha256(raw).hexdigest(), "not_json")
    assert raw.decode().startswith(found.head)


def test_invalid_characters_cost_no_line() -> None:
    """A byte that is no UTF-8 is replaced; the event is kept."""
    assert told(items(b'{"type":"x\xff"}\n')) == [{"type": "x\ufffd"}]


def test_many_openings_are_not_tried_without_end() -> None:
    """A broken line full of beginnings costs a bounded number of tries."""
    raw = b'{"a":' + b'{"type":"x","session_id":"s"' * 50_000
    (found,) = items(raw + b"\n")
    assert isinstance(found, Unparsed)
    assert found.bytes == len(raw)

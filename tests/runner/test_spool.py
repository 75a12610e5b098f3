"""The spool: numbers without a hole, lines that are the wire's JSON, and recovery from any cut."""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_scripts.errors import SpoolDamaged
from sandbox_scripts.spool import Reader, Spool, encode

ANY_TEXT = st.text(st.characters() | st.sampled_from('\0\ud800\udfff\u2028\n"\\'))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


def filled(path: Path, count: int, text: str = "x") -> Spool:
    spool = Spool(str(path))
    for _ in range(count):
        spool.append("t", {"text": text})
    return spool


def numbers(lines: bytes) -> list[int]:
    return [json.loads(line)["n"] for line in lines.splitlines()]


def texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def test_the_event_is_in_the_file_when_append_returns_and_n_counts_from_one(tmp_path: Path) -> None:
    """The disk is first: n = 1, 2, …, each a whole line with type, data and UTC time."""
    spool = Spool(str(tmp_path / "spool"))
    assert [spool.append("a.b", {"k": 1}), spool.append("c", {})] == [1, 2]
    first, second = [json.loads(line) for line in (tmp_path / "spool").read_bytes().splitlines()]
    assert (first["n"], first["type"], first["data"]) == (1, "a.b", {"k": 1})
    assert (second["n"], second["type"], second["data"]) == (2, "c", {})
    assert len(first["at"]) == len("2026-11-21T08:00:00.123456Z")
    assert first["at"].endswith("Z")


@given(data=st.dictionaries(ANY_TEXT, ANY_JSON, max_size=4))
def test_every_line_is_json_that_jsonb_takes(data: dict[str, Any]) -> None:
    """No NUL, no lone surrogate, no NaN, no raw newline, whatever the data: and valid UTF-8."""
    line = encode(7, "t", data, "at")
    assert line.count(b"\n") == 1
    parsed = json.loads(line.decode(), parse_constant=pytest.fail)
    for text in texts(parsed):
        assert "\0" not in text.encode().decode()


def test_a_backslash_u0000_that_is_text_stays_text() -> None:
    """Six characters that only look like an escape are left alone."""
    line = encode(1, "t", {"text": "\\u0000"}, "at")
    assert json.loads(line)["data"]["text"] == "\\u0000"


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=8
    ),
    data=st.data(),
)
def test_after_a_cut_anywhere_the_whole_lines_remain_and_numbers_go_on(words: list[str], data: st.DataObject) -> None:
    """A crash in the middle of a write loses that line only; the next event takes its number."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "spool"
        spool = Spool(str(path))
        for text in words:
            spool.append("t", {"text": text})
        raw = path.read_bytes()
        cut = data.draw(st.integers(0, len(raw)))
        os.truncate(path, cut)
        whole = raw[:cut].count(b"\n")
        again = Spool(str(path))
        assert again.n == whole
        assert again.append("after", {}) == whole + 1
        assert [event["n"] for event in again.events()] == list(range(1, whole + 2))
        assert [event["data"].get("text") for event in again.events()][:-1] == words[:whole]


def test_a_spool_whose_numbers_do_not_fit_is_refused(tmp_path: Path) -> None:
    """A file that somebody else wrote into is not continued."""
    path = tmp_path / "spool"
    filled(path, 3)
    path.write_bytes(path.read_bytes() + b'{"n":9}\n')
    with pytest.raises(SpoolDamaged):
        Spool(str(path))
    path.write_bytes(b"no json\n")
    with pytest.raises(SpoolDamaged):
        Spool(str(path))


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A write that stops half way is taken back, and the next one continues the numbers."""
    spool = filled(tmp_path / "spool", 2)
    size = spool.size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.append("t", {"text": "y" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "spool").stat().st_size == size
    assert spool.append("t", {}) == 3
    assert Spool(str(tmp_path / "spool")).n == 3


def test_a_batch_is_bounded_in_rows_and_bytes_but_never_empty(tmp_path: Path) -> None:
    """200 rows or 64 KiB, and one event larger than that goes alone."""
    spool = filled(tmp_path / "spool", 5)
    reader = Reader(spool)
    assert numbers(reader.batch(3, 1 << 16).lines) == [1, 2, 3]
    line = spool.size // 5
    assert numbers(reader.batch(200, line * 2 + 3).lines) == [1, 2]
    big = filled(tmp_path / "big", 2, "z" * 300_000)
    assert numbers(Reader(big).batch(200, 1 << 16).lines) == [1]


def test_a_batch_is_the_files_bytes_with_commas(tmp_path: Path) -> None:
    """The wire's body is not encoded again."""
    spool = filled(tmp_path / "spool", 3, "line\nbreak")
    batch = Reader(spool).batch(200, 1 << 16)
    assert batch.array() == b"[" + (tmp_path / "spool").read_bytes()[:-1].replace(b"\n", b",") + b"]"
    assert [event["n"] for event in json.loads(batch.array())] == [batch.first, 2, batch.last]


@settings(max_examples=40, deadline=None)
@given(moves=st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_seek_goes_anywhere_forwards_and_back(moves: list[int]) -> None:
    """Whatever last_n an answer names, the next batch starts after it, at most at the end."""
    with tempfile.TemporaryDirectory() as name:
        spool = filled(Path(name) / "spool", 50, "é\n")
        reader = Reader(spool)
        for n in moves:
            reader.seek(n)
            assert reader.n == min(n, 50)
            if n < 50:
                assert numbers(reader.batch(1, 1 << 16).lines) == [n + 1]
            else:
                assert reader.pending() == (0, 0)

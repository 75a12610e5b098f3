"""A stream becomes pieces of text: decoded across borders, coalesced, bounded, by offsets of the original bytes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sandbox_scripts import output
from sandbox_scripts.output import PIECE_BYTES, Tail, decode
from sandbox_scripts.redact import Redactor, literal_forms, redact_text

LIMIT = 1 << 20


def tail(path: Path, offset: int = 0, values: tuple[str, ...] = ()) -> Tail:
    return Tail(str(path), "stdout", offset, Redactor(literal_forms(list(values))))


def rest(stream: Tail, allowance: int = LIMIT) -> list[dict[str, Any]]:
    """Everything that is still due when the writer is gone."""
    pieces = []
    while piece := stream.read(allowance - stream.offset, final=True):
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize("other", ["fifo", "link", "folder"])
def test_what_is_no_file_holds_nobody(other: str, tmp_path: Path) -> None:
    """A command that puts a FIFO, a link or a folder in the place of its output gets no output, and stops nothing."""
    path = tmp_path / "stdout"
    if other == "fifo":
        os.mkfifo(path)
    elif other == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.mkdir()
    assert tail(path).size() == 0
    assert rest(tail(path)) == []


def offered(stream: Tail) -> dict[str, Any] | None:
    """The next piece, as if the interval since the last one had passed."""
    stream._next_at = 0
    return stream.read(LIMIT, final=False)


@settings(max_examples=150, deadline=None)
@given(chunks=st.lists(st.binary(max_size=6) | st.text("aé日😀\0", max_size=3).map(str.encode), max_size=10))
def test_text_is_the_same_however_the_bytes_arrive(chunks: list[bytes]) -> None:
    """UTF-8 across chunk borders; every invalid byte and NUL replaced and counted; offsets without a gap."""
    raw = b"".join(chunks)
    whole, invalid = decode(raw)
    assume(redact_text(whole, []) == whole)  # a key that chance has found is another test's
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "out"
        stream, pieces = tail(path), []
        with path.open("ab", buffering=0) as file:
            for chunk in chunks:
                file.write(chunk)
                if piece := offered(stream):
                    pieces.append(piece)
        pieces += rest(stream)
        stream.close()
    assert "".join(piece["text"] for piece in pieces) == whole
    assert sum(piece.get("invalid_bytes", 0) for piece in pieces) == invalid
    ends = [piece["offset"] + piece["bytes"] for piece in pieces]
    assert [piece["offset"] for piece in pieces] == [0, *ends[:-1]][: len(ends)]
    assert (ends or [0])[-1] == len(raw)


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["opensesame", "日本", " plain\n", "open ", "x"]), max_size=8),
    cuts=st.lists(st.integers(0, 80), max_size=6),
)
def test_a_restart_between_any_two_pieces_goes_on_exactly(parts: list[str], cuts: list[int]) -> None:
    """A new tail at the last piece's end tells the same story as one that never stopped."""
    raw = "".join(parts).encode()
    shown, offset = "", 0
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "out"
        for border in [*sorted(cuts), len(raw)]:
            path.write_bytes(raw[: max(border, offset)])
            stream = tail(path, offset, ("opensesame",))
            piece = offered(stream)
            stream.close()
            if piece:
                shown, offset = shown + piece["text"], piece["offset"] + piece["bytes"]
        stream = tail(path, offset, ("opensesame",))
        shown += "".join(piece["text"] for piece in rest(stream))
        stream.close()
    assert shown == "".join(parts).replace("opensesame", "[redacted:value]")


@pytest.mark.parametrize(
    ("raw", "text", "invalid"),
    [
        (b"ok", "ok", 0),
        (b"a\xffb\xe2\x82", "a\ufffdb\ufffd", 3),
        ("\ufffd".encode(), "\ufffd", 0),
        (b"\0\0x", "\ufffd\ufffdx", 2),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd", 3),
    ],
)
def test_what_is_not_text_is_replaced_and_counted(raw: bytes, text: str, invalid: int) -> None:
    """Counted in bytes; a real U+FFFD in the output is not counted."""
    assert decode(raw) == (text, invalid)


def test_the_first_output_goes_at_once_and_the_next_waits_for_the_interval(tmp_path: Path) -> None:
    """A chatty command makes one event per interval and stream, not one per line."""
    path = tmp_path / "out"
    stream = tail(path)
    assert stream.read(LIMIT, final=False) is None
    path.write_bytes(b"1\n")
    first = stream.read(LIMIT, final=False)
    assert first is not None
    assert first["text"] == "1\n"
    path.write_bytes(b"1\n2\n3\n")
    stream._next_at = time.monotonic() + 60
    assert stream.read(LIMIT, final=False) is None
    assert offered(stream) == {"stream": "stdout", "text": "2\n3\n", "offset": 2, "bytes": 4}


def test_a_flood_goes_in_pieces_of_16_kib_up_to_the_allowance(tmp_path: Path) -> None:
    """No event is larger than a piece, none goes past the allowance, and a full piece does not wait."""
    path = tmp_path / "out"
    path.write_bytes(b"y\n" * 40_000)
    stream = tail(path)
    sizes = []
    while piece := stream.read(50_000 - stream.offset, final=False):
        sizes.append(piece["bytes"])
        stream._next_at = time.monotonic() + 60 if len(sizes) < 3 else 0
    assert sizes == [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 50_000 - 3 * PIECE_BYTES]
    assert stream.size() == 80_000


def test_a_secret_at_the_allowances_edge_is_not_shown_in_part(tmp_path: Path) -> None:
    """What the limit cuts in two stays in the file."""
    path = tmp_path / "out"
    path.write_bytes(b"12345 opensesame and more")
    stream = tail(path, 0, ("opensesame",))
    assert [piece["text"] for piece in rest(stream, allowance=10)] == ["12345 "]


def test_what_could_be_a_secret_waits_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held while there is hope for the rest, then let go; the file keeps it in any case."""
    path = tmp_path / "out"
    path.write_bytes(b"say ope")
    stream = tail(path, 0, ("opensesame",))
    first = offered(stream)
    assert first is not None
    assert first["text"] == "say "
    assert offered(stream) is None
    monkeypatch.setattr(output, "HOLD_SECONDS", 0)
    later = offered(stream)
    assert later is not None
    assert (later["text"], later["offset"]) == ("ope", 4)


def test_a_hold_is_bounded_in_bytes(tmp_path: Path) -> None:
    """A key without an end is redacted piece by piece, and what follows it is shown."""
    path = tmp_path / "out"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n" + b"A" * (3 * PIECE_BYTES) + b"\n' plain")
    shown = "".join(piece["text"] for piece in rest(tail(path)))
    assert shown == "[redacted:private_key]' plain"


def test_reading_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """close() gives the file back."""
    path = tmp_path / "out"
    path.write_bytes(b"x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    stream = tail(path)
    stream.size()
    stream.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before

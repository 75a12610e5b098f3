"""From the bytes the Claude CLI writes to its lines: one JSON object each.

Nothing is dropped and nothing raises. A line that is no JSON object becomes `Unparsed`; one longer than the limit is
counted and hashed as it passes, and never held. The CLI sometimes writes one event into the middle of another's line,
with that event's own newline (anthropics/claude-code 49640): both are put back together where that can be done.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Union

    Item = Union["Line", "Unparsed"]

LIMIT_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
HEAD_BYTES = 16 * 1024
# Half a line waits for its other half while this many other lines pass.
PATIENCE_LINES = 16
# A broken line of 8 MiB may hold very many openings; each try costs a scan.
MAX_TRIES = 64
_OPENING = re.compile(rb'\{"(?:type|uuid|session_id|rate_limit_info)"\s*:')
_DECODER = json.JSONDecoder()


class Line:
    """One JSON object. `offset` is that of its first byte in the file, `raw` its bytes without the newline."""

    def __init__(self, offset: int, raw: bytes, value: dict[str, Any]) -> None:
        self.offset = offset
        self.raw = raw
        self.value = value


class Unparsed:
    """Bytes that are no line. `head` is the beginning as text, NOT redacted; `reason` is not_json or too_long."""

    def __init__(self, offset: int, size: int, sha256: str, head: str, reason: str) -> None:
        self.offset = offset
        self.bytes = size
        self.sha256 = sha256
        self.head = head
        self.reason = reason


class LineReader:
    """The lines of a file that another process still writes, from byte `offset` on."""

    def __init__(self, path: str, offset: int = 0, limit: int = LIMIT_BYTES) -> None:
        self.offset = offset
        self._path = path
        self._splitter = Splitter(limit, offset)
        self._fd = -1

    @property
    def overlong(self) -> bool:
        """The line that is being read is longer than the limit, and may never end."""
        return self._splitter.overlong

    def read(self, final: bool = False) -> list[Item]:
        """The next lines that are whole, out of at most one chunk that has any; [] when there is none by now.

        `final`: nobody writes any more, so what stands after the last newline is a line too.
        """
        items: list[Item] = []
        while not items and (chunk := self._chunk()):
            self.offset += len(chunk)
            items = self._splitter.feed(chunk)
        if final and not items:
            items = self._splitter.end()
        return items

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _chunk(self) -> bytes:
        if self._fd < 0:
            try:
                # Whatever a tool puts in the file's place, a FIFO would hold the whole run.
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError:
                return b""
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return b""
        return os.pread(self._fd, CHUNK_BYTES, self.offset)


class Splitter:
    """The same without a file: bytes in, in pieces of any size; lines out."""

    def __init__(self, limit: int = LIMIT_BYTES, offset: int = 0) -> None:
        self._limit = limit
        self._mender = Mender(limit)
        self._start = offset
        self._next = offset
        self._parts: list[bytes] = []
        self._long: Long | None = None

    @property
    def overlong(self) -> bool:
        """The line that has begun is longer than the limit."""
        return self._long is not None

    def feed(self, chunk: bytes) -> list[Item]:
        """What became whole with these bytes."""
        items: list[Item] = []
        pieces = chunk.split(b"\n")
        for piece in pieces[:-1]:
            self._add(piece)
            items += self._whole()
            self._next += 1
            self._start = self._next
        self._add(pieces[-1])
        return items

    def end(self) -> list[Item]:
        """What is left when no more bytes come."""
        items = self._whole()
        self._start = self._next
        return items + self._mender.end()

    def _add(self, piece: bytes) -> None:
        self._next += len(piece)
        if self._long is None and self._next - self._start > self._limit:
            self._long = Long(self._start)
            for part in self._parts:
                self._long.add(part)
            self._parts = []
        if self._long is not None:
            self._long.add(piece)
        elif piece:
            self._parts.append(piece)

    def _whole(self) -> list[Item]:
        if self._long is not None:
            long, self._long = self._long, None
            return [long.unparsed()]
        raw, self._parts = b"".join(self._parts), []
        return self._mender.take(self._start, raw) if raw.strip() else []


class Long:
    """A line over the limit: only its size, hash and beginning are kept."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._size = 0
        self._hash = hashlib.sha256()
        self._head = b""

    def add(self, piece: bytes) -> None:
        """More of it."""
        self._size += len(piece)
        self._hash.update(piece)
        self._head += piece[: max(0, HEAD_BYTES - len(self._head))]

    def unparsed(self) -> Unparsed:
        """What is known of it."""
        return Unparsed(self._offset, self._size, self._hash.hexdigest(), _head(self._head), "too_long")


class Mender:
    """Lines out of whole raw lines, some of which were written into each other."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._half = b""
        self._half_offset = 0
        self._age = 0

    def take(self, offset: int, raw: bytes) -> list[Item]:
        """The next raw line: what it is, or what it completes."""
        value = parsed(raw)
        if value is not None:
            return [*self._aged(), Line(offset, raw, value)]
        if self._half and len(self._half) + len(raw) <= self._limit:
            whole, half_offset = self._half + raw, self._half_offset
            items = self._untangled(whole, half_offset, len(self._half), offset)
            if items:
                return items
        items = self._untangled(raw, offset, len(raw), offset)
        if items:
            return items
        if raw.startswith(b"{"):
            return self._hold(offset, raw)
        return [*self._aged(), _unparsed(offset, raw)]

    def end(self) -> list[Item]:
        """No other half comes any more."""
        half, self._half = self._half, b""
        return [_unparsed(self._half_offset, half)] if half else []

    def _untangled(self, raw: bytes, offset: int, border: int, rest_offset: int) -> list[Item]:
        """The lines in `raw`, whose bytes from `border` on stand at `rest_offset`; [] when it cannot be told."""
        value = parsed(raw)
        if value is not None:
            self._joined(offset)
            return [Line(offset, raw, value)]
        found = [
            (
                start,
                end,
                Line(offset + start if start < border else rest_offset + start - border, raw[start:end], inner),
            )
            for start, end, inner in _foreign(raw)
        ]
        return self._taken_out(raw, offset, found) or self._cut_off(raw, offset, found)

    def _taken_out(self, raw: bytes, offset: int, found: list[tuple[int, int, Line]]) -> list[Item]:
        """The foreign events are whole, and without them the line is."""
        for some in [*([one] for one in found), found] if len(found) > 1 else [found]:
            rest = _without(raw, some)
            value = parsed(rest) if some else None
            if value is not None:
                self._joined(offset)
                foreign: list[Item] = [line for _, _, line in some]
                outer: list[Item] = [Line(offset, rest, value)]
                # Two lines without a newline between are in order already.
                return outer + foreign if rest == raw[: some[0][0]] else foreign + outer
        return []

    def _cut_off(self, raw: bytes, offset: int, found: list[tuple[int, int, Line]]) -> list[Item]:
        """A foreign event's own newline ended the line: the other half comes with a later one."""
        if not found or raw[found[-1][1] :].strip() or not found[-1][0]:
            return []
        joins = self._half and offset == self._half_offset
        lost = [] if joins else self.end()
        self._half, self._half_offset, self._age = _without(raw, found), offset, 0
        return [*lost, *(line for _, _, line in found)]

    def _joined(self, offset: int) -> None:
        """The half is no half any more, if what was found begins with it; else it still waits for the other."""
        if self._half and offset == self._half_offset:
            self._half = b""

    def _hold(self, offset: int, raw: bytes) -> list[Item]:
        lost = self.end()
        self._half, self._half_offset, self._age = raw, offset, 0
        return lost

    def _aged(self) -> list[Item]:
        self._age += 1
        return self.end() if self._age > PATIENCE_LINES else []


def parsed(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in these bytes, invalid UTF-8 replaced; None when they are something else."""
    try:
        value = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _foreign(raw: bytes) -> list[tuple[int, int, dict[str, Any]]]:
    """Whole events inside these bytes, from left to right, without those inside of others."""
    found: list[tuple[int, int, dict[str, Any]]] = []
    # One byte is one character in Latin-1, and JSON's own characters are ASCII: offsets hold.
    text = raw.decode("latin-1")
    for start in _openings(raw):
        if found and start < found[-1][1]:
            continue
        try:
            end = _DECODER.raw_decode(text, start)[1]
        except (ValueError, RecursionError):
            continue
        value = parsed(raw[start:end])
        if value is not None and _is_event(value):
            found.append((start, end, value))
    return found


def _openings(raw: bytes) -> Iterator[int]:
    for tries, match in enumerate(_OPENING.finditer(raw, 1)):
        if tries == MAX_TRIES:
            return
        yield match.start()


def _is_event(value: dict[str, Any]) -> bool:
    """Of its own, and not a part of another: parts have no `session_id`."""
    kind = value.get("type")
    return kind == "rate_limit_event" or (isinstance(kind, str) and isinstance(value.get("session_id"), str))


def _without(raw: bytes, found: list[tuple[int, int, Line]]) -> bytes:
    kept, at = [], 0
    for start, end, _ in found:
        kept.append(raw[at:start])
        at = end
    return b"".join([*kept, raw[at:]])


def _unparsed(offset: int, raw: bytes) -> Unparsed:
    return Unparsed(offset, len(raw), hashlib.sha256(raw).hexdigest(), _head(raw), "not_json")


def _head(raw: bytes) -> str:
    return raw[:HEAD_BYTES].decode("utf-8", "replace")

"""The spool: every event of the run, one JSON line each, on disk before anything is sent.

A line is exactly the JSON that goes over the wire, so a batch is a slice of this file with commas for newlines.
write(2) without fsync: the lines survive the runner; when the whole sandbox dies, so does its disk.
"""

from __future__ import annotations

import os

from .c_json import dumps_unicode, loads
from .clock import Stamp
from .errors import SpoolDamaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_BLOCK_BYTES = 1 << 18


class Spool:
    """Append-only NDJSON; assigns `n` = 1, 2, … without a hole."""

    def __init__(self, path: str) -> None:
        """Open or create; a last line torn by a crash is cut off. Raise SpoolDamaged when the numbers do not fit."""
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.n, self.size = _whole_lines(self.fd)
        os.ftruncate(self.fd, self.size)
        self._check_last()
        self._stamp = Stamp()
        self.on_append: Callable[[], None] = _nobody

    def append(self, kind: str, data: dict[str, Any]) -> int:
        """Write one event and return its `n`. Raise OSError (disk full …) with the file as it was before."""
        line = encode(self.n + 1, kind, data, self._stamp.now())
        try:
            written = os.write(self.fd, line)
            while written < len(line):
                written += os.write(self.fd, line[written:])
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.size += len(line)
        self.n += 1
        self.on_append()
        return self.n

    def events(self) -> Iterator[dict[str, Any]]:
        """All events so far, one at a time."""
        with open(os.dup(self.fd), "rb") as file:
            file.seek(0)
            for line in file:
                yield loads(line.decode())

    def _check_last(self) -> None:
        if not self.n:
            return
        try:
            last = loads(_last_line(self.fd, self.size).decode())["n"]
        except (ValueError, KeyError, TypeError) as error:
            raise SpoolDamaged(f"spool: line {self.n} is no event") from error
        if last != self.n:
            raise SpoolDamaged(f"spool: line {self.n} carries n {last}")


class Batch:
    """Consecutive lines of the spool: events `first` to `last`."""

    def __init__(self, first: int, count: int, lines: bytes) -> None:
        self.first = first
        self.last = first + count - 1
        self.lines = lines

    def array(self) -> bytes:
        """The lines as a JSON array. JSON has no raw newline inside, so every newline is a border."""
        return b"[%b]" % self.lines[:-1].replace(b"\n", b",")


class Reader:
    """A place in the spool: `n` events, `offset` bytes lie before it. Memory does not grow with the spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.n = 0
        self.offset = 0

    def pending(self) -> tuple[int, int]:
        """How many events and bytes lie after this place."""
        return self._spool.n - self.n, self._spool.size - self.offset

    def batch(self, rows: int, limit: int) -> Batch:
        """Up to `rows` events within `limit` bytes, at least one; the place does not move."""
        available = self._spool.size - self.offset
        chunk = os.pread(self._spool.fd, min(limit, available), self.offset)
        while b"\n" not in chunk:
            limit *= 2
            chunk = os.pread(self._spool.fd, min(limit, available), self.offset)
        lines = chunk.split(b"\n", rows)
        rest = len(lines.pop())
        return Batch(self.n + 1, len(lines), chunk[: len(chunk) - rest])

    def advance(self, batch: Batch) -> None:
        """Move past a batch that was read here."""
        self.n = batch.last
        self.offset += len(batch.lines)

    def seek(self, n: int) -> None:
        """Move to just after event `n`, wherever the place was; not past the spool's end."""
        if n < self.n:
            self.n = self.offset = 0
        n = min(n, self._spool.n)
        while self.n < n:
            self.advance(self.batch(n - self.n, _BLOCK_BYTES))


def encode(n: int, kind: str, data: dict[str, Any], at: str) -> bytes:
    """One line. What jsonb refuses (NUL, lone surrogates, NaN) is replaced."""
    try:
        text = dumps_unicode(data)
        if "\\u0000" in text:
            text = dumps_unicode(clean(data))
        body = text.encode()
    except ValueError:
        body = dumps_unicode(clean(data)).encode()
    return b'{"n":%d,"type":"%b","at":"%b","data":%b}\n' % (n, kind.encode(), at.encode(), body)


def clean(value: Any) -> Any:
    """The value with U+FFFD for NUL and lone surrogates, and null for numbers that JSON has not."""
    if isinstance(value, str):
        return "".join("\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in value)
    if isinstance(value, dict):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _nobody() -> None:
    """Nobody listens to appends yet."""


def _whole_lines(fd: int) -> tuple[int, int]:
    """The number of whole lines and of the bytes they take."""
    count = end = offset = 0
    while block := os.pread(fd, _BLOCK_BYTES, offset):
        count += block.count(b"\n")
        last = block.rfind(b"\n")
        if last >= 0:
            end = offset + last + 1
        offset += len(block)
    return count, end


def _last_line(fd: int, size: int) -> bytes:
    """The last line of a file that ends with a newline."""
    take = _BLOCK_BYTES
    while take < size:
        _, border, line = os.pread(fd, take, size - take)[:-1].rpartition(b"\n")
        if border:
            return line
        take *= 2
    return os.pread(fd, size, 0)[:-1].rpartition(b"\n")[2]

"""A command's stream, from the file it is pumped into to pieces of text for events.

A stream makes at most one event per 50 ms, unless 16 KiB wait. Reading is by offset and keeps nothing, so a restarted
runner goes on at the byte after the last spooled event.
"""

from __future__ import annotations

import os
import stat
import time

from .redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERVAL_SECONDS = 0.05
PIECE_BYTES = 16 * 1024
# How long the possible beginning of a secret, or half a character, waits for the rest.
HOLD_SECONDS = 1.0


class Tail:
    """One stream of one attempt, from byte `offset` on."""

    def __init__(self, path: str, stream: str, offset: int, redactor: Redactor) -> None:
        self.offset = offset
        self._path = path
        self._stream = stream
        self._redactor = redactor
        self._fd = -1
        self._next_at = 0.0
        self._held_since: float | None = None

    def size(self) -> int:
        """Bytes the command has written so far."""
        if self._fd < 0:
            try:
                # A command may put anything in the place of its own output: a FIFO would hold the whole run.
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError:
                return 0
        found = os.fstat(self._fd)
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def read(self, allowance: int, final: bool) -> dict[str, Any] | None:
        """The next piece, of at most `allowance` bytes, as the data of command.output; None when none is due.

        `final`: nobody writes any more, so everything is due, except what the allowance cuts in two.
        """
        now = time.monotonic()
        waiting = min(self.size() - self.offset, allowance)
        if waiting <= 0 or (not final and now < self._next_at and waiting < PIECE_BYTES):
            return None
        chunk = os.pread(self._fd, min(PIECE_BYTES, waiting), self.offset)
        end = final and self.offset + len(chunk) == self.size()
        cut = self._redactor.cut(chunk, end=end)
        if not cut.consumed and not end and self._patience_over(chunk, now):
            cut = self._redactor.cut(chunk, force=True)
        return self._piece(cut.consumed, cut.text, now) if cut.consumed else None

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)

    def _patience_over(self, chunk: bytes, now: float) -> bool:
        if self._held_since is None:
            self._held_since = now
        return len(chunk) == PIECE_BYTES or now >= self._held_since + HOLD_SECONDS

    def _piece(self, consumed: int, raw: bytes, now: float) -> dict[str, Any]:
        text, invalid = decode(raw)
        data: dict[str, Any] = {"stream": self._stream, "text": text, "offset": self.offset, "bytes": consumed}
        if invalid:
            data["invalid_bytes"] = invalid
        self.offset += consumed
        self._next_at = now + INTERVAL_SECONDS
        self._held_since = None
        return data


def decode(raw: bytes) -> tuple[str, int]:
    """UTF-8 as text, and how many bytes were replaced by U+FFFD: invalid ones, and NUL, which jsonb refuses."""
    text = raw.decode("utf-8", "replace")
    if "\ufffd" not in text and "\0" not in text:
        return text, 0
    valid = raw.decode("utf-8", "ignore").replace("\0", "")
    return text.replace("\0", "\ufffd"), len(raw) - len(valid.encode())

"""The beginning and the end of a stream: enough to judge it by, however long it was."""

from __future__ import annotations

HEAD_BYTES = 8 * 1024
TAIL_BYTES = 8 * 1024


class Excerpt:
    """Takes the pieces of a stream in their order; keeps at most `HEAD_BYTES` and `TAIL_BYTES`."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out_bytes = 0

    def add(self, text: str) -> None:
        """Take the next piece."""
        raw = text.encode("utf-8", "replace")
        room = HEAD_BYTES - len(self._head)
        self._head += raw[:room]
        self._tail += raw[room:]
        over = max(0, len(self._tail) - TAIL_BYTES)
        self._left_out_bytes += over
        del self._tail[:over]

    def text(self) -> str:
        """What was kept; a line says how much was left out between."""
        if not self._left_out_bytes:
            return (self._head + self._tail).decode()
        head, tail = self._head.decode("utf-8", "ignore"), self._tail.decode("utf-8", "ignore")
        return f"{head}\n[{self._left_out_bytes} bytes left out]\n{tail}"

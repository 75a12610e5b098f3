"""Text that arrives in pieces, printed as it comes: whole words, on lines that end before the terminal's do."""

from __future__ import annotations

import re
from collections.abc import Callable

from rich.cells import cell_len

from sandstream.render import printable

_PARTS = re.compile(r"\n|[^\S\n]+|\S+")


class Prose:
    """One text. How it is cut into pieces changes nothing of what is printed in the end.

    A word is printed once it is known to be whole, or broken off. `width` is in columns.
    """

    def __init__(self, write: Callable[[str], None], width: int) -> None:
        self._write = write
        self._width = width
        self._column = 0
        self._spaces = ""
        self._word = ""

    def add(self, piece: str) -> None:
        """The next piece. Control characters, other than a line's end, are shown and not obeyed."""
        for part in _PARTS.findall("\n".join(printable(line) for line in piece.split("\n"))):
            if not part.isspace():
                self._word += part
                continue
            self._put_word()
            if part == "\n":
                self._new_line()
            else:
                self._spaces += part

    def end(self) -> None:
        """No more comes: what is left is printed, and the line ended."""
        self._put_word()
        if self._column:
            self._new_line()

    def _put_word(self) -> None:
        if not self._word:
            return
        if self._column and self._column + len(self._spaces) + cell_len(self._word) > self._width:
            self._new_line()
        words, self._spaces, self._word = self._spaces + self._word, "", ""
        self._column += cell_len(words)
        self._write(words)

    def _new_line(self) -> None:
        self._write("\n")
        self._column, self._spaces = 0, ""

"""The CLI's stdin: one file per message, handed over by a small shell that outlives the runner.

The runner writes a message into `in/`, and its name into the FIFO `bell`; the feeder writes the file's content into
the CLI's stdin and moves the file to `fed/`. So a runner that dies in the middle of a message leaves none torn and
none twice, and what was ever written is on the disk, in order. The name `end` closes stdin.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# For bash: the command becomes this very process; the feeder is its child. The FIFO is opened for both ways, so that
# it has a reader and a writer as long as the feeder lives.
FEED = """
d={directory}
feed() {{
  while read -r name; do
    [ "$name" = end ] && return
    [ -e "$d/in/$name" ] || continue
    cat "$d/in/$name" || return
    mv "$d/in/$name" "$d/fed/$name"
  done <> "$d/bell"
}}
exec {command} < <(feed)
"""
END = "end"


class Stdin:
    """The messages of one start of the CLI."""

    def __init__(self, directory: str) -> None:
        """Make what the feeder needs, or find it. Raise OSError."""
        self._directory = directory
        for name in ("in", "fed"):
            os.makedirs(os.path.join(directory, name), mode=0o700, exist_ok=True)
        bell = os.path.join(directory, "bell")
        if not os.path.exists(bell):
            os.mkfifo(bell, 0o600)
        self._bell = os.open(bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._count = 0
        self.ended = False
        for name in self._names():
            self._count = int(name)

    def send(self, message: str) -> None:
        """Hand over one line. Raise OSError."""
        self._count += 1
        name = f"{self._count:06d}"
        draft = os.path.join(self._directory, "draft")
        with open(draft, "w", encoding="utf-8") as file:
            file.write(message)
        os.replace(draft, os.path.join(self._directory, "in", name))
        self._ring(name)

    def end(self) -> None:
        """Close the CLI's stdin once it has all that was sent."""
        if not self.ended:
            self.ended = True
            self._ring(END)

    def again(self) -> None:
        """After a restart: ring for what may not have been rung for."""
        for name in sorted(os.listdir(os.path.join(self._directory, "in"))):
            self._ring(name)

    def sent(self) -> Iterator[dict[str, Any]]:
        """Every message so far, in order."""
        for name in self._names():
            for place in ("fed", "in", "fed"):  # it may be moved while we look
                try:
                    with open(os.path.join(self._directory, place, name), encoding="utf-8") as file:
                        yield json.load(file)
                    break
                except FileNotFoundError:
                    continue

    def close(self) -> None:
        """Give back the FIFO; the feeder keeps its own end."""
        os.close(self._bell)

    def _names(self) -> list[str]:
        return sorted({name for place in ("in", "fed") for name in os.listdir(os.path.join(self._directory, place))})

    def _ring(self, name: str) -> None:
        os.write(self._bell, name.encode() + b"\n")

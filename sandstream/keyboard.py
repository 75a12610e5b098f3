"""What a person types at the terminal, line by line, while the program goes on with its work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_BYTES = 64 * 1024


class Keyboard:
    """A terminal to read from."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def line(self) -> str | None:
        """The next line, without its end; None at the end of all input. A wait that is cancelled loses nothing."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)
        # A terminal gives one line at a time.
        typed = os.read(self._fd, LINE_BYTES)
        return typed.decode(errors="replace").rstrip("\r\n") if typed else None


def keyboard() -> Keyboard | None:
    """Standard input, or None where nobody sits at it."""
    return Keyboard(sys.stdin.fileno()) if sys.stdin is not None and sys.stdin.isatty() else None


@contextmanager
def on_ctrl_c(called: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls this, on the event loop, and ends nothing by itself."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, called)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)

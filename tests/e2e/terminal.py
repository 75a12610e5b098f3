"""The command line at a terminal of 80 columns, and a person at its keyboard."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import Person

SANDSTREAM = str(Path(sys.executable).with_name("sandstream"))
DEADLINE_SECONDS = 90
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """One command on a pseudo-terminal. `screen` is all that it has printed, without colours."""

    def __init__(self, process: asyncio.subprocess.Process, fd: int) -> None:
        self.screen = ""
        self._process = process
        self._fd = fd
        self._grown = asyncio.Event()
        self._gone = False
        asyncio.get_running_loop().add_reader(fd, self._read)

    async def changed(self, seconds: float) -> None:
        """Until more is printed, at most so long."""
        self._grown.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._grown.wait(), seconds)

    async def until(self, words: str) -> None:
        """Waits for words on the screen, line ends aside. Raises TimeoutError, AssertionError at the program's end."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while words not in " ".join(self.screen.split()):
                assert not self._gone, self.screen
                self._grown.clear()
                await self._grown.wait()

    def type(self, line: str) -> None:
        """A line and the Enter key."""
        os.write(self._fd, line.encode() + b"\n")

    def ctrl_d(self) -> None:
        """The end of all input."""
        os.write(self._fd, b"\x04")

    def ctrl_c(self) -> None:
        """As the terminal would send it."""
        self._process.send_signal(signal.SIGINT)

    async def end(self) -> int:
        """The exit code, once it has ended by itself."""
        code = await asyncio.wait_for(self._process.wait(), DEADLINE_SECONDS)
        while not self._gone:
            self._grown.clear()
            await asyncio.wait_for(self._grown.wait(), DEADLINE_SECONDS)
        return code

    async def close(self) -> None:
        """Ends it."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _read(self) -> None:
        try:
            read = os.read(self._fd, 65536)
        except OSError:
            # Linux's way to say that nobody holds the other side any more.
            read = b""
        if not read:
            self._gone = True
            asyncio.get_running_loop().remove_reader(self._fd)
        self.screen += COLOURS.sub("", read.decode(errors="replace"))
        self._grown.set()


def environment(person: Person) -> dict[str, str]:
    """What the command line is told of the deployment."""
    return {"PATH": os.environ["PATH"], "SANDSTREAM_URL": person.stack.api.url, "SANDSTREAM_KEY": person.token}


@asynccontextmanager
async def terminal(person: Person, *arguments: str, columns: int = 80) -> AsyncIterator[Terminal]:
    """The command, started."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {**environment(person), "TERM": "xterm-256color"}
    process = await asyncio.create_subprocess_exec(
        SANDSTREAM, *arguments, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = Terminal(process, ours)
    try:
        yield shown
    finally:
        await shown.close()

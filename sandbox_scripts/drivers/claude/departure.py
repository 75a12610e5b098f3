"""The end of one start of the CLI: asked, waited for, and if need be ended, with nobody of it left behind."""

from __future__ import annotations

import asyncio
import time

from ...stop import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...process import Process
    from .record import Record
    from .stdin import Stdin

POLL_SECONDS = 0.02
# What the CLI ends itself on its way out is gone by then.
LEFT_SECONDS = 0.5

MESSAGES = {
    "lingered_after_result": "Claude was still alive {seconds:g} seconds after its result",
    "left_processes": "Claude left {count} processes behind",
    "ignored_sigterm": "a process ignored SIGTERM and was killed",
}


class Departure:
    """Each way to end the process; after it none of its members is alive, or none that can be ended."""

    def __init__(self, process: Process, stdin: Stdin, record: Record, grace_seconds: float) -> None:
        self._process, self._stdin, self._record = process, stdin, record
        self._grace_seconds = grace_seconds

    async def ask(self, exit_seconds: float) -> None:
        """Close stdin and let it go by itself. Raise OSError."""
        self._stdin.end()
        if not await self._until(self._process.ended, exit_seconds):
            self._tell("lingered_after_result", seconds=exit_seconds)
            await self.stop()
        elif not await self._until(lambda: not self._process.members(), LEFT_SECONDS):
            self._tell("left_processes", count=len(self._process.members()))
            await self._carry_out(Stop.leftovers(self._process))
        await self._carry_out(Stop.leftovers(self._process))

    async def stop(self) -> None:
        """It has to end now, and may clean up first.

        Its stdin stays open until then: a CLI that waits for an answer would take the end for a no, and go on.
        """
        await self._carry_out(Stop.running(self._process, self._grace_seconds))
        self._stdin.end()

    async def hurry(self) -> None:
        """It has to end now."""
        self._stdin.end()
        await self._carry_out(Stop.leftovers(self._process))

    async def _carry_out(self, stop: Stop) -> None:
        while not stop.step():  # noqa: ASYNC110 it has to be looked at, nothing tells
            await asyncio.sleep(POLL_SECONDS)
        if stop.killed:
            self._tell("ignored_sigterm")

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        give_up = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= give_up:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _tell(self, name: str, **facts: float) -> None:
        self._record.error(MESSAGES[name].format(**facts), watchdog=name)

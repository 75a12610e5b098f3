"""A watch that runs beside a test, and what it has handed on so far."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from sandstream.events import Event
from sandstream.schedule import WatchSettings

DEADLINE_SECONDS = 60.0
# Nothing is found by polling, so what arrives has come by a broadcast, or by a read that one caused.
NO_POLLS = WatchSettings(poll_first=1e6, poll_cap=1e6, after_joining=(0.0,), retry_first=0.02, retry_cap=0.2)
QUICK = WatchSettings(poll_first=0.3, poll_cap=1.0, after_joining=(0.0, 0.1), retry_first=0.02, retry_cap=0.1)


class Watching:
    """Collects a watch's events."""

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self.events: list[Event] = []
        self.fail = False
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._collect(events))

    @property
    def seqs(self) -> list[int]:
        """The places in the log of what has been handed on, in the order in which it was."""
        return [event.seq for event in self.events]

    async def until(self, seq: int) -> None:
        """Wait until the event with this seq has been handed on."""
        await self._until(lambda: bool(self.events) and self.events[-1].seq >= seq)

    async def end(self) -> list[int]:
        """Wait until the watch ends by itself; all seqs. Raises what it raises."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.shield(self._task)
        return self.seqs

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not holds():
                if self._task.done():
                    self._task.result()
                    raise AssertionError(f"the watch ended with {self.seqs[-3:]}")
                self._changed.clear()
                await asyncio.wait(
                    [self._task, waiting := asyncio.ensure_future(self._changed.wait())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                waiting.cancel()

    async def _collect(self, events: AsyncGenerator[Event, None]) -> None:
        async with contextlib.aclosing(events):
            async for event in events:
                if self.fail:
                    raise LookupError("the reader gives up")
                self.events.append(event)
                self._changed.set()


@contextlib.asynccontextmanager
async def watching(events: AsyncGenerator[Event, None]) -> AsyncIterator[Watching]:
    """A watch while inside."""
    running = Watching(events)
    try:
        yield running
    finally:
        await running.close()


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds; fails after a minute."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not holds():  # noqa: ASYNC110 the condition is any, of any thing
            await asyncio.sleep(0.01)


def one_to(last: int, after: int = 0) -> list[int]:
    """What a complete log looks like."""
    return list(range(after + 1, last + 1))

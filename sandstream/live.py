"""Events and previews as one stream, in the order in which they arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from sandstream.events import Event, Preview, previews

# A slow reader's previews past this are let go: the event that follows them is complete.
PREVIEWS_KEPT = 1000

Heard = Callable[[list[dict[str, Any]]], None]


async def with_previews(
    watching: Callable[[Heard], AsyncGenerator[Event, None]],
) -> AsyncGenerator[Event | Preview, None]:
    """What `watching` yields, and between its events the previews that it hears of. Raises what it raises."""
    pieces: deque[Preview] = deque(maxlen=PREVIEWS_KEPT)
    heard = asyncio.Event()

    def hear(items: list[dict[str, Any]]) -> None:
        pieces.extend(previews(items))
        heard.set()

    async with contextlib.aclosing(watching(hear)) as events:
        waiting = asyncio.ensure_future(anext(events))
        try:
            while True:
                await _either(waiting, heard)
                while pieces:
                    yield pieces.popleft()
                if waiting.done():
                    try:
                        event = waiting.result()
                    except StopAsyncIteration:
                        return
                    waiting = asyncio.ensure_future(anext(events))
                    yield event
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def _either(waiting: asyncio.Future[Event], heard: asyncio.Event) -> None:
    """Until the next event is there or previews were heard, which is forgotten with that."""
    hearing = asyncio.ensure_future(heard.wait())
    try:
        either: set[asyncio.Future[Any]] = {waiting, hearing}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()
        heard.clear()

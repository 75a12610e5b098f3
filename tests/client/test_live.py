"""Previews between events: in the order of their arrival, and nothing left running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from sandstream.events import Event, Preview, previews
from sandstream.live import PREVIEWS_KEPT, Heard, with_previews
from tests.client.events_of import Log


def delta(id: str, text: str) -> dict[str, Any]:
    content = {"type": "text", "text": text}
    return {"type": "event_delta", "event_id": id, "delta": {"type": "content_delta", "index": 0, "content": content}}


def start(id: str, type: str = "agent.message") -> dict[str, Any]:
    return {"type": "event_start", "event": {"type": type, "id": id}}


def test_previews_are_parsed_and_the_unknown_is_left_out() -> None:
    """What a later version adds, or what makes no sense, is no error."""
    odd: list[dict[str, Any]] = [
        {},
        {"type": "event_delta"},
        {"type": "event_start", "event": 7},
        {"type": "of_tomorrow"},
    ]
    found = previews([start("a"), *odd, delta("a", "hello"), start("t", "agent.thinking")])
    assert found == [
        Preview(event_id="a", starts="agent.message"),
        Preview(event_id="a", text="hello"),
        Preview(event_id="t", starts="agent.thinking"),
    ]


async def test_previews_come_between_events_in_their_order() -> None:
    """What is heard before an event is handed on before it, also while the reader waits."""
    log = Log()
    first, last = log.message("hello"), log.says("m", "Hi there.")
    go_on = asyncio.Event()

    async def watching(heard: Heard) -> AsyncGenerator[Event, None]:
        yield first
        heard([start("m"), delta("m", "Hi ")])
        await go_on.wait()
        heard([delta("m", "there.")])
        yield last

    found: list[Event | Preview] = []
    async for item in with_previews(watching):
        found.append(item)
        if isinstance(item, Preview) and item.text == "Hi ":
            go_on.set()
    assert found[0] == first
    assert [item.text for item in found[1:4] if isinstance(item, Preview)] == ["", "Hi ", "there."]
    assert found[4] == last


async def test_a_reader_that_leaves_ends_the_watch() -> None:
    """The watch's own clean-up runs before the reader goes on."""
    cleaned = asyncio.Event()

    async def watching(_: Heard) -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Log().message("again")
                await asyncio.sleep(3600)
        finally:
            cleaned.set()

    async with contextlib.aclosing(with_previews(watching)) as items:
        await anext(items)
    assert cleaned.is_set()


async def test_what_the_watch_raises_is_raised() -> None:
    """Previews hide no error."""

    async def watching(_: Heard) -> AsyncGenerator[Event, None]:
        yield Log().message("hello")
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        _ = [item async for item in with_previews(watching)]


async def test_a_slow_reader_keeps_the_newest_previews() -> None:
    """Memory is bounded; the events are all there."""

    async def watching(heard: Heard) -> AsyncGenerator[Event, None]:
        for number in range(PREVIEWS_KEPT + 10):
            heard([delta("m", f"{number} ")])
        yield Log().says("m", "all of it")

    found = [item async for item in with_previews(watching)]
    texts = [item.text for item in found if isinstance(item, Preview)]
    assert (len(texts), texts[-1]) == (PREVIEWS_KEPT, f"{PREVIEWS_KEPT + 9} ")
    assert isinstance(found[-1], Event)

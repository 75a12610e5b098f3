"""Previews on their way to whoever asked for them.

They say what an agent is about to say, word by word, before the event itself stands in the log. They are broadcast and
never stored: some may be lost, and the event that follows is complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from sandstream.events import Event

Show = Callable[[list[dict[str, Any]]], None]

# A broadcast may come after the event that it announces, but not long after.
IDS_KEPT = 512


class Previews:
    """Hands previews on, but none of an event that has been handed on itself."""

    def __init__(self, show: Show | None) -> None:
        self._show = show
        self._seen: deque[str] = deque(maxlen=IDS_KEPT)

    def heard(self, message: Any) -> None:
        """A broadcast; what makes no sense is left out."""
        if self._show is None:
            return
        fresh = [item for item in items(message) if event_id(item) not in self._seen]
        if fresh:
            self._show(fresh)

    def stored(self, events: Iterable[Event]) -> None:
        """Events of the log, as they are handed on."""
        if self._show is not None:
            self._seen.extend(event.id for event in events)


def items(message: Any) -> list[dict[str, Any]]:
    """The previews of a broadcast."""
    try:
        found = message["payload"]["previews"]
    except (KeyError, TypeError):
        return []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def event_id(item: dict[str, Any]) -> object:
    """Of which event a preview is."""
    event = item.get("event")
    return event.get("id") if isinstance(event, dict) else item.get("event_id")

"""Events of a conversation for tests: numbered as they are made."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sandstream.events import Event

SESSION = UUID("22222222-2222-4222-8222-222222222222")
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


class Log:
    """A log that a test writes: each event is a second after the one before."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._seqs = itertools.count(1)

    def add(self, type: str, **data: Any) -> Event:
        """The next event; `id` is part of its data, as in the table."""
        seq = next(self._seqs)
        at = BEGUN + timedelta(seconds=seq - 1)
        event = Event(seq=seq, session_id=SESSION, type=type, data=data, produced_at=at, created_at=at)
        self.events.append(event)
        return event

    def message(self, text: str) -> Event:
        """The user says something."""
        return self.add("user.message", content=words(text))

    def says(self, id: str, text: str, **more: Any) -> Event:
        """Claude says something."""
        return self.add("agent.message", id=id, content=words(text), **more)

    def uses(self, id: str, name: str, **input: Any) -> Event:
        """Claude calls a tool."""
        return self.add("agent.tool_use", id=id, name=name, input=input)

    def answers(self, id: str, text: str, **more: Any) -> Event:
        """The tool answers."""
        return self.add("agent.tool_result", id=f"{id}_result", tool_use_id=id, content=words(text), **more)

    def rests(self, reason: str = "end_turn", **more: Any) -> Event:
        """The session comes to rest, or waits."""
        return self.add("session.status_idle", stop_reason={"type": reason, **more})


def words(text: str) -> list[dict[str, str]]:
    """A content of one text."""
    return [{"type": "text", "text": text}]

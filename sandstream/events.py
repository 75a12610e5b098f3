"""What a watcher sees: events of a session's log, and previews of events that are still being produced."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

IDLE = "session.status_idle"
TERMINATED = "session.status_terminated"
# Broadcast only: the log is gone with the session.
DELETED = "session.deleted"
# A session that waits for its user is idle, and goes on as soon as the user has answered.
WAITS_FOR_USER = "requires_action"

# What every event has in HTTP's form, beside the fields of its own type.
_ENVELOPE = frozenset({"id", "type", "seq", "session_id", "run_id", "created_at", "processed_at"})


class Event(BaseModel):
    """`seq` counts 1, 2, 3 … within the session; `n` within the run, and is None for events that SQL wrote itself.

    This is the form of the table and of the broadcasts. HTTP shows the same event flat: see `from_flat`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    seq: int
    session_id: UUID
    run_id: UUID | None = None
    n: int | None = None
    type: str
    data: dict[str, Any]
    produced_at: datetime
    """By the sandbox's clock."""
    created_at: datetime
    """By the database's clock."""

    @property
    def id(self) -> str:
        """The event's name, which tool results and confirmations refer to."""
        return str(self.data.get("id") or _default_id(self.session_id, self.seq))

    @classmethod
    def from_flat(cls, fields: Mapping[str, Any]) -> Self:
        """An event as HTTP shows it: the fields of `data` stand beside the others. It has no `n` there.

        Raises ValidationError, ValueError for what is no event.
        """
        data = {name: value for name, value in fields.items() if name not in _ENVELOPE}
        row = {name: fields.get(name) for name in ("seq", "session_id", "run_id", "type", "created_at")}
        event = cls.model_validate({**row, "produced_at": row["created_at"], "data": data})
        given = fields.get("id")
        return event if given in (None, event.id) else event.model_copy(update={"data": {"id": given, **data}})


class Preview(BaseModel):
    """A piece of an `agent.message` that is still being written, or the sign that thinking began. Never stored.

    Pieces may be lost. The event that carries the same id in the end is complete.
    """

    model_config = ConfigDict(frozen=True)

    event_id: str
    starts: str | None = None
    """The type of the event that begins, on the first preview of it."""
    text: str = ""
    """What is added to its text."""


def previews(items: list[dict[str, Any]]) -> list[Preview]:
    """The previews of one broadcast. What this version does not know is left out."""
    return [known for known in map(_preview, items) if known is not None]


def is_final(event: Event) -> bool:
    """Whether the session came to rest with this event."""
    if event.type == IDLE:
        return (event.data.get("stop_reason") or {}).get("type") != WAITS_FOR_USER
    return event.type in (TERMINATED, DELETED)


def _preview(item: dict[str, Any]) -> Preview | None:
    try:
        if item["type"] == "event_start":
            return Preview(event_id=item["event"]["id"], starts=item["event"]["type"])
        if item["type"] == "event_delta":
            return Preview(event_id=item["event_id"], text=item["delta"]["content"]["text"])
    except (KeyError, TypeError, ValidationError):
        return None
    return None


def _default_id(session_id: UUID, seq: int) -> str:
    return f"sevt_{session_id.hex}_{seq}"

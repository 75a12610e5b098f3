"""One event of a session's log, as the table and the broadcasts carry it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

IDLE = "session.status_idle"
TERMINATED = "session.status_terminated"
# A session that waits for its user is idle, and goes on as soon as the user has answered.
WAITS_FOR_USER = "requires_action"


class Event(BaseModel):
    """`seq` counts 1, 2, 3 … within the session; `n` within the run, and is None for events that SQL wrote itself."""

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


def is_final(event: Event) -> bool:
    """Whether the session came to rest with this event."""
    if event.type == IDLE:
        return (event.data.get("stop_reason") or {}).get("type") != WAITS_FOR_USER
    return event.type == TERMINATED

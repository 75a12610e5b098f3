"""What the endpoints are sent and what they answer. Fields that this version does not know are ignored."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

# What the endpoints name as the agent of a session that only runs plans.
NO_AGENT = "commands"
LIVE = frozenset({"launching", "running"})


class Command(BaseModel):
    """One command of a plan: a line for the shell, its limit in seconds, whether a failure is tried again."""

    model_config = ConfigDict(frozen=True)

    command: str
    timeout: int | None = None
    retryable: bool | None = None


class Answer(BaseModel):
    """Something the endpoints answered."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Config(Answer):
    """Where the deployment's Supabase is."""

    supabase_url: str
    publishable_key: str


class Run(Answer):
    """One launch of the runner."""

    id: UUID
    session_id: UUID
    kind: str
    status: str
    created_at: datetime
    limit_seconds: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    timings_ms: dict[str, float] = {}
    """Where the time of the submission went; empty for a run that was asked for later."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status not in LIVE


class Usage(Answer):
    """Tokens, summed over a session's model requests."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class Session(Answer):
    """One log, and what goes on in it."""

    id: UUID
    title: str | None = None
    status: str
    last_seq: int
    metadata: dict[str, Any] = {}
    created_at: datetime
    updated_at: datetime | None = None
    archived_at: datetime | None = None
    agent: dict[str, Any] = {}
    """The agent as it was when the session was created."""
    environment_id: str | None = None
    usage: Usage | None = None

    @property
    def is_conversation(self) -> bool:
        """Whether it has an agent to talk to; a session of plans has none."""
        return str(self.agent.get("id", NO_AGENT)) != NO_AGENT


Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """Some of a list; `next_cursor` is the `after` of the page that follows."""

    data: list[Item]
    has_more: bool = False
    next_cursor: str | None = None


def timings(header: str) -> dict[str, float]:
    """Milliseconds by name, of a Server-Timing header: `admit;dur=3.1, total;dur=80.0`. What is odd is skipped."""
    found = re.finditer(r"([\w-]+)\s*;\s*dur=(\d+(?:\.\d+)?)", header)
    return {name: float(milliseconds) for name, milliseconds in (match.groups() for match in found)}

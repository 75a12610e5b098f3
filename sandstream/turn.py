"""A turn of a conversation as its events tell it: how it stands, what it used, what it cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from sandstream.events import DELETED, IDLE, TERMINATED, WAITS_FOR_USER, Event, is_final

ASKS = ("agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use")
_ANSWERS = {"user.tool_confirmation": "tool_use_id", "user.custom_tool_result": "custom_tool_use_id"}
_GONE = {TERMINATED: "terminated", DELETED: "deleted"}
_FAILURES = ("run.failed", "run.timed_out", "run.lost")


@dataclass
class Turn:
    """What the events so far amount to. Money is in millionths of a US dollar, at list price."""

    stop_reason: str = ""
    ended: bool = False
    interrupted: bool = False
    failed: bool = False
    error: str = ""
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_microusd: int | None = None
    waits_for: list[Event] = field(default_factory=list)
    """The tool uses that wait for the user, in the order in which they asked."""
    _uses: dict[str, Event] = field(default_factory=dict)
    _begun: datetime | None = None
    _last: datetime | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """A turn with these events."""
        turn = cls()
        for event in events:
            turn.add(event)
        return turn

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended."""
        return self._begun is not None and not self.ended

    def add(self, event: Event) -> None:
        """The next event of the log."""
        self._begun = self._begun or event.created_at
        self._last = event.created_at
        if event.type in ASKS:
            self._uses[event.id] = event
        elif event.type in _ANSWERS:
            answered = event.data.get(_ANSWERS[event.type])
            self.waits_for = [use for use in self.waits_for if use.id != answered]
        elif event.type == "span.model_request_end":
            self._charge(event)
        elif event.type == IDLE or event.type in _GONE:
            self._rest(event)
        else:
            self._note(event)

    @property
    def seconds(self) -> float:
        """From the first event to the last, by the database's clock."""
        return (self._last - self._begun).total_seconds() if self._begun and self._last else 0.0

    @property
    def summary(self) -> str:
        """One line: why it stopped, what it used, what it cost, how long it took."""
        requests = f"{self.requests} model request{'' if self.requests == 1 else 's'}"
        tokens = f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        cost = [] if self.cost_microusd is None else [f"${self.cost_microusd / 1_000_000:.4f}"]
        reason = "interrupted" if self.interrupted and self.stop_reason == "end_turn" else self.stop_reason or "no end"
        return " · ".join([reason, requests, tokens, *cost, f"{self.seconds:.1f} s"])

    def _charge(self, event: Event) -> None:
        usage = event.data.get("model_usage") or {}
        self.requests += 1
        cached = int(usage.get("cache_read_input_tokens") or 0) + int(usage.get("cache_creation_input_tokens") or 0)
        self.tokens_in += int(usage.get("input_tokens") or 0) + cached
        self.tokens_out += int(usage.get("output_tokens") or 0)

    def _rest(self, event: Event) -> None:
        reason = event.data.get("stop_reason") or {}
        self.stop_reason = str(reason.get("type") or "") if event.type == IDLE else _GONE[event.type]
        self.ended = event.type == DELETED or is_final(event)
        waiting = reason.get("event_ids") or [] if self.stop_reason == WAITS_FOR_USER else []
        self.waits_for = [self._uses[id] for id in waiting if id in self._uses]

    def _note(self, event: Event) -> None:
        if event.type == "session.status_running":
            self.stop_reason, self.ended, self.waits_for = "", False, []
        elif event.type == "user.interrupt":
            self.interrupted = True
        elif event.type == "session.error":
            self.error = error_words(event)
        elif event.type.startswith("run."):
            self._end_of_run(event)

    def _end_of_run(self, event: Event) -> None:
        cost = (event.data.get("result") or {}).get("cost_microusd")
        if cost is not None:
            self.cost_microusd = (self.cost_microusd or 0) + int(cost)
        if event.type in _FAILURES:
            self.failed = True
            self.error = self.error or error_words(event) or event.type


def last_turn(events: Iterable[Event]) -> list[Event]:
    """The events from the last turn's message on. A message that was queued belongs to the turn that it waited for."""
    found, turn = list[Event](), Turn()
    for event in events:
        if event.type == "user.message" and not turn.is_open:
            found, turn = [], Turn()
        if found or event.type == "user.message":
            found.append(event)
            turn.add(event)
    return found


def error_words(event: Event) -> str:
    """An error's message, and its type for those who look it up."""
    return words_of(event.data.get("error") or {})


def words_of(error: Mapping[str, Any]) -> str:
    """The same of an error that is no event."""
    words = str(error.get("message") or "").strip()
    return f"{words} ({error['type']})" if words and error.get("type") else words or str(error.get("type") or "")

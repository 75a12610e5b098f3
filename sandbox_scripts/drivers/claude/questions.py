"""Questions to a person: may this tool be used, and what does a custom tool answer.

A question is known by the id of the event that shows it. All that are open are one set: it is announced by one
session.status_idle, again whenever it changes, and session.status_running says that nothing is open any more.
"""

from __future__ import annotations

import asyncio

from ...clock import boottime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .memo import Memo
    from .record import Record

# Calls of one message come within a moment of each other: they become one question.
GATHER_SECONDS = 0.1
CONFIRMATION = "user.tool_confirmation"
CUSTOM_RESULT = "user.custom_tool_result"
_ASKED = {CONFIRMATION: "tool_use_id", CUSTOM_RESULT: "custom_tool_use_id"}


class Questions:
    """The questions of a run, and the answers, which may come before the CLI asks."""

    def __init__(
        self,
        record: Record,
        memo: Memo,
        seconds: float,
        open_uses: Callable[[], list[str]],
        is_late: Callable[[], bool],
    ) -> None:
        """`open_uses`: the event ids of uses that need an answer and have no result yet, in order.

        `is_late`: the run is about to be over, so that nobody can be waited for any more.
        """
        self._is_late = is_late
        self._record, self._memo, self._seconds = record, memo, seconds
        self._open_uses = open_uses
        self._answers: dict[str, dict[str, Any]] = {}
        self._waiting: dict[str, asyncio.Future[dict[str, Any] | None]] = {}
        self._changed_at = 0.0

    def waiting(self) -> bool:
        """Whether the CLI stands still for an answer."""
        return bool(self._waiting)

    def answer(self, event: dict[str, Any]) -> None:
        """Take in a user.tool_confirmation or user.custom_tool_result. The first answer counts."""
        data = event["data"]
        event_id = str(data.get(_ASKED[event["type"]], ""))
        self._answers.setdefault(event_id, data)
        future = self._waiting.get(event_id)
        if future is not None and not future.done():
            future.set_result(self._answers[event_id])

    async def ask(self, event_id: str) -> dict[str, Any] | None:
        """The answer's data; None when none came in time. Cancelled when the CLI no longer wants to know."""
        if event_id in self._answers:
            return self._answers[event_id]
        future: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._waiting[event_id] = future
        self._changed_at = boottime()
        try:
            return await future
        finally:
            self._waiting.pop(event_id, None)

    def drop(self) -> None:
        """The turn is over: nobody waits any more."""
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    def tick(self) -> None:
        """Announce what has changed, and give up what waited too long. Raise OSError."""
        self._memo.pause(self.waiting())
        self._expire()
        standing = self._standing()
        if standing == self._record.asking():
            return
        if not standing:
            self._record.running()
        elif boottime() >= self._changed_at + GATHER_SECONDS:
            self._announce([event_id for event_id in standing if self._record.has(event_id)])

    def _standing(self) -> list[str]:
        """What a person has to answer now. Nothing, as long as the CLI has asked for none of it."""
        if not self._waiting and not self._record.asking():
            return []
        uses = [use for use in self._open_uses() if use not in self._answers]
        return uses + [event_id for event_id in self._waiting if event_id not in uses + list(self._answers)]

    def _announce(self, event_ids: list[str]) -> None:
        if event_ids and event_ids != self._record.asking():
            self._record.ask(event_ids)

    def _expire(self) -> None:
        """The clock of a question starts when the CLI waits for it, or when it is announced, and survives a restart."""
        for event_id in [*self._waiting, *self._record.asking()]:
            if event_id not in self._memo.asked:
                self._memo.asked[event_id] = boottime()
                self._memo.save()
        is_late = self._is_late()
        for event_id, future in list(self._waiting.items()):
            waited = boottime() - self._memo.asked[event_id]
            if (is_late or waited >= self._seconds) and not future.done():
                self._answers[event_id] = {}
                future.set_result(None)

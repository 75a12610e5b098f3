"""Where the steps of a run stand: a fold over the spool's events and nothing else, so a restart reads it from there."""

from __future__ import annotations

import time

from ..control import BUDGET_REACHED, CANCELLED, TIMED_OUT
from .excerpt import Excerpt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import Run

STREAMS = ("stdout", "stderr")


class Place:
    """Where one step stands."""

    def __init__(self, keeps_output: bool) -> None:
        self.attempt = 1
        self.running = False
        self.command = ""
        # By the clock of time.monotonic(). A restart in the middle of the delay goes on without the rest of it.
        self.next_at = 0.0
        self.offsets = dict.fromkeys(STREAMS, 0)
        self.excerpts: dict[str, Excerpt] = {}
        self._keeps_output = keeps_output

    def fold(self, kind: str, data: dict[str, Any]) -> None:
        """Take in one of the step's events."""
        if kind == "command.started":
            self.running, self.attempt, self.command = True, data["attempt"], data["command"]
            self.offsets = dict.fromkeys(STREAMS, 0)
            self.excerpts = {stream: Excerpt() for stream in STREAMS} if self._keeps_output else {}
        elif kind == "command.output":
            self.offsets[data["stream"]] = data["offset"] + data["bytes"]
            if self._keeps_output:
                self.excerpts[data["stream"]].add(data["text"])
        elif kind == "command.retrying":
            self.running, self.attempt = False, data["attempt"] + 1
        elif kind == "command.completed":
            self.running = False

    def delay(self, seconds: float) -> None:
        """The next attempt does not begin before."""
        self.next_at = time.monotonic() + seconds

    def waits(self) -> bool:
        """Whether its next attempt is not due yet."""
        return time.monotonic() < self.next_at


class Progress:
    """All places, and the budget that is spent, if one is. What is emitted here is spooled and folded."""

    def __init__(self, run: Run, keeps_output: bool) -> None:
        """Read the spool."""
        self.budget: dict[str, Any] | None = None
        # The data of each command.completed by its index, in the log's order.
        self.completed: dict[int, dict[str, Any]] = {}
        self._places: dict[int, Place] = {}
        self._spool, self._control = run.spool, run.control
        self._keeps_output = keeps_output
        for event in run.spool.events():
            self._fold(event["type"], event["data"])

    def place(self, index: int) -> Place:
        """Where the step of this index stands."""
        if index not in self._places:
            self._places[index] = Place(self._keeps_output)
        return self._places[index]

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Raise OSError."""
        self._spool.append(kind, data)
        self._fold(kind, data)

    def check(self) -> str | None:
        """What the control says, with a spent budget told before anything is ended for it.

        Once `budget.reached` is spooled this holds for good, whatever later answers say.
        """
        verdict, budget = self._control.check(), self._control.budget()
        if self.budget is not None:
            return BUDGET_REACHED
        if verdict in (CANCELLED, TIMED_OUT) or budget is None:
            return verdict if verdict != BUDGET_REACHED else None  # raised between the two looks
        self.emit("budget.reached", budget)
        return BUDGET_REACHED

    def is_late(self) -> bool:
        """Whether the run is over its time, and nothing else is to be said of it first."""
        return self._control.check() == TIMED_OUT

    def _fold(self, kind: str, data: dict[str, Any]) -> None:
        if kind.startswith("command."):
            self.place(data["index"]).fold(kind, data)
        if kind == "command.completed":
            self.completed[data["index"]] = data
        elif kind == "budget.reached":
            self.budget = data

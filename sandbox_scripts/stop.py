"""Ending a command: SIGINT, SIGTERM, SIGKILL, each with its grace, until nobody is left."""

from __future__ import annotations

import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process import Process

# What a finished command left behind gets less time than a command that is cut short.
LEFTOVER_GRACE_SECONDS = 0.5
# Time for the wrapper and the pumps to see the closed streams, once nobody is left.
DRAIN_SECONDS = 5.0
# How long SIGKILL is repeated. Who outlives it hangs in the kernel, and ends with the sandbox.
KILL_SECONDS = 10.0


class Stop:
    """One ending under way; step() is called again and again, so that output is read and shipped meanwhile.

    `killed`: someone was left for whom every gentler signal was not enough.
    """

    def __init__(self, process: Process, schedule: list[tuple[int, float]]) -> None:
        self._process = process
        self._schedule = schedule
        self._next_at = time.monotonic()
        self._give_up_at = self._next_at + sum(grace for _, grace in schedule) + KILL_SECONDS
        self._drained_by: float | None = None
        self.killed = False

    @classmethod
    def running(cls, process: Process, grace_seconds: float) -> Stop:
        """For a command that has to end now: it may clean up, twice `grace_seconds` long."""
        return cls(process, [(signal.SIGINT, grace_seconds), (signal.SIGTERM, grace_seconds)])

    @classmethod
    def leftovers(cls, process: Process) -> Stop:
        """For what a finished command left running. (A shell's background jobs ignore SIGINT.)"""
        return cls(process, [(signal.SIGTERM, LEFTOVER_GRACE_SECONDS)])

    def step(self) -> bool:
        """Do what is due. True when it is verified that no process is left, or no more can be done."""
        now = time.monotonic()
        members = self._process.members()
        if members and now < self._give_up_at:
            self._press(now)
            return False
        if not self._process.running():
            return True
        if self._drained_by is None:
            self._drained_by = now + (0 if members else DRAIN_SECONDS)
        if now >= self._drained_by:
            self._process.abandon(signal.SIGKILL)
        return False

    def finish(self, poll_seconds: float) -> None:
        """All steps, with nobody reading meanwhile."""
        while not self.step():
            self._process.wait(poll_seconds)

    def _press(self, now: float) -> None:
        if now < self._next_at:
            return
        if not self._schedule:
            self.killed = True
            self._process.signal(signal.SIGKILL)
            return
        number, grace = self._schedule.pop(0)
        self._process.signal(number)
        self._next_at = now + grace

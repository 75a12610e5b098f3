"""What the driver does not wait for any longer, each with its limit from the job and its own session.error.

| watchdog | when | the run ends |
|---|---|---|
| turn_overdue | no `result` within turn_seconds of work; waiting for a person does not count | timed_out |
| silent | no line for silent_seconds, no tool runs, nobody is asked; no answer start_seconds after the start | failed |
| output_closed | the CLI lives, but has closed its stdout: nothing more can come | failed |
| line_too_long | a line longer than line_bytes | failed |
| lingered_after_result | alive exit_seconds after the result, its stdin closed | as the result says |
| left_processes | the CLI has exited and left others behind | as the result says |
| ignored_sigterm | somebody had to be killed | as it would have |
"""

from __future__ import annotations

import os
import time

from .lines import Unparsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...process import Process
    from .lines import Line
    from .memo import Memo

# Not longer than what one event of a transcript may hold, several times over.
LINE_BYTES = 32 * 1024 * 1024
# Between closing stdout and exiting lies a moment.
CLOSED_SECONDS = 1.0
LOOK_SECONDS = 0.2


class Limits:
    """The job's limits, in seconds and bytes."""

    def __init__(self, raw: dict[str, Any]) -> None:
        """Raise TypeError or ValueError."""
        self.turn = float(raw.get("turn_seconds", 1800))
        self.confirmation = float(raw.get("confirmation_seconds", 3600))
        self.exit = float(raw.get("exit_seconds", 10))
        self.silent = float(raw.get("silent_seconds", 600))
        self.interrupt = float(raw.get("interrupt_seconds", 2))
        self.start = float(raw.get("start_seconds", 60))
        self.line_bytes = int(raw.get("line_bytes", LINE_BYTES))


class Bite:
    """A watchdog's verdict."""

    def __init__(self, name: str, message: str, status: str = "failed") -> None:
        self.name, self.message, self.status = name, message, status


class Watchdogs:
    """Those of a turn. Silence is measured without the time that the sandbox was paused."""

    def __init__(self, limits: Limits, memo: Memo, process: Process) -> None:
        self._limits, self._memo, self._process = limits, memo, process
        self._heard_at = self._looked_at = self._started_at = time.monotonic()
        self._closed_at: float | None = None
        self._overlong_at: float | None = None
        self._too_long = False

    def heard(self) -> None:
        """A prompt went."""
        self._heard_at = time.monotonic()

    def hear(self, line: Line | Unparsed) -> None:
        """A line came."""
        self.heard()
        self._too_long = self._too_long or (isinstance(line, Unparsed) and line.reason == "too_long")

    def look_at_start(self) -> Bite | None:
        """While the CLI has not yet answered its first request."""
        if time.monotonic() < self._started_at + self._limits.start:
            return None
        return Bite("silent", f"Claude did not answer within {self._limits.start:g} seconds of its start")

    def look_at_line(self, overlong: bool) -> Bite | None:
        """At any time; `overlong`: the line that comes has passed the limit, and may never end."""
        if not self._too_long and not self._for_long(overlong, time.monotonic()):
            return None
        return Bite("line_too_long", f"a line of more than {self._limits.line_bytes} bytes")

    def look(self, busy: bool, waiting: bool) -> Bite | None:
        """During a turn; `busy`: a tool runs. `waiting`: a person is asked."""
        now = time.monotonic()
        if busy or waiting:
            self._heard_at = now
        if self._memo.worked() >= self._limits.turn:
            return Bite("turn_overdue", f"no result after {self._limits.turn:g} seconds of work", "timed_out")
        if now >= self._heard_at + self._limits.silent:
            return Bite("silent", f"not a word for {self._limits.silent:g} seconds, and no tool was running")
        if self._output_closed(now):
            return Bite("output_closed", "Claude closed its output and lives on")
        return None

    def _for_long(self, overlong: bool, now: float) -> bool:
        """Whether it has been overlong for a while: a line that ends is told with its size and hash."""
        if not overlong:
            self._overlong_at = None
        elif self._overlong_at is None:
            self._overlong_at = now
        return self._overlong_at is not None and now >= self._overlong_at + self._limits.interrupt

    def _output_closed(self, now: float) -> bool:
        if now < self._looked_at + LOOK_SECONDS:
            return False
        self._looked_at = now
        leader = self._process.leader()
        if leader is None or self._process.ended() or _holds_pipe(leader.pid):
            self._closed_at = None
        elif self._closed_at is None:
            self._closed_at = now
        return self._closed_at is not None and now >= self._closed_at + CLOSED_SECONDS


def _holds_pipe(pid: int) -> bool:
    """Whether the process's stdout is the pipe it was given. True where /proc does not tell."""
    try:
        return os.readlink(f"/proc/{pid}/fd/1").startswith("pipe:")
    except FileNotFoundError:
        return not os.path.exists(f"/proc/{pid}/fd")
    except OSError:
        return True

"""Time in a sandbox: a clock that counts through pauses for decisions, the wall clock only for show."""

from __future__ import annotations

import time

_BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds since the machine started, pauses of the sandbox included. The same for every process on it."""
    return time.clock_gettime(_BOOTTIME)


class Stamp:
    """Writes the wall clock as `2026-11-21T08:00:00.123456Z`; formats the date once per second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> str:
        """The wall clock, UTC, microseconds."""
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return "%s.%06dZ" % (self._text, nanoseconds // 1000)  # noqa: UP031 on the path of every event

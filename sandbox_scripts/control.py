"""What can cut a run short: cancellation, its deadline, a spent budget, a signal to the runner, the shipper's alarm."""

from __future__ import annotations

import signal
import time

from .clock import boottime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ship import Shipper

CANCELLED = "cancelled"
TIMED_OUT = "timed_out"
BUDGET_REACHED = "budget_reached"


class Control:
    """Asked by a driver again and again.

    SIGTERM, SIGINT and SIGHUP to the runner count as a cancellation: children are ended, everything is shipped and
    the run finishes as cancelled. Whoever wants the run to go on later kills the runner with SIGKILL.
    """

    def __init__(self, shipper: Shipper, deadline: float) -> None:
        """`deadline` in seconds of boottime()."""
        self._shipper = shipper
        self._deadline = deadline
        self._signalled = False

    def await_shipped(self, n: int, seconds: float) -> bool:
        """Whether event `n` stands in the log; waits for it, at most `seconds`."""
        return self._shipper.await_held(n, seconds)

    def listen(self) -> None:
        """Take the signals. A handler, unlike an ignored signal, is not inherited by the commands."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)

    def check(self) -> str | None:
        """Why the run has to end now, if it has to: the first of these that holds. Raise the shipper's alarm.

        The first two are the status that it ends with; how a spent budget ends it is the driver's to say.
        """
        if self._shipper.alarm is not None:
            raise self._shipper.alarm
        if self._shipper.cancel_requested or self._signalled:
            return CANCELLED
        if boottime() >= self._deadline:
            return TIMED_OUT
        return BUDGET_REACHED if self.budget() is not None else None

    def budget(self) -> dict[str, Any] | None:
        """The budget that is spent, as the log's newest answer says: {"scope", "spent_microusd", "limit_microusd"}."""
        return self._shipper.budget_reached

    def left(self) -> float:
        """Seconds until the run's deadline."""
        return self._deadline - boottime()

    def input_seq(self) -> int:
        """The seq of the newest user event that the log's answers spoke of; 0 before the first."""
        return self._shipper.input_seq

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than nothing cuts the run short."""
        until = time.monotonic() + seconds
        while self.check() is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signalled = True

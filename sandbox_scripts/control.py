"""What can cut a run short: cancellation, its deadline, a signal to the runner, an alarm of the shipper."""

from __future__ import annotations

import signal
import time

from .clock import boottime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .ship import Shipper

CANCELLED = "cancelled"
TIMED_OUT = "timed_out"


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
        """The status the run has to end with now, if it has to. Raise the shipper's alarm."""
        if self._shipper.alarm is not None:
            raise self._shipper.alarm
        if self._shipper.cancel_requested or self._signalled:
            return CANCELLED
        return TIMED_OUT if boottime() >= self._deadline else None

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

"""What a research run writes into the log, and whether it may go on."""

from __future__ import annotations

from ...control import BUDGET_REACHED, CANCELLED, TIMED_OUT
from .failures import Stopped
from .models import Usage
from .progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .. import Run

# A log that does not answer holds a plan up no longer than this.
SHIPPED_SECONDS = 10.0
_SLICE_SECONDS = 0.1


class Journal:
    """The spool with the fold over it; `progress` stands where the spool does."""

    def __init__(self, run: Run) -> None:
        self._spool, self._control = run.spool, run.control
        self._prefix = f"sevt_{run.job.run_id[:8]}_request"
        self.progress = Progress.of(run.spool)

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event. Raise OSError."""
        self._spool.append(kind, data)
        self.progress.fold(kind, data)

    def reread(self) -> None:
        """Others have written meanwhile."""
        self.progress = Progress.of(self._spool)

    def begin_request(self, model: str) -> None:
        """A request to the model is on its way."""
        name = f"{self._prefix}{self.progress.requests + 1}"
        self.emit("span.model_request_start", {"id": f"{name}_start", "model": model})

    def end_request(self, usage: dict[str, int], is_error: bool) -> None:
        """It is over, and used so much."""
        began = self.progress.open_request or {}
        start = str(began.get("id", ""))
        data = {"id": start.replace("_start", "_end"), "model_request_start_id": start, "model_usage": usage}
        self.emit("span.model_request_end", {**data, "is_error": is_error, "model": began.get("model")})

    def close_request(self) -> None:
        """A runner before this one has died in the middle of a request: what it used, nobody knows."""
        if self.progress.open_request is not None:
            self.end_request(Usage().data, is_error=True)

    def left(self) -> float:
        """Seconds until the run's deadline."""
        return self._control.left()

    def go_on(self) -> None:
        """Raise Stopped when the run has to end; a spent budget is told first, once and for good."""
        verdict, budget = self._control.check(), self._control.budget()
        if self.progress.budget is not None:
            raise Stopped(BUDGET_REACHED)
        if verdict in (CANCELLED, TIMED_OUT):
            raise Stopped(str(verdict))
        if budget is not None:
            self.reach(budget)

    def reach(self, budget: dict[str, Any]) -> None:
        """Tell that this budget is spent, unless a runner before this one has. Raise Stopped."""
        if self.progress.budget is None:
            self.emit("budget.reached", budget)
        raise Stopped(BUDGET_REACHED)

    def pause(self, seconds: float) -> None:
        """Sleep. Raise Stopped as soon as the run has to end."""
        self._control.sleep(seconds)
        self.go_on()

    def settle(self) -> None:
        """Wait until what was spent so far is counted. Raise Stopped when it was too much."""
        slices = round(SHIPPED_SECONDS / _SLICE_SECONDS)
        while not self._control.await_shipped(self._spool.n, _SLICE_SECONDS) and slices > 0:
            slices -= 1
            self.go_on()
        self.go_on()

"""How a run ends that was cut short: the same for every kind of plan."""

from __future__ import annotations

from ..control import BUDGET_REACHED, TIMED_OUT
from ..job import Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..job import Job


def cut_off(job: Job, stopped: str, result: dict[str, Any], budget: dict[str, Any] | None) -> Ending:
    """The end for what stopped it: cancelled, timed_out, or budget_reached with the data of `budget.reached`."""
    if stopped == BUDGET_REACHED:
        return _spent(result, budget or {"scope": "run"})
    if stopped == TIMED_OUT:
        message = f"the run went over {job.limit_seconds:g} seconds"
        return Ending(TIMED_OUT, result, {"type": "run_timed_out", "message": message})
    return Ending(stopped, result)


def _spent(result: dict[str, Any], budget: dict[str, Any]) -> Ending:
    message = f"the budget of the {budget['scope']} is spent"
    stopped = {"stop_reason": {"type": BUDGET_REACHED}, **result}
    return Ending("failed", stopped, {"type": BUDGET_REACHED, "message": message})

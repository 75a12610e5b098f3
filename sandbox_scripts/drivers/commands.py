"""A plan of commands, one after the other.

A command that fails is tried up to three times when it is `retryable`, and then the plan goes on; one that is not ends
the plan.

`command.completed` comes once per command and speaks of the last attempt.
"""

from __future__ import annotations

from ..errors import JobInvalid
from ..job import Ending
from .attempt import ATTEMPTS as ATTEMPTS  # what a plan's reader has to know of them
from .attempt import Step
from .endings import cut_off
from .steps import Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import Run
    from .steps import Result


def drive(run: Run) -> Ending:
    """Run the plan, or the rest of it. Raise JobInvalid, OSError, and what cuts the run off (RunnerError)."""
    plan = [_step(index, raw) for index, raw in enumerate(run.job.input.get("commands", ()))]
    outcome = Steps(run, keeps_output=False).run(plan)
    results = list(outcome.results.values())
    failed = sum(not result.succeeded for result in results)
    counts = {"commands": len(plan), "completed": len(results), "failed": failed}
    if outcome.stopped is not None:
        return cut_off(run.job, outcome.stopped, counts, outcome.budget)
    if len(results) < len(plan) or (results and not results[-1].succeeded and not plan[-1].retryable):
        return _failed(results[-1], counts)
    return Ending("succeeded", counts)


def _step(index: int, raw: dict[str, Any]) -> Step:
    """A command of the job's input: a step that waits for the one before. Raise JobInvalid."""
    try:
        retryable = bool(raw.get("retryable", False))
        needs = (index - 1,) if index else ()
        return Step(index, str(raw["command"]), float(raw["timeout"]), retryable, needs, tolerant=retryable)
    except (KeyError, TypeError, ValueError) as error:
        raise JobInvalid(f"input: {type(error).__name__}: {error}") from error


def _failed(last: Result, counts: dict[str, Any]) -> Ending:
    told = {"index": last.index, "exit_code": last.exit_code, "timed_out": last.timed_out}
    error = {"type": "command_failed", "message": f"command {last.index} failed", **told}
    return Ending("failed", counts, error)

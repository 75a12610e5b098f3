"""The runner with one more driver, `plans`: it runs the plans of the job's input and tells what has become of them.

The runner's own drivers decide what to run; here a test does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from sandbox_scripts import __main__ as runner
from sandbox_scripts import drivers
from sandbox_scripts.drivers.endings import cut_off
from sandbox_scripts.drivers.steps import Outcome, Step, Steps
from sandbox_scripts.job import Ending


def drive(run: drivers.Run) -> Ending:
    """Each plan in its turn; the run's result is what the outcomes say."""
    steps, told = Steps(run), []
    for plan in run.job.input["plans"]:
        outcome = steps.run([Step(**raw) for raw in plan])
        told.append(_told(outcome))
        if outcome.stopped is not None:
            return cut_off(run.job, outcome.stopped, {"outcomes": told}, outcome.budget)
    return Ending("succeeded", {"outcomes": told})


def _told(outcome: Outcome) -> dict[str, Any]:
    results = [vars(result) for result in outcome.results.values()]
    return {"stopped": outcome.stopped, "skipped": outcome.skipped, "results": results}


if __name__ == "__main__":
    module = ModuleType("sandbox_scripts.drivers.plans")
    vars(module)["drive"] = drive
    sys.modules[module.__name__] = module
    drivers.KINDS += ("plans",)  # type: ignore[assignment] # the runner knows its own kinds only
    sys.exit(runner.main())

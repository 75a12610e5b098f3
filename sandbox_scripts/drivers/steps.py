"""Steps side by side, each as soon as what it needs is there.

A step that fails is tried up to three times when it is retryable. It takes nobody down with it but the steps that need
it: those are never started. At most `SIDE_BY_SIDE` run at a time.

A budget that is spent, a cancellation and the run's deadline end what is under way, and nothing more is started.

What a command leaves behind is ended with it. Of a daemon that left its session, its parent and its environment, and
holds no stream of the command's, nobody can say whose it is: it is ended with the last of those that run.

    steps = Steps(run)               # reads the spool: what it says of steps is never done again
    outcome = steps.run(plan)        # a list of Step; returns at once when they are all over already
    outcome.stopped                  # None, "cancelled", "timed_out", "budget_reached": then endings.cut_off() ends it
    outcome.results[0].stdout        # the beginning and the end of what it wrote, redacted as in the log
    outcome = steps.run(second_plan) # may need steps of the first, by their indexes

After a restart call run() with the same plans in the same order; what runs is found again.
"""

from __future__ import annotations

from ..control import BUDGET_REACHED, CANCELLED, TIMED_OUT
from ..prctl import adopt_orphans, conceal
from ..process import reap, wait_for_any
from ..redact import literal_forms
from .attempt import Attempt, Step, failed, started
from .progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from . import Run
    from .progress import Place

__all__ = ["SIDE_BY_SIDE", "Outcome", "Result", "Step", "Steps"]

SIDE_BY_SIDE = 4
# How soon new output is seen. The end of a command is seen at once.
POLL_SECONDS = 0.02


class Result:
    """How a step ended: its last attempt."""

    def __init__(self, step: Step, place: Place, completed: dict[str, Any]) -> None:
        self.index = step.index
        # Redacted, as the log has it.
        self.command = place.command
        # None when the command was killed together with what should have written its exit code down.
        self.exit_code: int | None = completed["exit_code"]
        self.succeeded = not failed(completed)
        self.timed_out: bool = completed["timed_out"]
        # Whether there was more output than the log holds.
        self.truncated: bool = completed["truncated"]
        self.attempts: int = completed["attempts"]
        self.duration_ms: int = completed["duration_ms"]
        # At most some 16 KiB of each stream; empty where the output is not kept.
        self.stdout, self.stderr = (
            place.excerpts[stream].text() if stream in place.excerpts else "" for stream in ("stdout", "stderr")
        )


class Outcome:
    """What has become of a plan's steps."""

    def __init__(
        self, stopped: str | None, results: dict[int, Result], skipped: list[int], budget: dict[str, Any] | None
    ) -> None:
        # Why it was cut short: cancelled, timed_out or budget_reached; None when every step ran that could.
        self.stopped = stopped
        # By index, in the order of the plan: the steps that ran.
        self.results = results
        # Indexes of steps that were never started.
        self.skipped = skipped
        # The data of budget.reached, once it was told.
        self.budget = budget


class Steps:
    """Runs plans on what the spool says of them."""

    def __init__(self, run: Run, keeps_output: bool = True) -> None:
        """Read the spool, become the reaper of orphans, and close /proc/self where the token stands in it."""
        self._job = run.job
        self._forms = literal_forms(run.job.redact)
        self._adopts = adopt_orphans()
        if run.job.credentials == "env":
            conceal()  # the token stays readable in /proc/self/environ otherwise
        self._progress = Progress(run, keeps_output)
        self._live: list[Attempt] = []
        # Whether a step may have to begin.
        self._stale = True

    def run(self, plan: Sequence[Step]) -> Outcome:
        """Run the plan, or the rest of it. Whatever happens here, none of it is left running.

        Raise OSError, and what cuts the run off (RunnerError).
        """
        self._stale = True
        try:
            self._find(plan)
            while self._advance(plan):
                wait_for_any((attempt.process for attempt in self._live), POLL_SECONDS)
        except BaseException:
            self._quit()
            raise
        return self._outcome(plan)

    def _advance(self, plan: Sequence[Step]) -> bool:
        """One look at everything: whether more is to come."""
        for attempt in self._live.copy():
            if self._alone(attempt).advance():
                attempt.tell()
                self._close(attempt)
                self._stale = True
        self._stale = self._stale and self._start(plan)
        return self._stale or bool(self._live)

    def _start(self, plan: Sequence[Step]) -> bool:
        """Begin what is due; whether it is worth looking again."""
        ready = self._ready(plan)
        if not ready or self._progress.check() is not None:
            return False
        for step in ready:
            if len(self._live) < SIDE_BY_SIDE and not self._progress.place(step.index).waits():
                self._begin(step)
        return True

    def _find(self, plan: Sequence[Step]) -> None:
        """Take up what a runner before this one has begun."""
        for step in plan:
            if self._progress.place(step.index).running:
                self._open(step)

    def _ready(self, plan: Sequence[Step]) -> list[Step]:
        """The steps that may begin, or begin again."""
        tolerant = {step.index for step in plan if step.tolerant}
        return [step for step in plan if self._is_ready(step, tolerant)]

    def _is_ready(self, step: Step, tolerant: set[int]) -> bool:
        completed = self._progress.completed
        if step.index in completed or self._progress.place(step.index).running:
            return False
        return all(index in completed and (index in tolerant or not failed(completed[index])) for index in step.needs)

    def _begin(self, step: Step) -> None:
        attempt = self._progress.place(step.index).attempt
        self._progress.emit("command.started", started(step, attempt, self._forms))
        self._open(step)

    def _open(self, step: Step) -> None:
        self._live.append(Attempt(self._job, self._progress, step, self._forms))

    def _alone(self, attempt: Attempt) -> Attempt:
        """The attempt, which answers for every orphan while no other runs."""
        attempt.process.adopts = self._adopts and len(self._live) == 1
        return attempt

    def _close(self, attempt: Attempt) -> None:
        self._live.remove(attempt)
        attempt.close()
        if self._adopts:
            reap()  # those who run beside it see that it is gone

    def _quit(self) -> None:
        """End everything, and say nothing of it."""
        for attempt in self._live:
            attempt.quit()
        while self._live:
            for attempt in self._live.copy():
                if self._alone(attempt).gone():
                    self._close(attempt)
            wait_for_any((attempt.process for attempt in self._live), POLL_SECONDS if self._live else 0)

    def _outcome(self, plan: Sequence[Step]) -> Outcome:
        progress, completed = self._progress, self._progress.completed
        results = {
            step.index: Result(step, progress.place(step.index), completed[step.index])
            for step in plan
            if step.index in completed
        }
        skipped = [step.index for step in plan if step.index not in completed]
        return Outcome(self._why(plan), results, skipped, progress.budget)

    def _why(self, plan: Sequence[Step]) -> str | None:
        """Why it was cut short, if it was. A plan that came to its end is not cut short by what is said later."""
        indexes = {step.index for step in plan}
        completed = [data for index, data in self._progress.completed.items() if index in indexes]
        if any(data.get("cancelled") for data in completed):
            return CANCELLED
        if completed and completed[-1]["timed_out"] and self._progress.is_late():
            return TIMED_OUT
        if any(data.get("budget_reached") for data in completed):
            return BUDGET_REACHED
        return self._progress.check() if self._ready(plan) else None

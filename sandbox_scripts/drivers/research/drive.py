"""A question, from the plan to the answer. Where it stands is in the log, so a restart goes on from there."""

from __future__ import annotations

import time

from ...errors import JobInvalid
from ...job import Ending
from ..endings import cut_off
from ..packages import add_site_packages
from ..steps import Step, Steps
from . import prompts
from .background import POLL_SECONDS, Background
from .evidence import Evidence
from .failures import CHECKER_MISSING, NOTHING_FOUND, PLAN_REJECTED, Failure, Stopped
from .journal import Journal
from .planner import Planner
from .question import Question
from .rules import UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .. import Run
    from ..steps import Outcome, Result
    from .check import Refusal

# The first plan, and one more for what was refused or failed.
PLANS = 2
MOST_REASONS = 50
# A plan that takes longer to be read was not made to be read; an ordinary one takes milliseconds.
CHECK_SECONDS = 15.0
REJECTED, FAILED = "rejected", "failed"
OVER_DURATION, OVER_BUDGET = "over-duration", "over-budget"
# In budget.reached: what a plan was thought to cost, where nothing of it was spent.
ESTIMATE = "estimated_microusd"


def drive(run: Run) -> Ending:
    """Find the answer, or say why there is none. Raise JobInvalid, OSError, and what cuts the run off (RunnerError)."""
    add_site_packages()
    try:
        research = _Research(run)
    except (KeyError, TypeError, ValueError) as error:
        raise JobInvalid(f"input: {type(error).__name__}: {error}") from error
    return research.run()


class _Research:
    def __init__(self, run: Run) -> None:
        """Raise KeyError, TypeError or ValueError where the job's input is not a question."""
        told = run.job.input
        self._query = str(told["query"])
        self._context = [str(text) for text in told.get("context") or ()]
        self._hosts = [str(host) for host in told.get("hosts") or ()]
        budget = told.get("budget_microusd")
        self._budget_microusd = None if budget is None else int(budget)
        self._job, self._control = run.job, run.control
        self._journal = Journal(run)
        self._planner = Planner(run.job, self._journal)
        self._checker = Background(_load_checker)
        self._steps = Steps(run)
        self._results: dict[int, Result] = {}

    def run(self) -> Ending:
        try:
            if self._journal.progress.answer is None:
                self._journal.close_request()
                self._await_checker()
                self._gather()
                self._answer()
        except Stopped as stopped:
            return self._cut_off(stopped.verdict)
        except Failure as failure:
            error = {"type": failure.kind, "message": str(failure)}
            return Ending("failed", self._journal.progress.result(), error)
        finally:
            self._planner.close()
        return Ending("succeeded", self._journal.progress.result())

    def _cut_off(self, verdict: str) -> Ending:
        progress = self._journal.progress
        ending = cut_off(self._job, verdict, progress.result(), progress.budget)
        if ending.error is not None and ESTIMATE in (progress.budget or {}):
            ending.error["message"] = "the plan is thought to cost more than the budget of the run"
        return ending

    def _gather(self) -> None:
        """Plan and execute, and once more where that was refused or failed. Raise Failure where nothing was found."""
        because = ""
        for number in range(1, PLANS + 1):
            plan = self._journal.progress.plan(number) or self._new_plan(number, because)
            if self._is_refused(plan):
                because = REJECTED
                continue
            if self._execute(plan):
                return
            because = FAILED
        if self._journal.progress.succeeded():
            return
        if because == REJECTED:
            raise Failure(PLAN_REJECTED, "the last plan breaks the rules, and nothing was found before")
        raise Failure(NOTHING_FOUND, "no step of the plans has succeeded")

    # The plan

    def _new_plan(self, number: int, because: str) -> dict[str, Any]:
        """Ask for it, and tell it."""
        self._journal.go_on()
        self._planner.loaded()
        from . import plan  # needs pydantic, which came with the SDK

        question = Question("plan", plan.schema(), prompts.PLANNING, self._request(because))
        drafted = self._planner.ask(question, plan.read)
        told = self._planner.redacted(plan.event(drafted, len(self._journal.progress.steps()), self._journal.left()))
        data = {"plan": number, "model": self._planner.name, **told}
        if because:
            self._journal.emit("plan.revised", {**data, "because": because})
        else:
            self._journal.emit("plan.created", data)
        return self._journal.progress.plans[-1]

    def _request(self, because: str) -> str:
        progress = self._journal.progress
        first = prompts.plan(self._query, self._context, self._hosts, self._journal.left())
        if because == REJECTED:
            refused = progress.plans[-1]
            return prompts.replan_refused(first, refused, progress.rejected[refused["plan"]])
        return prompts.replan_failed(first, self._evidence()) if because else first

    def _is_refused(self, plan: dict[str, Any]) -> bool:
        """Whether the plan may not be run; the log is told why."""
        progress = self._journal.progress
        if plan["plan"] in progress.rejected:
            return True
        if progress.has_begun(plan):
            return False  # it was checked before, with more time left
        reasons = self._reasons(plan)
        if reasons:
            self._journal.emit("plan.rejected", {"plan": plan["plan"], "reasons": reasons[:MOST_REASONS]})
        return bool(reasons)

    def _reasons(self, plan: dict[str, Any]) -> list[dict[str, Any]]:
        reasons: list[dict[str, Any]] = [
            {"index": index, "rule": refusal.rule, "text": self._planner.redacted(refusal.text)}
            for index, refusal in self._refusals(plan["steps"])
        ]
        seconds, left = plan["estimated_duration_seconds"], int(self._journal.left())
        if seconds > left:
            text = f"it takes {seconds} seconds, and {left} are left"
            reasons.append({"index": None, "rule": OVER_DURATION, "text": text})
        # With nothing found yet there is no answer to be had within the budget: see _hold_budget.
        if self._is_too_dear(plan) and self._journal.progress.succeeded():
            text = (
                f"it costs {plan['estimated_cost_microusd']} millionths of a dollar, and {self._budget_microusd} may be"
            )
            reasons.append({"index": None, "rule": OVER_BUDGET, "text": text})
        return reasons

    def _is_too_dear(self, plan: dict[str, Any]) -> bool:
        limit = self._budget_microusd
        return limit is not None and plan["estimated_cost_microusd"] > limit

    def _refusals(self, steps: list[dict[str, Any]]) -> list[tuple[int | None, Refusal]]:
        """What the check says of each, while the run can still be ended. Raise Stopped."""
        from .check import Refusal, refusals

        checking = Background(
            lambda: [(step["index"], found) for step in steps for found in refusals(step["command"], self._hosts)]
        )
        give_up = time.monotonic() + CHECK_SECONDS
        while not checking.done(POLL_SECONDS):
            self._journal.go_on()
            if time.monotonic() >= give_up:
                return [(None, Refusal(UNREADABLE, f"it is not read within {CHECK_SECONDS:g} seconds"))]
        return checking.value()

    # The steps

    def _execute(self, plan: dict[str, Any]) -> bool:
        """Run what is still to run of it; whether all went well. Raise Stopped."""
        if not self._journal.progress.has_begun(plan):
            self._hold_budget(plan)
            self._journal.settle()
        outcome = self._steps.run([_step(step) for step in plan["steps"]])
        self._journal.reread()
        self._results.update(outcome.results)
        if outcome.stopped is not None:
            raise Stopped(outcome.stopped)
        return _went_well(outcome)

    def _hold_budget(self, plan: dict[str, Any]) -> None:
        """A plan that is thought to cost more than there is spends nothing. Raise Stopped."""
        if self._is_too_dear(plan):
            budget = {"scope": "run", "spent_microusd": 0, "limit_microusd": self._budget_microusd}
            self._journal.reach({**budget, ESTIMATE: plan["estimated_cost_microusd"]})

    def _await_checker(self) -> None:
        """Before any money is spent on a plan that could not be checked. Raise Failure and Stopped."""
        while not self._checker.done(POLL_SECONDS):
            self._journal.go_on()
        try:
            self._checker.value()
        except ImportError as error:
            raise Failure(CHECKER_MISSING, f"this sandbox cannot read shell commands: {error}") from error

    # The answer

    def _answer(self) -> None:
        self._journal.go_on()
        self._planner.loaded()
        from . import answer

        evidence = self._evidence()
        prompt = prompts.answer(self._query, self._context, evidence)
        question = Question("answer", answer.schema(), prompts.ANSWERING, prompt)
        said = self._planner.ask(question, lambda text: answer.read(text, evidence))
        self._journal.emit("research.answer", {**self._planner.redacted(said), "model": self._planner.name})

    def _evidence(self) -> Evidence:
        return Evidence(self._journal.progress.steps(), self._results)


def _load_checker() -> None:
    from .check import refusals

    refusals("true", None)


def _step(told: dict[str, Any]) -> Step:
    return Step(told["index"], told["command"], told["timeout_seconds"], told["retryable"], told["needs"])


def _went_well(outcome: Outcome) -> bool:
    return not outcome.skipped and all(result.succeeded for result in outcome.results.values())

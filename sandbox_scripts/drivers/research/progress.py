"""Where a research run stands: a fold over the spool's events and nothing else."""

from __future__ import annotations

from ..attempt import failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...spool import Spool

PLANS = ("plan.created", "plan.revised")


class Progress:
    """`plans` are the events' data in order, of which the rejected ones have their reasons by number."""

    def __init__(self) -> None:
        self.plans: list[dict[str, Any]] = []
        self.rejected: dict[int, list[dict[str, Any]]] = {}
        self.begun: set[int] = set()
        self.completed: dict[int, dict[str, Any]] = {}
        self.answer: dict[str, Any] | None = None
        self.budget: dict[str, Any] | None = None
        self.requests = 0
        self.open_request: dict[str, Any] | None = None

    @classmethod
    def of(cls, spool: Spool) -> Progress:
        """Of all events so far."""
        progress = cls()
        for event in spool.events():
            progress.fold(event["type"], event["data"])
        return progress

    def fold(self, kind: str, data: dict[str, Any]) -> None:
        """Take in one event."""
        if kind in PLANS:
            self.plans.append(data)
        elif kind == "plan.rejected":
            self.rejected[data["plan"]] = data["reasons"]
        elif kind == "command.started":
            self.begun.add(data["index"])
        elif kind == "command.completed":
            self.completed[data["index"]] = data
        elif kind == "span.model_request_start":
            self.requests, self.open_request = self.requests + 1, data
        elif kind == "span.model_request_end":
            self.open_request = None
        elif kind == "research.answer":
            self.answer = data
        elif kind == "budget.reached":
            self.budget = data

    def plan(self, number: int) -> dict[str, Any] | None:
        """The plan of this number, if it stands in the log."""
        return next((plan for plan in self.plans if plan["plan"] == number), None)

    def steps(self) -> dict[int, dict[str, Any]]:
        """The steps of the plans that were not rejected, by index."""
        standing = [plan for plan in self.plans if plan["plan"] not in self.rejected]
        return {step["index"]: step for plan in standing for step in plan["steps"]}

    def has_begun(self, plan: dict[str, Any]) -> bool:
        """Whether a command of the plan was started."""
        return any(step["index"] in self.begun for step in plan["steps"])

    def succeeded(self) -> list[int]:
        """The steps that did what they should."""
        return [index for index, completed in self.completed.items() if not failed(completed)]

    def result(self) -> dict[str, Any]:
        """The run's result."""
        succeeded = len(self.succeeded())
        return {
            "plans": len(self.plans),
            "steps": len(self.steps()),
            "succeeded": succeeded,
            "failed": len(self.completed) - succeeded,
            "answered": self.answer is not None,
        }

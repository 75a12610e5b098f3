"""What goes wrong in research, drawn once.

Failure        the run cannot come to an answer; its type is the run's error
Stopped        the run has to end now: cancelled, timed_out or budget_reached
ModelError     one request to a model brought nothing
├── Down       no answer, or an error for one
├── Declined   the model refuses
└── Unusable   what it says is not what was asked for
"""

from __future__ import annotations

UNAVAILABLE, REFUSED, INVALID = "planner_unavailable", "planner_refused", "planner_invalid"
PLAN_REJECTED, NOTHING_FOUND, CHECKER_MISSING = "plan_rejected", "research_failed", "checker_missing"


class Failure(Exception):
    """The run fails with this type of error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Stopped(Exception):
    """Something cuts the run short; `verdict` is one of control.py's words."""

    def __init__(self, verdict: str) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class ModelError(Exception):
    """A request that brought nothing."""


class Down(ModelError):
    """`is_final`: asking again cannot help. `retry_after`: the seconds that the other side asked for, if it did."""

    def __init__(self, message: str, is_final: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.is_final, self.retry_after = is_final, retry_after


class Declined(ModelError):
    """The message is the model's own, if it gave one."""


class Unusable(ModelError):
    """The message says what is wrong, in words that the model is asked again with."""

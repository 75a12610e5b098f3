"""Why a conversation is over, and how the CLI is to be ended."""

from __future__ import annotations

from ...control import BUDGET_REACHED, CANCELLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .errors import Outcome

ASK, STOP, HURRY = "ask", "stop", "hurry"
SUCCEEDED, FAILED = "succeeded", "failed"
END_TURN, EXHAUSTED = "end_turn", "retries_exhausted"


class End:
    """The run's status with its stop reason and error; `how` is a way of Departure: ask, stop or hurry."""

    def __init__(
        self, status: str, how: str, stop_reason: dict[str, Any] | None = None, error: dict[str, Any] | None = None
    ) -> None:
        self.status, self.how, self.error = status, how, error
        self.stop_reason = stop_reason or {"type": END_TURN}

    @classmethod
    def of_turn(cls, outcome: Outcome | None, is_spent: bool) -> End:
        """After the last turn; `outcome` is None where it was stopped before it began. `is_spent`: by the budget."""
        if outcome is not None and outcome.is_error:
            return cls(FAILED, ASK, outcome.stop_reason, outcome.error)
        if is_spent:
            return cls.spent(ASK)
        if outcome is None or outcome.interrupted:
            return cls(CANCELLED, ASK)
        return cls(SUCCEEDED, ASK, outcome.stop_reason)

    @classmethod
    def spent(cls, how: str) -> End:
        """The budget ends it: nothing has failed, and a raised one lets the session go on."""
        return cls(SUCCEEDED, how, {"type": BUDGET_REACHED})

    @property
    def is_spent(self) -> bool:
        """Whether a budget ends it, the log's or the one that the CLI keeps by itself."""
        return self.stop_reason.get("type") == BUDGET_REACHED

    def noted(self) -> list[Any]:
        """As the memo keeps it; End(*noted) is the same again."""
        return [self.status, self.how, self.stop_reason, self.error]

"""Research: questions, and what became of them. Money is in millionths of a US dollar, times in seconds."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sandstream.conversation import budget
from sandstream.endpoints import Endpoints
from sandstream.wire import LIVE, Answer, Page


class Cost(Answer):
    """An amount as the endpoints tell it: in US cents, maybe with parts of one."""

    amount: Decimal

    @property
    def microusd(self) -> int:
        """In millionths of a US dollar, rounded up."""
        return math.ceil(self.amount * 10_000)


class Citation(Answer):
    """What a sentence rests on: a step of the plan, and the address that it read, where there is one."""

    step: int
    source: str | None = None


class Fact(Answer):
    """One typed result. `kind` is text, number, date or link; `value` is written as the step had it."""

    kind: str
    name: str
    value: str
    unit: str | None = None
    step: int


class Results(Answer):
    """What a question came to: the data of `research.answer`."""

    answer: str
    citations: tuple[Citation, ...] = ()
    facts: tuple[Fact, ...] = ()
    # False when the answer itself says that something is missing: then it is not remembered.
    is_complete: bool = True
    model: str | None = None


class PlanStep(Answer):
    """One command of a plan, and the steps that must have succeeded before it."""

    index: int
    command: str
    description: str = ""
    needs: tuple[int, ...] = ()


class Plan(Answer):
    """The data of `plan.created` and `plan.revised`."""

    plan: int = 1
    steps: tuple[PlanStep, ...]
    estimated_duration_seconds: float | None = None
    estimated_cost_microusd: int | None = None
    risk: str = ""
    because: str | None = None
    """Why another was made: `rejected` or `failed`; None for the first."""


class ResearchTask(Answer):
    """A question and how it stands. `results` are there once its status is `completed`.

    Answered from memory it has no run, and says whose answer it is, how old that is and how alike the questions are.
    """

    task_id: UUID
    session_id: UUID
    run_id: UUID | None = None
    status: str
    query: str = ""
    context: tuple[str, ...] = ()
    options: dict[str, Any] | None = None
    estimated_duration: float | None = None
    estimated_cost: Cost | None = None
    from_cache: bool = False
    source_task_id: UUID | None = None
    similarity: float | None = None
    age: float | None = None
    results: Results | None = None
    error: dict[str, Any] | None = None
    cost_microusd: int | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status not in LIVE


class Research:
    """The caller's questions. Every method raises as those of Sandstream."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def submit(
        self,
        query: str,
        *,
        context: Sequence[str] | None = None,
        max_duration: int | None = None,
        budget_cents: int | None = None,
        use_cache: bool | None = None,
        max_age: int | None = None,
        model: str | None = None,
        egress: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> ResearchTask:
        """Ask something. The answer comes at once where it is remembered; else a run looks for it, and its session is
        watched as any other.

        `max_duration` is the run's, `max_age` that of a remembered answer; 0 takes none, nor does `use_cache=False`.
        `egress` names hosts that the sandbox may reach beside its own. Raises BudgetExceededError when the month has
        less left than the run may cost.
        """
        options = {
            "max_duration": max_duration,
            "budget": budget(budget_cents) if budget_cents is not None else None,
            "use_cache": use_cache,
            "max_age": max_age,
            "model": model,
            "egress": list(egress) if egress is not None else None,
        }
        given = {name: value for name, value in options.items() if value is not None}
        body = (
            {"query": query} | ({"context": list(context)} if context else {}) | ({"options": given} if given else {})
        )
        key = idempotency_key or uuid.uuid4().hex
        answer = await self._endpoints.call("POST", "/v1/research", body=body, key=key)
        return ResearchTask.model_validate_json(answer.content)

    async def get(self, task_id: UUID | str) -> ResearchTask:
        """The question as it stands. Raises NotFoundError."""
        answer = await self._endpoints.call("GET", f"/v1/research/{task_id}")
        return ResearchTask.model_validate_json(answer.content)

    async def list(self, limit: int = 20, after: str | None = None) -> Page[ResearchTask]:
        """The caller's questions, newest first; `after` is the page before's `next_cursor`."""
        params = {"limit": limit} | ({"after": after} if after else {})
        answer = await self._endpoints.call("GET", "/v1/research", params=params)
        return Page[ResearchTask].model_validate_json(answer.content)

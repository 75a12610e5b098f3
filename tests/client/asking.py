"""Questions for tests: what the endpoints answer, and the log of a session in which one is found out."""

from __future__ import annotations

from typing import Any

from sandstream.events import Event
from tests.client.events_of import SESSION, Log

TASK_ID = "33333333-3333-4333-8333-333333333333"
SOURCE_ID = "44444444-4444-4444-8444-444444444444"
RUN_ID = "11111111-1111-4111-8111-111111111111"
URL = "http://127.0.0.1:4321/prices.json"
PRICE = "curl -fsS http://127.0.0.1:4321/prices.json"

RESULTS: dict[str, Any] = {
    "answer": "Bitcoin costs 67,123.45 dollars.",
    "citations": [{"step": 0, "source": URL}, {"step": 1, "source": None}],
    "facts": [
        {"kind": "number", "name": "price of bitcoin", "value": "67123.45", "unit": "USD", "step": 0},
        {"kind": "date", "name": "as of", "value": "2026-11-20", "unit": None, "step": 0},
    ],
    "model": "scripted-planner",
}
ACCEPTED: dict[str, Any] = {
    "type": "research_task",
    "task_id": TASK_ID,
    "session_id": str(SESSION),
    "run_id": RUN_ID,
    "status": "launching",
    "estimated_duration": 60,
    "estimated_cost": {"amount": "5", "currency": "USD"},
    "a_field_of_tomorrow": True,
}
REMEMBERED: dict[str, Any] = {
    "type": "research_task",
    "task_id": TASK_ID,
    "session_id": str(SESSION),
    "run_id": None,
    "status": "completed",
    "from_cache": True,
    "results": RESULTS,
    "similarity": 0.9866,
    "source_task_id": SOURCE_ID,
    "age": 42,
}
COMPLETED: dict[str, Any] = {
    **ACCEPTED,
    "status": "completed",
    "query": "What is the price of bitcoin?",
    "context": [],
    "options": {},
    "results": RESULTS,
    "error": None,
    "cost_microusd": 3100,
    "created_at": "2026-11-21T08:00:00.123456+00:00",
    "completed_at": "2026-11-21T08:00:03.123456+00:00",
}


def failed(type: str, message: str, status: str = "failed") -> dict[str, Any]:
    """A question that has no answer."""
    return {**COMPLETED, "status": status, "results": None, "error": {"type": type, "message": message}}


def step(index: int, command: str, description: str, *needs: int) -> dict[str, Any]:
    """One step of a plan."""
    limits = {"timeout_seconds": 10, "retryable": True, "expected_output": "a price"}
    return {"index": index, "command": command, "description": description, "needs": list(needs), **limits}


def plan(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A plan as the log has it."""
    expected = {"estimated_duration_seconds": 12, "estimated_cost_microusd": 2000, "risk": "low", "fallback": "say so"}
    return {"plan": 1, "model": "scripted-planner", "steps": list(steps), **expected, **changes}


class Asking(Log):
    """The log of a question."""

    def plans(self, *steps: dict[str, Any], **changes: Any) -> Event:
        """The first plan."""
        return self.add("plan.created", **plan(*steps, **changes))

    def revises(self, because: str, *steps: dict[str, Any]) -> Event:
        """The second."""
        return self.add("plan.revised", **plan(*steps, plan=2, because=because))

    def starts(self, index: int, attempt: int = 1) -> Event:
        """A step begins."""
        return self.add("command.started", index=index, command="…", attempt=attempt, timeout_seconds=10)

    def prints(self, index: int, text: str, stream: str = "stdout") -> Event:
        """A step prints."""
        return self.add("command.output", index=index, attempt=1, stream=stream, text=text)

    def completes(self, index: int, exit_code: int | None = 0, **more: Any) -> Event:
        """A step ends."""
        return self.add(
            "command.completed", index=index, exit_code=exit_code, duration_ms=120, attempts=1, timed_out=False, **more
        )  # fmt: skip

    def asks_model(self) -> None:
        """A request to the model, and its end."""
        usage = {"input_tokens": 1000, "output_tokens": 150, "cache_read_input_tokens": 200}
        self.add("span.model_request_start", id="a", model="scripted-planner")
        self.add("span.model_request_end", id="b", model_request_start_id="a", model_usage=usage, is_error=False)


def found_out() -> Asking:
    """A question with two sources side by side, from its plan to its answer."""
    log = Asking()
    log.asks_model()
    log.plans(step(0, PRICE, "Look up the price of bitcoin"), step(1, "date -u", "See what day it is"))
    log.starts(0)
    log.starts(1)
    log.prints(1, "Sat Nov 21\n")
    log.prints(0, '{"bitcoin": 67123.45}\n')
    log.completes(1)
    log.completes(0)
    log.asks_model()
    log.add("research.answer", **RESULTS)
    log.add("run.succeeded", result={"plans": 1, "steps": 2, "succeeded": 2, "failed": 0, "answered": True}, error=None)
    log.rests()
    return log

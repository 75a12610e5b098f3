"""Failures and ends: which error it is, whether a retry helps, and what the turn's stop reason says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox_scripts.drivers.claude.errors import Outcome
from sandbox_scripts.drivers.claude.events import Fold
from tests.runner.claude_record import allowed, assistant, fold, folded, line, mapped, of, recorded, validated

RESULT = {"type": "result", "subtype": "success", "is_error": True, "result": "API Error"}


def outcome(name: str) -> Outcome:
    """How a recording ended."""
    by = fold()
    folded(name, by)
    assert by.outcome is not None
    return by.outcome


def ended(**fields: Any) -> Outcome:
    """How a turn with such a `result` ended."""
    by = fold()
    by.take(line({**RESULT, **fields}))
    assert by.outcome is not None
    return by.outcome


@pytest.mark.parametrize(
    ("name", "kind", "retry_status"),
    [
        ("exhausted", "model_overloaded_error", "exhausted"),
        ("bad_key", "model_request_failed_error", "terminal"),
        ("bad_request", "model_request_failed_error", "terminal"),
        ("no_model", "model_request_failed_error", "terminal"),
        ("billing", "billing_error", "terminal"),
        ("max_turns", "tool_use_limit_reached_error", "exhausted"),
    ],
)
def test_a_failed_turn_tells_one_error(name: str, kind: str, retry_status: str) -> None:
    """The CLI shows the API's error as a message and again as the result; the log has it once, with what helps."""
    errors = [event for event in folded(name) if event[0] == "session.error"]
    final = [validated(event).error for event in errors if event[1]["error"]["retry_status"]["type"] != "retrying"]
    assert [(error.type, error.retry_status.type) for error in final] == [(kind, retry_status)]
    assert errors[-1][1]["error"]["retryable"] is (retry_status == "exhausted")
    assert final[0].message
    end = outcome(name)
    assert end.is_error
    assert end.error == errors[-1][1]["error"]
    assert end.stop_reason == {"type": "retries_exhausted"}
    assert of(folded(name), "agent.message") == []


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("overloaded", ["model_overloaded_error"] * 2),
        ("rate_limited", ["model_rate_limited_error"]),
        ("cut", ["model_request_failed_error"]),
    ],
)
def test_retries_are_told_while_they_happen(name: str, kinds: list[str]) -> None:
    """Each with the attempt and the wait; the turn that then succeeds is no error."""
    errors = [data["error"] for data in of(folded(name), "session.error")]
    assert [error["type"] for error in errors] == kinds
    assert [error["attempt"] for error in errors] == list(range(1, len(kinds) + 1))
    assert {error["retry_status"]["type"] for error in errors} == {"retrying"}
    end = outcome(name)
    assert (end.is_error, end.stop_reason) == (False, {"type": "end_turn"})


@pytest.mark.parametrize(
    "name", ["tool", "empty_text", "mcp", "subagent", "max_tokens", "two_turns", "slash", "denied"]
)
def test_a_good_end(name: str) -> None:
    """The turn ended, nothing failed, and what it cost is a whole number."""
    end = outcome(name)
    assert (end.is_error, end.interrupted, end.stop_reason) == (False, False, {"type": "end_turn"})
    assert end.subtype == "success"
    assert isinstance(end.cost_microusd, int)


@pytest.mark.parametrize("name", ["interrupted", "interrupted_tool"])
def test_an_interrupt_is_no_error(name: str) -> None:
    """The CLI calls it an error in execution; it is what was asked for."""
    end = outcome(name)
    assert (end.interrupted, end.is_error, end.stop_reason) == (True, False, {"type": "end_turn"})
    assert of(folded(name), "session.error") == []


def test_a_budget_that_is_spent_is_no_error() -> None:
    """It is the stop reason of that name."""
    assert outcome("budget").stop_reason == {"type": "budget_reached"}
    assert not outcome("budget").is_error
    assert of(folded("budget"), "session.error") == []


def test_a_refusal_is_a_stop_reason() -> None:
    """With the category and explanation that the API gave; the CLI's error message is none."""
    end = outcome("refusal")
    assert (end.stop_reason, end.is_error) == ({"type": "refusal"}, False)
    assert end.stop_details == {"type": "refusal", "category": "cyber", "explanation": "no"}
    event = ("session.status_idle", {"id": "x", "stop_reason": end.stop_reason, "stop_details": end.stop_details})
    assert validated(event).stop_details.category == "cyber"
    assert of(folded("refusal"), "session.error") == []


def test_a_category_that_the_api_has_not_is_none() -> None:
    """The stop details still validate."""
    by = fold()
    by.take(line({"type": "system", "subtype": "model_refusal_no_fallback", "api_refusal_category": "new"}))
    by.take(line({**RESULT, "stop_reason": "refusal"}))
    assert by.outcome is not None
    assert by.outcome.stop_details == {"type": "refusal", "category": None, "explanation": None}


@pytest.mark.parametrize(
    ("fields", "kind", "retryable"),
    [
        ({"api_error_status": 529}, "model_overloaded_error", True),
        ({"api_error_status": 429}, "model_rate_limited_error", True),
        ({"api_error_status": 500}, "model_request_failed_error", True),
        ({"api_error_status": 403}, "model_request_failed_error", False),
        ({"api_error_status": None}, "model_request_failed_error", True),
        ({"terminal_reason": "prompt_too_long"}, "model_request_failed_error", False),
        ({"terminal_reason": "rapid_refill_breaker"}, "compaction_limit_reached_error", True),
        ({"subtype": "error_during_execution"}, "unknown_error", True),
        ({"subtype": "error_during_execution", "startup_failure_reason": "x"}, "unknown_error", False),
        ({"subtype": "error_max_structured_output_retries"}, "model_request_failed_error", True),
        ({"subtype": "error_of_tomorrow"}, "model_request_failed_error", True),
        ({"subtype": None, "is_error": None}, "model_request_failed_error", True),
    ],
)
def test_errors_by_status_reason_and_subtype(fields: dict[str, Any], kind: str, retryable: bool) -> None:
    """What only the documents say; a kind of failure that is not known is a failure."""
    end = ended(**fields)
    assert end.error is not None
    assert (end.error["type"], end.error["retryable"]) == (kind, retryable)
    validated(("session.error", {"id": "x", "error": end.error}))


@pytest.mark.parametrize("kind", ["authentication_failed", "billing_error", "rate_limit", "server_error", "unknown", 5])
def test_the_clis_word_counts_where_there_is_no_status(kind: Any) -> None:
    """A message in the API's place and the result are one error."""
    events = mapped(assistant({"type": "text", "text": "Told"}, error=kind), {**RESULT, "result": "Told"})
    (error,) = of(events, "session.error")
    told = {"authentication_failed": False, "billing_error": False}
    assert error["error"]["retryable"] is told.get(kind, True)
    assert error["error"]["message"] == "Told"


def test_an_error_without_a_result_is_told_at_the_end() -> None:
    """A CLI that dies after it showed the API's error leaves the error in the log, once."""
    by = fold()
    assert by.take(line(assistant({"type": "text", "text": "API Error: 529"}, error="overloaded"))) == []
    ((kind, data),) = by.close()
    assert (kind, data["error"]["type"]) == ("session.error", "model_overloaded_error")
    assert data["error"]["message"] == "API Error: 529"
    assert by.close() == []


def test_the_message_says_what_is_known() -> None:
    """The CLI's errors before its result, then the status, then the subtype; redacted."""
    assert ended(errors=["one", 2, "two"]).error == {
        "type": "model_request_failed_error",
        "message": "one; two",
        "retry_status": {"type": "exhausted"},
        "retryable": True,
    }
    assert (ended(result="", api_error_status=503).error or {})["message"] == "The model's API answered 503."
    assert (ended(result=None, subtype="error_x").error or {})["message"] == "error_x"
    by = Fold("run", lambda text: text.replace("hunter2", "***"), allowed)
    ((_, data),) = by.take(line({**RESULT, "result": "key hunter2 refused"}))
    assert data["error"]["message"] == "key *** refused"
    assert by.outcome is not None
    assert by.outcome.text == "key *** refused"


def test_cost_is_the_processs_own() -> None:
    """A resumed session's `total_cost_usd` goes on from the process before; what is billed does not."""
    (result,) = [json.loads(row) for row in recorded("resumed").splitlines() if b'"type":"result"' in row]
    assert result["total_cost_usd"] == pytest.approx(0.002012)
    assert outcome("resumed").cost_microusd == 658
    assert outcome("two_turns").cost_microusd == 1354


@pytest.mark.parametrize(
    ("dollars", "expected"),
    [(0.0012345, 1234), (1, 1_000_000), (0, 0), (-1, 0), (True, 0), ("1", 0), (None, 0), (float("nan"), 0), (1e300, 0)],
)
def test_cost_is_a_whole_number(dollars: Any, expected: int) -> None:
    """Of an older CLI that has only the total; what is no amount is none."""
    assert ended(total_cost_usd=dollars).cost_microusd == pytest.approx(expected, abs=1)
    assert isinstance(ended(total_cost_usd=dollars).cost_microusd, int)


def test_queued_turns_are_known() -> None:
    """The driver goes on while the CLI still has messages to answer."""
    assert ended(queued_turn_count=2).queued == 2
    assert ended().queued == 0

"""What the CLI says of failures, as errors and stop reasons of the Managed Agents API.

`retry_status`: `retrying`, the CLI tries again by itself; `exhausted`, the turn is over and a new message may help;
`terminal`, the same will fail again until somebody changes something. `retryable` says the last two as a boolean.
"""

from __future__ import annotations

from .blocks import Malformed, count_at, text_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .blocks import Cleaner

OVERLOADED = "model_overloaded_error"
RATE_LIMITED = "model_rate_limited_error"
FAILED = "model_request_failed_error"
BILLING = "billing_error"
TOOL_LIMIT = "tool_use_limit_reached_error"
COMPACTION = "compaction_limit_reached_error"
UNKNOWN = "unknown_error"

# By HTTP status: (the API's error type, does a retry help). Statuses come first: the CLI calls a 529 `server_error`.
STATUSES = {
    529: (OVERLOADED, True),
    429: (RATE_LIMITED, True),
    402: (BILLING, False),
}
# By the CLI's own word for it (SDKAssistantMessageError).
KINDS = {
    "overloaded": (OVERLOADED, True),
    "rate_limit": (RATE_LIMITED, True),
    "billing_error": (BILLING, False),
    "authentication_failed": (FAILED, False),
    "oauth_org_not_allowed": (FAILED, False),
    "account_on_hold": (FAILED, False),
    "verification_required": (FAILED, False),
    "cloud_credential_error": (FAILED, False),
    "model_not_found": (FAILED, False),
    "invalid_request": (FAILED, False),
    "server_error": (FAILED, True),
    "max_output_tokens": (FAILED, True),
}
# By the result's terminal_reason, where the API is not the cause.
REASONS = {
    "prompt_too_long": (FAILED, False),
    "blocking_limit": (FAILED, False),
    "image_error": (FAILED, False),
    "rapid_refill_breaker": (COMPACTION, True),
    "max_turns": (TOOL_LIMIT, True),
    "turn_setup_failed": (UNKNOWN, False),
}
SUBTYPES = {
    "error_max_turns": (TOOL_LIMIT, True),
    "error_max_structured_output_retries": (FAILED, True),
    "error_during_execution": (UNKNOWN, True),
}
INTERRUPTED = ("aborted_streaming", "aborted_tools")
# What the API's type allows; another category is said as none.
REFUSAL_CATEGORIES = ("cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms")
RESULT_CHARS = 50_000


class Outcome:
    """How a turn ended, by its `result` line.

    `stop_reason` is ready for session.status_idle. `is_error`: `error` says why the turn failed; an interrupt, a
    budget that is spent and a refusal are no failures. `cost_microusd`: what the process has cost up to here.
    """

    def __init__(self, line: dict[str, Any], text: str, cost: int) -> None:
        self.subtype = text_or_none(line, "subtype") or "unknown"
        self.text = text
        self.stop_reason = {"type": "end_turn"}
        self.stop_details: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.interrupted = False
        self.cost_microusd = cost
        self.num_turns = count_at(line, "num_turns")
        self.queued = count_at(line, "queued_turn_count")

    @property
    def is_error(self) -> bool:
        """The turn failed."""
        return self.error is not None

    def fail(self, error: dict[str, Any]) -> None:
        """The turn ended with this error."""
        self.error = error
        self.stop_reason = {"type": "retries_exhausted"}


def outcome_of(
    line: dict[str, Any], clean: Cleaner, cost: int, kind: str | None, refusal: dict[str, Any] | None
) -> Outcome:
    """The outcome that a `result` line tells, with the process's cost up to it.

    `kind`: the CLI's word for an API error it showed in this turn. `refusal`: the stop details of one.
    """
    outcome = Outcome(line, clean.text(text_or_none(line, "result") or "")[:RESULT_CHARS], cost)
    if outcome.subtype == "error_max_budget_usd" or line.get("terminal_reason") == "budget_exhausted":
        outcome.stop_reason = {"type": "budget_reached"}
    elif line.get("terminal_reason") in INTERRUPTED:
        outcome.interrupted = True
    elif line.get("stop_reason") == "refusal":
        outcome.stop_reason, outcome.stop_details = {"type": "refusal"}, refusal
    elif outcome.subtype != "success" or line.get("is_error") is True:
        outcome.fail(error_of(line, clean.text(error_text(line)), kind))
    return outcome


def error_of(line: dict[str, Any], text: str, kind: str | None) -> dict[str, Any]:
    """The error of a line that tells the end of a turn: a `result`, or an assistant's message in the API's place."""
    found, retryable = _classified(line, kind)
    error = error_data(found, text, "exhausted" if retryable else "terminal")
    error["retryable"] = retryable
    return error


def retry_error(line: dict[str, Any]) -> dict[str, Any]:
    """The error of an `api_retry` line: the CLI waits and tries again. The message is our own words."""
    kind = text_or_none(line, "error")
    found, _ = _classified({"api_error_status": line.get("error_status")}, kind)
    status, attempt = count_at(line, "error_status"), count_at(line, "attempt")
    of, delay = count_at(line, "max_retries"), count_at(line, "retry_delay_ms")
    cause = f"answered {status}" if status else "broke off or did not answer"
    message = f"The model's API {cause}; retry {attempt} of {of} in {delay / 1000:.1f} s."
    error = error_data(found, message, "retrying")
    error.update(retryable=True, attempt=attempt, max_retries=of, retry_delay_ms=delay)
    return error


def error_data(kind: str, message: str, retry_status: str) -> dict[str, Any]:
    """The `error` of a session.error event."""
    return {"type": kind, "message": message, "retry_status": {"type": retry_status}}


def error_text(line: dict[str, Any]) -> str:
    """What a `result` says went wrong, in the order the SDK looks for it; else its text."""
    errors = line.get("errors")
    told = "; ".join(one for one in errors if isinstance(one, str) and one) if isinstance(errors, list) else ""
    status = count_at(line, "api_error_status")
    fallback = f"The model's API answered {status}." if status else str(line.get("subtype") or "unknown error")
    return told or (text_or_none(line, "result") or "").strip() or fallback


def refusal_of(line: dict[str, Any], explanation: str | None) -> dict[str, Any]:
    """The stop details of a `model_refusal_no_fallback` line."""
    category = line.get("api_refusal_category")
    known = category if category in REFUSAL_CATEGORIES else None
    return {"type": "refusal", "category": known, "explanation": explanation}


def content_text(message: dict[str, Any]) -> str:
    """The text blocks of a message, joined. Raise Malformed when it has no content."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Malformed("content")
    texts = [text_or_none(block, "text") for block in content if isinstance(block, dict)]
    return "\n".join(text for text in texts if text)


def _classified(line: dict[str, Any], kind: str | None) -> tuple[str, bool]:
    status = count_at(line, "api_error_status")
    if status in STATUSES:
        return STATUSES[status]
    if line.get("startup_failure_reason"):
        return UNKNOWN, False
    for table, key in ((KINDS, kind), (REASONS, line.get("terminal_reason")), (SUBTYPES, line.get("subtype"))):
        if isinstance(key, str) and key in table:
            return table[key]
    return FAILED, not 400 <= status < 500

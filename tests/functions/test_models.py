"""A plan as it is submitted: how long it may last, what it may cost, what makes two of them the same."""

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from functions.models import RunRequest

PLAN: dict[str, Any] = {"commands": [{"command": "true", "timeout": 60}, {"command": "false", "timeout": 90}]}
CENT = {"type": "limit", "max_list_cost": {"amount": "1", "currency": "USD"}}


def plan(**changes: Any) -> RunRequest:
    """A plan of two commands."""
    return RunRequest.model_validate(PLAN | changes)


def test_a_length_that_is_named_stays() -> None:
    """Whether the owner may have it is admission's to say: it is refused or taken, never shortened."""
    assert plan(timeout=5000).limit_seconds(600) == 5000
    assert not plan(timeout=5000).is_cut


@pytest.mark.parametrize(("longest", "seconds"), [(3540, 180), (100, 100)])
def test_a_length_that_nobody_named_is_what_the_commands_may_take(longest: int, seconds: int) -> None:
    """And some time for the runner; cut to the deployment's default."""
    assert plan().limit_seconds(longest) == seconds
    assert plan().is_cut


def test_a_budget_is_in_cents() -> None:
    """The ledger counts in millionths of a dollar."""
    budget = plan(budget=CENT).budget
    assert budget is not None
    assert budget.microusd == 10_000


@pytest.mark.parametrize("amount", ["0", "-1", "0.5", "1e2", "", 1])
def test_a_budget_is_whole_cents_and_something(amount: object) -> None:
    """As a string of digits, as the Managed Agents API has it."""
    with pytest.raises(ValidationError):
        plan(budget={"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}})


def test_a_submit_is_the_same_as_before_there_were_budgets() -> None:
    """A key that was claimed by the release before must not be said to be another request's."""
    body = {
        "commands": [
            {"command": "true", "timeout": 60, "retryable": False},
            {"command": "false", "timeout": 90, "retryable": False},
        ],
        "session_id": None, "title": None, "metadata": {}, "egress": [], "timeout": None,
    }  # fmt: skip
    canonical = json.dumps(["POST /v1/runs", body], sort_keys=True, separators=(",", ":"))
    assert plan().hash == hashlib.sha256(canonical.encode()).hexdigest()


def test_another_budget_is_another_submit() -> None:
    """The same key with it is a conflict."""
    assert len({plan().hash, plan(budget=CENT).hash, plan(title="t").hash}) == 3

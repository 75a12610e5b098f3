"""What was spent, and what may be: the client at the wire, and how amounts look at a terminal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest
import typer
from rich.console import Console
from starlette.responses import JSONResponse

from sandstream import BudgetExceededError, Run, Sandstream, cli, cli_usage, shell
from sandstream.usage import AccountUsage, MonthUsage, dollars
from tests.client.fake_endpoints import FakeEndpoints, serving
from tests.client.test_client import RUN

USAGE: dict[str, Any] = {
    "type": "usage",
    "from": "2026-11-01",
    "to": "2026-11-21",
    "days": [
        {"day": "2026-11-20", "kind": "model", "model": "claude-sonnet-5", "amount_microusd": 1_234_567,
         "quantity": {"input_tokens": 1200, "output_tokens": 34, "cache_read_input_tokens": 0}},
        {"day": "2026-11-21", "kind": "sandbox", "model": None, "amount_microusd": 37,
         "quantity": {"milliseconds": 1500}},
    ],
    "month": {"month": "2026-11", "spent_microusd": 1_234_604, "reserved_microusd": 250_000,
              "limit_microusd": 25_000_000, "remainder_microusd": 23_515_396},
    "prices_as_of": "2026-11-20",
}  # fmt: skip


@pytest.fixture
async def endpoints() -> AsyncIterator[FakeEndpoints]:
    config = {"supabase_url": "http://127.0.0.1:9", "publishable_key": "sb_publishable_x"}
    async with serving(FakeEndpoints(config)) as scripted:
        yield scripted


def month(**changes: Any) -> MonthUsage:
    """A month as the endpoints tell it."""
    return MonthUsage.model_validate(USAGE["month"] | changes)


async def test_usage_is_asked_for_by_its_days(endpoints: FakeEndpoints) -> None:
    """Days that are not named are not sent: which month it is, is the database's to say."""
    endpoints.script(JSONResponse(USAGE))
    async with Sandstream(endpoints.url, "a-token") as client:
        spent = await client.usage()
        await client.usage(date(2026, 10, 1), date(2026, 10, 31))
    assert [(asked.method, asked.path, asked.query) for asked in endpoints.asked] == [
        ("GET", "/v1/usage", {}),
        ("GET", "/v1/usage", {"from": "2026-10-01", "to": "2026-10-31"}),
    ]
    assert (spent.first, spent.last, spent.days[0].amount_microusd) == (
        date(2026, 11, 1),
        date(2026, 11, 21),
        1_234_567,
    )
    assert spent.month.remainder_microusd == 23_515_396


async def test_a_plans_budget_is_sent_as_a_sessions(endpoints: FakeEndpoints) -> None:
    """In cents, in the form of the Managed Agents API."""
    endpoints.script(JSONResponse(RUN, 202))
    async with Sandstream(endpoints.url, "a-token") as client:
        await client.submit(["true"], budget_cents=50)
    assert endpoints.asked[0].body["budget"] == {"type": "limit", "max_list_cost": {"amount": "50", "currency": "USD"}}


async def test_what_is_left_comes_with_the_refusal(endpoints: FakeEndpoints) -> None:
    """402 is not repeated, and says in numbers what it would cost and what is left."""
    error = {"type": "budget_exceeded", "message": "too dear", "estimate_microusd": 381_000, "remainder_microusd": 5}
    endpoints.script(JSONResponse({"type": "error", "error": error, "request_id": "req_1"}, 402))
    async with Sandstream(endpoints.url, "a-token") as client:
        with pytest.raises(BudgetExceededError, match="too dear") as refused:
            await client.submit(["true"])
    assert (refused.value.estimate_microusd, refused.value.remainder_microusd) == (381_000, 5)
    assert len(endpoints.asked) == 1


@pytest.mark.parametrize(
    ("microusd", "shown"),
    [(0, "$0.0000"), (1, "$0.0001"), (100, "$0.0001"), (101, "$0.0002"), (1_234_567_890, "$1,234.5679")],
)
def test_what_was_spent_is_never_understated(microusd: int, shown: str) -> None:
    """Amounts are shown to the hundredth of a cent, rounded up."""
    assert dollars(microusd) == shown


def test_the_month_in_a_line() -> None:
    """Spent, reserved, left; what is left is rounded down."""
    line = cli_usage.month_line(month())
    assert line == "2026-11: $1.2347 spent, $0.2500 reserved; $23.5153 left of $25.0000"
    unlimited = month(reserved_microusd=0, limit_microusd=None, remainder_microusd=None)
    assert cli_usage.month_line(unlimited) == "2026-11: $1.2347 spent; no limit"


def test_usage_at_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for the month, a row for each day and kind, the prices' date."""
    monkeypatch.setattr(cli_usage, "out", Console(width=120, highlight=False))
    monkeypatch.setattr(shell, "out", Console(width=120, highlight=False))
    cli_usage.print_usage(AccountUsage.model_validate(USAGE))
    first, heading, model, sandbox, last = (line.split() for line in capsys.readouterr().out.splitlines())
    assert first[0] == "2026-11:"
    assert heading == ["day", "kind", "model", "amount", "quantity"]
    assert model[:4] == ["2026-11-20", "model", "claude-sonnet-5", "$1.2346"]
    assert " ".join(model[4:]) == "1,200 input tokens, 34 output tokens"
    assert sandbox == ["2026-11-21", "sandbox", "$0.0001", "1.5", "s"]
    assert last[-1] == "2026-11-20"


def test_days_that_cost_nothing_are_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In place of an empty table."""
    monkeypatch.setattr(cli_usage, "out", Console(width=120, highlight=False))
    cli_usage.print_usage(AccountUsage.model_validate(USAGE | {"days": [], "prices_as_of": None}))
    assert "nothing from 2026-11-01 to 2026-11-21" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "cents"), [("0.5", 50), ("$12", 1200), ("0.01", 1), ("1e1", 1000)])
def test_a_budget_is_given_in_dollars(given: str, cents: int) -> None:
    """As people write them."""
    assert shell.cents(given) == cents


@pytest.mark.parametrize("given", ["", "0", "-1", "0.001", "NaN", "Infinity", "much"])
def test_a_budget_that_is_none_is_said(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line; nothing is submitted."""
    with pytest.raises(typer.Exit) as ended:
        shell.cents(given)
    assert ended.value.exit_code == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": "succeeded", "result": {"completed": 1}}, 0),
        ({"status": "failed", "error": {"type": "command_failed"}}, 1),
        ({"status": "failed", "result": {"stop_reason": {"type": "budget_reached"}}}, 4),
        ({"status": "failed", "error": {"type": "budget_reached", "message": "spent"}}, 4),
        ({"status": "cancelled"}, 130),
        ({"status": "of_tomorrow"}, 1),
    ],
)
def test_how_a_run_ended_is_the_exit_code(changes: dict[str, Any], code: int) -> None:
    """A budget that is spent is told apart from a command that failed, as `chat` does it."""
    assert cli.exit_code(Run.model_validate(RUN | changes)) == code

"""What the endpoints tell the database of their limits, seen on Supabase's wire."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from postgrest.exceptions import APIError
from pydantic import ValidationError

from functions import prices
from functions.errors import ApiError, BudgetExceeded, InvalidRequest, RateLimited, StoreUnavailable, TooManySandboxes
from functions.limits import Limits, LimitsRequest, as_limits
from functions.rest import as_refusal
from functions.settings import Settings
from functions.store import Store

Answer = Callable[[httpx.Request], httpx.Response]
Open = Callable[[Answer], Limits]


@pytest.fixture
async def limits(settings: Settings) -> AsyncIterator[Open]:
    """Makes Limits whose Supabase answers as given."""
    clients: list[httpx.AsyncClient] = []

    def made(answer: Answer) -> Limits:
        clients.append(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
        return Limits(settings, Store(settings, clients[-1]))

    yield made
    for client in clients:
        await client.aclose()


async def test_the_settings_are_told_once_by_the_service(limits: Open, settings: Settings) -> None:
    """However many requests come at the same time: one call each, with the secret key, which no user has."""
    asked: list[tuple[str, dict[str, Any], str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        function = request.url.path.rpartition("/")[2]
        asked.append((function, json.loads(request.content), request.headers["authorization"]))
        return httpx.Response(204)

    told = limits(answer)
    await asyncio.gather(*(told.tell() for _ in range(20)))
    assert [(function, arguments) for function, arguments, _ in asked] == [
        ("set_prices_v1", {"prices": prices.deployed(settings)}),
        ("set_limits_v1", {
            "max_concurrent_sandboxes": 10, "max_sandbox_duration_ms": 3_600_000, "sandbox_margin_seconds": 60,
            "requests_per_minute": 120, "idle_sandbox_seconds": 300, "max_month_microusd": None,
        }),
    ]  # fmt: skip
    assert {bearer for *_, bearer in asked} == {f"Bearer {settings.supabase_secret_key.get_secret_value()}"}


async def test_what_could_not_be_told_is_told_again(limits: Open) -> None:
    """A request that comes while Supabase is away fails with it; the next one speaks."""
    away = httpx.Response(503, json={"code": "PGRST001", "message": "away"})
    answers = [httpx.Response(204), away, httpx.Response(204), httpx.Response(204)]
    told = limits(lambda _: answers.pop(0))
    with pytest.raises(StoreUnavailable):
        await told.tell()
    await told.tell()
    await told.tell()
    assert answers == []


def refusal(**answer: str) -> ApiError:
    """What becomes of an answer of PostgREST's."""
    return as_refusal(APIError({"details": None, "hint": None, **answer}))


def test_no_room_is_429_and_not_worth_a_repeat() -> None:
    """The sentence is the database's; the official SDK is told not to come again by itself."""
    error = refusal(code="PT429", message="too_many_sandboxes", details="at most 10 sandboxes may run at once")
    assert isinstance(error, TooManySandboxes)
    assert error.status == 429
    assert error.body("req")["error"] == {
        "type": "too_many_sandboxes",
        "message": "at most 10 sandboxes may run at once",
    }
    assert error.headers == {"x-should-retry": "false"}


def test_a_rate_is_429_with_the_time_to_come_again() -> None:
    """Retry-After for everyone, RateLimit headers for those who know them; a repeat is welcome then."""
    error = refusal(code="PT429", message="rate_limited", details="7", hint="120")
    assert isinstance(error, RateLimited)
    assert (error.status, error.body("req")["error"]["type"]) == (429, "rate_limited")
    assert error.headers == {
        "Retry-After": "7", "RateLimit-Limit": "120", "RateLimit-Remaining": "0", "RateLimit-Reset": "7",
    }  # fmt: skip


def test_a_spent_budget_is_402_with_what_is_left() -> None:
    """The amounts are for programs, the sentence for people; the official SDK is told not to come again by itself."""
    hint = json.dumps({"estimate_microusd": 382_100, "remainder_microusd": 1_000, "more": 1})
    error = refusal(code="PT402", message="budget_exceeded", details="too dear", hint=hint)
    assert isinstance(error, BudgetExceeded)
    assert error.status == 402
    assert error.body("req")["error"] == {
        "type": "budget_exceeded", "message": "too dear", "estimate_microusd": 382_100, "remainder_microusd": 1_000,
    }  # fmt: skip
    assert error.headers == {"x-should-retry": "false"}


def test_a_refused_field_is_named() -> None:
    """A hint of ours is the name of the field."""
    error = refusal(code="PT400", message="invalid_request_error", details="too long", hint="timeout")
    assert isinstance(error, InvalidRequest)
    assert error.body("req")["error"] == {
        "type": "invalid_request_error", "message": "too long", "param": "timeout",
    }  # fmt: skip


def test_the_databases_word_is_no_way_around_its_code() -> None:
    """Only what is refused as a rate is read as one."""
    assert isinstance(refusal(code="P0001", message="rate_limited"), StoreUnavailable)


def test_limits_on_the_wire() -> None:
    """The rates stand together; nothing that the database adds later goes out by itself."""
    row = {
        "max_concurrent_sandboxes": 10, "max_sandbox_duration_ms": 3_600_000, "max_run_seconds": 3540,
        "submits_per_minute": 1, "messages_per_minute": 2, "others_per_minute": 3, "live_sandboxes": 4,
        "max_month_microusd": 6, "more": 5,
    }  # fmt: skip
    assert as_limits(row).model_dump() == {
        "type": "limits",
        "max_concurrent_sandboxes": 10,
        "live_sandboxes": 4,
        "max_sandbox_duration_ms": 3_600_000,
        "max_run_seconds": 3540,
        "requests_per_minute": {"submit": 1, "message": 2, "other": 3},
        "max_month_microusd": 6,
    }


def test_an_operator_says_all_exceptions_at_once() -> None:
    """What is left out or null goes to the database as null: as the deployment."""
    id = "8a3c1c1e-0000-4000-8000-000000000001"
    body = {"owner": id, "max_month_microusd": 0, "requests_per_minute": {"message": 7, "other": None}}
    assert LimitsRequest.model_validate(body).arguments() == {
        "owner": id, "max_concurrent_sandboxes": None, "max_sandbox_duration_ms": None, "max_month_microusd": 0,
        "submits_per_minute": None, "messages_per_minute": 7, "others_per_minute": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"owner": "nobody"},
        {"max_month_microusd": -1},
        {"max_month_microusd": "5"},
        {"max_sandbox_duration_ms": 1},
        {"requests_per_minute": 5},
        {"requests_per_minute": {"submit": 0}},
        {"max_month": 1},
    ],
)
def test_exceptions_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    """Before the database is asked, and with the field's name."""
    body = {"owner": "8a3c1c1e-0000-4000-8000-000000000001", **wrong}
    with pytest.raises(ValidationError) as refused:
        LimitsRequest.model_validate(body)
    assert refused.value.errors()[0]["loc"][0] in wrong

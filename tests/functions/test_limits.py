"""What the endpoints tell the database of their limits, seen on Supabase's wire."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from functions.errors import StoreUnavailable
from functions.limits import Limits
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
    """However many requests come at the same time: one call, with the secret key, which no user has."""
    asked: list[tuple[str, dict[str, Any], str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        function = request.url.path.rpartition("/")[2]
        asked.append((function, json.loads(request.content), request.headers["authorization"]))
        return httpx.Response(204)

    told = limits(answer)
    await asyncio.gather(*(told.tell() for _ in range(20)))
    ((function, arguments, authorization),) = asked
    assert function == "set_limits_v1"
    assert arguments == {
        "max_concurrent_sandboxes": 10, "max_sandbox_duration_ms": 3_600_000, "sandbox_margin_seconds": 60,
        "requests_per_minute": 120,
    }  # fmt: skip
    assert authorization == f"Bearer {settings.supabase_secret_key.get_secret_value()}"


async def test_what_could_not_be_told_is_told_again(limits: Open) -> None:
    """A request that comes while Supabase is away fails with it; the next one speaks."""
    answers = [httpx.Response(503, json={"code": "PGRST001", "message": "away"}), httpx.Response(204)]
    told = limits(lambda _: answers.pop(0))
    with pytest.raises(StoreUnavailable):
        await told.tell()
    await told.tell()
    await told.tell()
    assert answers == []

"""Limits over HTTP: what is refused and how, what it says, and what the caller may ask of them."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import RateLimitError

from functions.limits import deployed
from local.stack import Stack
from sandstream.client import Sandstream
from sandstream.errors import RefusedError
from tests.conftest import Person
from tests.e2e import official
from tests.e2e.faults import endpoints
from tests.e2e.official import sdk
from tests.e2e.operating import allow, operator, put
from tests.e2e.sweeping import settings

Json = dict[str, Any]
SLOW = {"commands": [{"command": "sleep 300"}]}
HELLO: Any = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}


async def limits(owner: Person) -> Json:
    """What GET /v1/limits answers."""
    async with owner.endpoints() as http:
        answer = await http.get("/v1/limits")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def test_what_holds_for_the_caller(owner: Person, stranger: Person) -> None:
    """The deployment's settings for everyone, exceptions for whom they are made."""
    usual = {
        "type": "limits",
        "max_concurrent_sandboxes": 10,
        "live_sandboxes": 0,
        "max_sandbox_duration_ms": 3_600_000,
        "max_run_seconds": 3540,
        "requests_per_minute": {"submit": 120, "message": 120, "other": 120},
        "max_month_microusd": None,
    }
    await allow(owner, max_concurrent_sandboxes=2, max_sandbox_duration_ms=600_000, requests_per_minute={"message": 7})
    assert await limits(stranger) == usual
    assert await limits(owner) == {
        **usual,
        "max_concurrent_sandboxes": 2,
        "max_sandbox_duration_ms": 600_000,
        "max_run_seconds": 540,
        "requests_per_minute": {"submit": 120, "message": 7, "other": 120},
    }


async def test_new_settings_hold_from_the_first_request_on(
    stack: Stack, owner: Person, service: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Endpoints that come up with other settings tell the database before it admits anything for them."""
    try:
        changes = {
            "MAX_CONCURRENT_SANDBOXES": "0", "RATE_LIMIT_PER_MINUTE": "9", "MAX_MONTHLY_COST_PER_USER": "12.50",
        }  # fmt: skip
        async with endpoints(stack, owner, tmp_path, **changes) as http:
            assert official.plain(await http.post("/v1/runs", json=SLOW), 429)["type"] == "too_many_sandboxes"
            held = (await http.get("/v1/limits")).json()
    finally:
        # The other tests' endpoints have told theirs, and do not tell them again.
        (await service.post("/rpc/set_limits_v1", json=deployed(settings(stack)))).raise_for_status()
    assert (held["max_concurrent_sandboxes"], set(held["requests_per_minute"].values())) == (0, {9})
    assert held["max_month_microusd"] == 12_500_000


async def test_one_sandbox_too_many(owner: Person, client: Sandstream) -> None:
    """429 too_many_sandboxes without a place to wait for; the run that is live goes on, and its end makes room."""
    await allow(owner, max_concurrent_sandboxes=1)
    async with owner.endpoints() as http:
        first = await http.post("/v1/runs", json=SLOW, headers={"Idempotency-Key": "first"})
        assert first.status_code == 202, first.text
        refused = await http.post("/v1/runs", json=SLOW)
        told = official.plain(refused, 429)
        assert told == {"type": "too_many_sandboxes", "message": "at most 1 sandboxes may run at once"}
        assert refused.headers["x-should-retry"] == "false"
        assert "retry-after" not in refused.headers
        again = await http.post("/v1/runs", json=SLOW, headers={"Idempotency-Key": "first"})
        assert again.json() == first.json()
        assert (await limits(owner))["live_sandboxes"] == 1
        await client.cancel(first.json()["id"])
        await client.result(first.json()["id"])
        assert (await limits(owner))["live_sandboxes"] == 0
        assert (await http.post("/v1/runs", json={"commands": [{"command": "true"}]})).status_code == 202


async def test_our_client_does_not_wait_for_room(owner: Person, client: Sandstream) -> None:
    """It raises what it was told, at once: nobody knows when a run ends."""
    await allow(owner, max_concurrent_sandboxes=0)
    with pytest.raises(RefusedError) as refused:
        await client.submit(["true"])
    assert (refused.value.status, refused.value.type) == (429, "too_many_sandboxes")


async def test_a_message_without_room_is_not_said(owner: Person) -> None:
    """The official SDK gets its own RateLimitError, and the session's log stays empty."""
    await allow(owner, max_concurrent_sandboxes=0)
    async with sdk(owner) as client, owner.endpoints() as http:
        session = await client.beta.sessions.create(agent="default", environment_id="default")
        with pytest.raises(RateLimitError) as refused:
            await client.beta.sessions.events.send(session.id, events=[HELLO])
        assert official.error(refused.value)["type"] == "too_many_sandboxes"
        assert (await http.get(f"/v1/sessions/{session.id}/events")).json()["data"] == []


async def test_too_many_requests(owner: Person) -> None:
    """429 rate_limited says when to come again, in the headers that clients know; other kinds of requests go on."""
    await allow(owner, requests_per_minute={"other": 1})
    async with owner.endpoints() as http:
        assert (await http.post("/v1/agents", json={"name": "a", "model": "claude-sonnet-5"})).status_code == 200
        refused = await http.post("/v1/agents", json={"name": "b", "model": "claude-sonnet-5"})
        told = official.plain(refused, 429)
        assert told == {"type": "rate_limited", "message": "at most 1 requests of this kind a minute"}
        seconds = refused.headers["retry-after"]
        assert 1 <= int(seconds) <= 60
        assert {name: value for name, value in refused.headers.items() if name.startswith("ratelimit-")} == {
            "ratelimit-limit": "1", "ratelimit-remaining": "0", "ratelimit-reset": seconds,
        }  # fmt: skip
        assert "x-should-retry" not in refused.headers
        assert (await http.get("/v1/agents")).status_code == 200
        assert (await http.post("/v1/sessions", json={"agent": "default", "environment_id": "default"})).is_success


async def test_a_flood_leaves_what_may_be(owner: Person) -> None:
    """Thirty submits at once against room for two: two runs, and 28 answers that say why not."""
    await allow(owner, max_concurrent_sandboxes=2)
    async with owner.endpoints() as http:
        answers = await asyncio.gather(*(http.post("/v1/runs", json=SLOW) for _ in range(30)))
        assert Counter(answer.status_code for answer in answers) == {202: 2, 429: 28}
        assert (await limits(owner))["live_sandboxes"] == 2
        for answer in answers:
            if answer.status_code == 202:
                await http.post(f"/v1/runs/{answer.json()['id']}/cancel")


async def test_a_run_longer_than_the_owners_may_be(owner: Person, client: Sandstream) -> None:
    """400 with the field's name, as where the deployment's own limit is passed; a plan without one is cut."""
    await allow(owner, max_sandbox_duration_ms=600_000)
    async with owner.endpoints() as http:
        refused = await http.post("/v1/runs", json={"commands": [{"command": "true"}], "timeout": 541})
        assert official.plain(refused, 400) == {
            "type": "invalid_request_error", "message": "a run may last 540 seconds here", "param": "timeout",
        }  # fmt: skip
        cut = await http.post("/v1/runs", json={"commands": [{"command": "true", "timeout": 3000}]})
        assert (cut.status_code, cut.json()["limit_seconds"]) == (202, 540)
        await client.result(cut.json()["id"])


async def test_an_operator_says_what_others_may(stack: Stack, owner: Person) -> None:
    """The answer is what holds now, which is what the owner reads; the next word of an operator replaces the last."""
    person = await operator(stack)
    first = await put(person, owner, max_concurrent_sandboxes=3, max_month_microusd=5_000_000)
    assert first.status_code == 200, first.text
    assert first.json() == {**await limits(owner), "owner": str(owner.id)}
    assert (first.json()["max_concurrent_sandboxes"], first.json()["max_month_microusd"]) == (3, 5_000_000)
    second = (await put(person, owner, max_month_microusd=None, requests_per_minute={"submit": 5})).json()
    assert (second["max_concurrent_sandboxes"], second["max_month_microusd"]) == (10, None)
    assert second["requests_per_minute"] == {"submit": 5, "message": 120, "other": 120}
    assert (await limits(person))["requests_per_minute"]["submit"] == 120


async def test_nobody_else_says_what_anyone_may(stack: Stack, owner: Person, stranger: Person) -> None:
    """Not about others, not about oneself, and not by what a user may write about themselves."""
    claimed = {"data": {"sandstream_role": "admin"}, "app_metadata": {"sandstream_role": "admin"}}
    headers = {**owner.headers, "apikey": stack.keys.publishable_key}
    async with httpx.AsyncClient(timeout=60) as http:
        await http.put(f"{stack.supabase.url}/auth/v1/user", json=claimed, headers=headers)
    for about in (owner, stranger):
        refused = await put(owner, about, max_month_microusd=None, max_concurrent_sandboxes=1000)
        assert official.plain(refused, 403)["type"] == "not_an_operator"
        assert (await limits(about))["max_concurrent_sandboxes"] == 10


async def test_an_operators_key_may_with_the_scope_for_it(stack: Stack, owner: Person) -> None:
    """What an operator hands to a program is an operator only as far as its scopes go."""
    person = await operator(stack)
    refused = await put(await person.behind_key("run", "read"), owner, max_concurrent_sandboxes=1)
    assert official.plain(refused, 403)["type"] == "scope_missing"
    allowed = await put(await person.behind_key("admin"), owner, max_concurrent_sandboxes=1)
    assert (allowed.status_code, allowed.json()["max_concurrent_sandboxes"]) == (200, 1)


async def test_limits_of_nobody_and_limits_that_are_none(stack: Stack, owner: Person) -> None:
    """404 for an owner who is not there; 400 names the field that is wrong."""
    person = await operator(stack)
    async with person.endpoints() as http:
        gone = await http.put("/v1/limits", json={"owner": "00000000-0000-4000-8000-000000000000"})
        assert official.plain(gone, 404)["type"] == "owner_not_found"
        assert official.plain(await http.put("/v1/limits", json={}), 400)["param"] == "owner"
    wrong = await put(person, owner, requests_per_minute={"submit": 0})
    assert official.plain(wrong, 400)["param"] == "requests_per_minute.submit"

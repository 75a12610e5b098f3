"""The run token on Supabase's own wire: what it opens, and everything that it and its imitations do not."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from functions.identity import RunGrant
from local.stack import Stack
from tests.conftest import Person
from tests.tokens import hmac_signed, unsigned

EVENT = {"n": 1, "type": "run.started", "data": {}, "at": "2026-01-01T00:00:00Z"}


class Runner:
    """A run admitted by its owner, and tokens for it, good and bad."""

    def __init__(self, stack: Stack, run: dict[str, Any], http: httpx.AsyncClient) -> None:
        self.run = run
        self._stack = stack
        self._http = http

    def claims(self, **changes: Any) -> dict[str, Any]:
        run = {"run_id": self.run["id"], "session_id": self.run["session_id"], "epoch": self.run["epoch"]}
        return {"role": "runner", "aud": "runner", "exp": int(time.time()) + 60, **run, **changes}

    def token(self, **changes: Any) -> str:
        """Signed by the deployment's own key."""
        key = jwt.PyJWK(json.loads(self._stack.keys.signing_key), "ES256")
        return jwt.encode(self.claims(**changes), key.key, "ES256", headers={"kid": key.key_id})

    async def call(self, function: str, token: str, **arguments: Any) -> httpx.Response:
        headers = {"apikey": self._stack.keys.publishable_key, "Authorization": f"Bearer {token}"}
        return await self._http.post(f"/rpc/{function}", json=arguments, headers=headers)

    async def append(self, token: str, *events: dict[str, Any]) -> httpx.Response:
        return await self.call("append_events_v1", token, events=list(events or (EVENT,)))


@pytest.fixture
async def runner(stack: Stack, owner: Person) -> AsyncIterator[Runner]:
    """A run that nobody drives but this test."""
    async with owner.tables() as http:
        admitted = await http.post(
            "/rpc/admit_run_v1",
            json={"kind": "commands", "input": {}, "limit_seconds": 600, "request_hash": "0" * 64},
        )
        assert admitted.status_code == 200, admitted.text
    async with httpx.AsyncClient(base_url=f"{stack.supabase.url}/rest/v1", timeout=60) as bare:
        yield Runner(stack, admitted.json()["run"], bare)


async def test_a_good_token_appends_and_finishes(runner: Runner) -> None:
    """The three functions, and their answers."""
    token = runner.token()
    appended = await runner.append(token)
    standing = {"status": "running", "last_n": 1, "last_seq": 2, "input_seq": 0}
    assert appended.json() == {**standing, "cancel_requested": False, "budget_reached": None}
    assert (await runner.call("heartbeat_v1", token)).json() == appended.json()
    missing = await runner.call("finish_run_v1", token, status="succeeded", last_n=2)
    assert (missing.status_code, missing.json()["message"]) == (409, "events_missing")
    finished = await runner.call("finish_run_v1", token, status="succeeded", last_n=1, result={})
    assert (finished.json()["status"], finished.json()["last_seq"]) == ("succeeded", 4)


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"epoch": 0}, 403, "stale_epoch"),
        ({"epoch": 2}, 403, "stale_epoch"),
        ({"run_id": str(uuid4())}, 403, "not_a_run_token"),
        ({"session_id": str(uuid4())}, 403, "not_a_run_token"),
        ({"aud": "authenticated"}, 403, "not_a_run_token"),
        ({"aud": None}, 403, "not_a_run_token"),
        ({"exp": int(time.time()) - 60}, 401, None),
    ],
)
async def test_a_token_that_does_not_fit_is_refused(
    changes: dict[str, Any], status: int, word: str | None, runner: Runner
) -> None:
    """Signed by us, but for another epoch, run, session or audience, or expired: nothing is written."""
    answer = await runner.append(runner.token(**changes))
    assert answer.status_code == status, answer.text
    if word is not None:
        assert answer.json()["message"] == word
    assert (await runner.call("heartbeat_v1", runner.token())).json()["last_n"] == 0


async def test_an_imitation_is_refused(stack: Stack, runner: Runner) -> None:
    """Unsigned, signed by a stranger's key, or with the public key as an HMAC secret: 401."""
    claims = runner.claims()
    jwk = json.loads(stack.keys.signing_key)
    public = json.dumps({name: value for name, value in jwk.items() if name != "d"})
    imitations = [
        unsigned(claims),
        hmac_signed(claims, b"a-strangers-secret", jwk["kid"]),
        hmac_signed(claims, public.encode(), jwk["kid"]),
        "not.a.jwt",
    ]
    for token in imitations:
        assert (await runner.append(token)).status_code == 401


async def test_a_users_token_is_no_runners(owner: Person, runner: Runner) -> None:
    """The owner cannot write their own log, nor finish their own run."""
    assert (await runner.append(owner.token)).status_code == 403
    finish = await runner.call("finish_run_v1", owner.token, status="succeeded", last_n=0)
    assert finish.status_code == 403


async def test_a_runners_token_is_no_users(stack: Stack, runner: Runner) -> None:
    """It reads no table, admits no run, and is nobody to the endpoints."""
    token = runner.token()
    headers = {"Authorization": f"Bearer {token}", "apikey": stack.keys.publishable_key}
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        for table in ("agent_sessions", "agent_runs", "agent_events", "sandbox_executions", "idempotency_keys"):
            answer = await http.get(f"{stack.supabase.url}/rest/v1/{table}")
            assert answer.status_code in (401, 403, 404), (table, answer.text)
        admit = {"kind": "commands", "input": {}, "limit_seconds": 60, "request_hash": "0" * 64}
        assert (await http.post(f"{stack.supabase.url}/rest/v1/rpc/admit_run_v1", json=admit)).status_code == 403
        assert (await http.get(f"{stack.api.url}/v1/runs/{runner.run['id']}")).status_code == 401
        assert (await http.post(f"{stack.api.url}/v1/runs", json={"commands": []})).status_code == 401


async def test_the_older_epoch_can_no_longer_write(runner: Runner, service: httpx.AsyncClient) -> None:
    """Once a run has a new runner, the old one's batches are refused, and the new one's are taken."""
    old = runner.token()
    await runner.append(old)
    raised = await service.post("/rpc/next_epoch_v1", json={"run_id": runner.run["id"]})
    assert raised.json() == 2
    second = {**EVENT, "n": 2}
    refused = await runner.append(old, second)
    assert (refused.status_code, refused.json()["message"]) == (403, "stale_epoch")
    assert (await runner.append(runner.token(epoch=2), second)).json()["last_n"] == 2


async def test_a_finished_run_takes_nothing_more(runner: Runner) -> None:
    """A repeat of what it has is answered; anything new is refused."""
    token = runner.token()
    await runner.append(token)
    await runner.call("finish_run_v1", token, status="failed", last_n=1, error={"type": "x"})
    assert (await runner.append(token)).json()["status"] == "failed"
    late = await runner.append(token, {**EVENT, "n": 2})
    assert (late.status_code, late.json()["message"]) == (409, "run_finished")


async def test_ended_is_for_the_run_of_the_token(stack: Stack, runner: Runner, owner: Person) -> None:
    """`/ended` refuses a living run, another run's token and a user's; it needs no more than the run token."""
    from functions.identity import RunTokens
    from functions.settings import Settings

    settings = Settings.model_validate(
        {
            "sandstream_url": stack.api.url,
            "supabase_url": stack.supabase.url,
            "supabase_publishable_key": stack.keys.publishable_key,
            "supabase_secret_key": stack.keys.secret_key,
            "run_token_key": stack.keys.signing_key,
            "e2b_api_key": stack.keys.e2b_api_key,
        }
    )
    tokens = RunTokens(settings)
    run = runner.run
    mine = tokens.mint(RunGrant(run["id"], run["session_id"], 1), 60)
    others = tokens.mint(RunGrant(uuid4(), uuid4(), 1), 60)
    async with httpx.AsyncClient(base_url=stack.api.url, timeout=60) as http:

        async def ended(token: str) -> httpx.Response:
            return await http.post(f"/v1/runs/{run['id']}/ended", headers={"Authorization": f"Bearer {token}"})

        assert (await ended(owner.token)).status_code == 401
        assert (await ended(others)).json()["error"]["type"] == "other_run"
        assert (await ended(mine)).json()["error"]["type"] == "run_not_finished"
        await runner.append(runner.token())
        await runner.call("finish_run_v1", runner.token(), status="succeeded", last_n=1)
        assert (await ended(mine)).status_code == 200

"""E2B's lifecycle webhook: believed when it is signed, once, and acted on at once."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import WEBHOOK_SECRET, Person
from tests.e2e.faults import endpoints
from tests.e2e.sandboxes import row, sandbox_of, until
from tests.e2e.sweeping import executions, types_of
from tests.e2e.test_refusals import assert_refused

PATH = "/v1/hooks/e2b"


def delivery(sandbox_id: str, **changes: Any) -> bytes:
    """The body of a kill's delivery, as E2B has it now."""
    told = {"id": f"evt-{uuid4()}", "version": "v2", "type": "sandbox.lifecycle.killed", "sandbox_id": sandbox_id}
    return json.dumps({**told, **changes}).encode()


def signed(body: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    """The headers that E2B sends with it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(secret.encode() + body).digest())
    return {"e2b-signature": digest.decode().rstrip("="), "content-type": "application/json"}


async def deliver(stack: Stack, body: bytes, **headers: str) -> httpx.Response:
    """E2B's request: no user's token, only the signature."""
    async with httpx.AsyncClient(base_url=stack.api.url, timeout=60) as http:
        return await http.post(PATH, content=body, headers={**signed(body), **headers})


async def running(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> tuple[UUID, str]:
    """A plan at work: its run's id and its sandbox's."""
    run = await client.submit(["sleep 100000"])

    async def has_begun() -> bool | None:
        return (await row(service, run.id))["status"] == "running" or None

    await until(has_begun, "the run to begin")
    return run.id, (await sandbox_of(stack, service, run.id)).sandbox_id


async def status(service: httpx.AsyncClient, run_id: UUID) -> str:
    """The run's status."""
    return str((await row(service, run_id))["status"])


@pytest.mark.parametrize("name", ["sandbox_id", "sandboxId"])
async def test_a_killed_sandbox_is_looked_at_now(
    stack: Stack, client: Sandstream, service: httpx.AsyncClient, name: str
) -> None:
    """Its run is lost long before it would have been called silent, whichever generation told it."""
    run_id, sandbox_id = await running(stack, client, service)
    await (await sandbox_of(stack, service, run_id)).kill()
    body = json.dumps({"id": f"evt-{uuid4()}", "type": "sandbox.lifecycle.killed", name: sandbox_id}).encode()
    answer = await deliver(stack, body)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})

    async def is_lost() -> bool | None:
        return await status(service, run_id) == "lost" or None

    await until(is_lost, "the run to be lost")
    session_id = str((await row(service, run_id))["session_id"])
    assert types_of(stack, session_id)[-2:] == ["run.lost", "session.status_idle"]

    async def is_closed() -> bool | None:
        return executions(stack, run_id) == [(sandbox_id, "vanished")] or None

    await until(is_closed, "the sandbox's row to be closed")


async def test_e2b_is_asked_before_it_is_believed(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """A delivery that is wrong, or late, changes nothing for a run whose sandbox and runner live."""
    run_id, sandbox_id = await running(stack, client, service)
    assert (await deliver(stack, delivery(sandbox_id))).json() == {"status": "accepted"}
    told = await row(service, run_id)
    assert (told["status"], told["epoch"]) == ("running", 1)
    await client.cancel(run_id)
    assert (await client.result(run_id)).status == "cancelled"


async def test_a_replay_is_ignored(stack: Stack) -> None:
    """The same event again, delivered anew or copied by somebody: answered, and nothing is done."""
    body = delivery("sbx-of-nobody")
    assert (await deliver(stack, body)).json() == {"status": "accepted"}
    for _ in range(2):
        answer = await deliver(stack, body)
        assert (answer.status_code, answer.json()) == (202, {"status": "ignored"})


async def test_other_events_are_only_answered(stack: Stack) -> None:
    """What says nothing about a run is taken, so that E2B does not repeat it."""
    for kind in ("created", "updated", "resumed"):
        body = delivery("sbx", type=f"sandbox.lifecycle.{kind}")
        assert (await deliver(stack, body)).json() == {"status": "ignored"}


async def test_a_wrong_signature_is_401(stack: Stack) -> None:
    """None, another secret's, or that of another body; a signed-in user's token does not help."""
    body = delivery("sbx")
    for headers in ({"e2b-signature": ""}, signed(body, "another"), signed(body + b" ")):
        assert_refused(await deliver(stack, body, **headers), 401, "authentication_error")


async def test_a_signed_body_that_is_none_is_400(stack: Stack) -> None:
    """E2B would have to have changed its payload: the answer says what is missing."""
    assert_refused(await deliver(stack, b'{"id": "x", "type": "y"}'), 400, "invalid_request_error")


async def test_without_the_secret_there_is_no_such_path(stack: Stack, owner: Person, tmp_path: Path) -> None:
    """A deployment that has not set it up answers as to any unknown path."""
    body = delivery("sbx")
    async with endpoints(stack, owner, tmp_path, E2B_WEBHOOK_SECRET="") as http:
        assert_refused(await http.post(PATH, content=body, headers=signed(body)), 404, "not_found_error")

"""One launch for one request, however often it is sent."""

import asyncio
from uuid import uuid4

import httpx

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.sandboxes import row, until
from tests.e2e.test_refusals import assert_refused

PLAN = {"commands": [{"command": "sleep 1; echo once"}]}


async def test_fifty_identical_posts_are_one_run(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """50 at once with one key: one run, one sandbox, and fifty equal answers."""
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    async with owner.endpoints() as http:
        answers = await asyncio.gather(*(http.post("/v1/runs", json=PLAN, headers=headers) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.text for answer in answers}) == 1
        run = answers[0].json()
        runs = (await service.get("/agent_runs", params={"owner": f"eq.{owner.id}"})).json()
        assert [found["id"] for found in runs] == [run["id"]]
        sandboxes = (await service.get("/sandbox_executions", params={"owner": f"eq.{owner.id}"})).json()
        assert len(sandboxes) == 1
        events = [event async for event in client.watch(run["session_id"])]
        assert [event.type for event in events].count("run.created") == 1
        later = await http.post("/v1/runs", json=PLAN, headers=headers)
    assert later.text == answers[0].text


async def test_the_same_key_with_another_body_is_409(owner: Person) -> None:
    """A key stands for one request; white space and the order of keys do not make another one."""
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    async with owner.endpoints() as http:
        first = await http.post("/v1/runs", json={"commands": [{"command": "true", "timeout": 5}]}, headers=headers)
        assert first.status_code == 202
        content = b'{ "commands" : [ {"timeout":5, "command":"true"} ] }'
        typed = {**headers, "content-type": "application/json"}
        same = await http.post("/v1/runs", content=content, headers=typed)
        assert same.json()["id"] == first.json()["id"]
        other = await http.post("/v1/runs", json={"commands": [{"command": "false"}]}, headers=headers)
        assert_refused(other, 409, "idempotency_key_reused")
        as_cancel = await http.post(f"/v1/runs/{first.json()['id']}/cancel", headers=headers)
        assert_refused(as_cancel, 409, "idempotency_key_reused")


async def test_a_key_is_its_owners_alone(owner: Person, stranger: Person) -> None:
    """Two tenants may use the same key for different things."""
    headers = {"Idempotency-Key": "first"}
    async with owner.endpoints() as http:
        mine = await http.post("/v1/runs", json=PLAN, headers=headers)
    async with stranger.endpoints() as http:
        theirs = await http.post("/v1/runs", json={"commands": [{"command": "echo other"}]}, headers=headers)
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["id"] != theirs.json()["id"]


async def test_a_cancel_may_be_repeated(owner: Person, client: Sandstream, service: httpx.AsyncClient) -> None:
    """The same cancel, sent again after the run has ended, answers as it did; a new one is told that it came late."""
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    run = await client.submit(["sleep 60"])

    async def running() -> bool | None:
        return (await row(service, run.id))["status"] == "running" or None

    await until(running, "the run to start")
    async with owner.endpoints() as http:
        first = await http.post(f"/v1/runs/{run.id}/cancel", headers=headers)
        assert first.status_code == 202
        assert [event.type async for event in client.watch(run.session_id)].count("run.cancel_requested") == 1
        repeated = await http.post(f"/v1/runs/{run.id}/cancel", headers=headers)
        assert repeated.status_code == 202
        assert repeated.json()["status"] == "cancelled"
        late = await http.post(f"/v1/runs/{run.id}/cancel", headers={"Idempotency-Key": f"key-{uuid4()}"})
        assert_refused(late, 409, "run_finished")

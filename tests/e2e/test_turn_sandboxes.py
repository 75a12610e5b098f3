"""Where turns run: the session's own sandbox, at rest between them, woken or replaced for the next, gone in the end."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from e2b import AsyncSandbox

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.acting import acting
from tests.e2e.conversing import begin, converse, of, official, said, script, texts, turn
from tests.e2e.sandboxes import connect, is_gone, until

IDLE_SECONDS = 300
Json = dict[str, Any]


@pytest.fixture
async def sdk(owner: Person) -> AsyncIterator[AsyncAnthropic]:
    """The owner, with the official SDK."""
    async with official(owner) as client:
        yield client


class Records:
    """What the control plane knows of one session."""

    def __init__(self, stack: Stack, service: httpx.AsyncClient, session_id: str) -> None:
        self._stack = stack
        self._service = service
        self._query = {"session_id": f"eq.{session_id}"}

    async def sandboxes(self) -> list[Json]:
        """Its sandboxes, the oldest first."""
        rows: list[Json] = (await self._service.get("/sandbox_executions", params=self._query)).json()
        return sorted(rows, key=lambda row: str(row["started_at"]))

    async def runs(self) -> list[Json]:
        """Its runs, the oldest first."""
        rows: list[Json] = (await self._service.get("/agent_runs", params=self._query)).json()
        return sorted(rows, key=lambda row: str(row["created_at"]))

    async def at_rest(self) -> str | None:
        """The open sandbox, once it waits to be paused."""
        (row,) = [row for row in await self.sandboxes() if row["ended_at"] is None]
        info = await AsyncSandbox.get_info(
            row["sandbox_id"], api_key=self._stack.keys.e2b_api_key, api_url=self._stack.e2b.url
        )
        left = (info.end_at - datetime.now(UTC)).total_seconds()
        return str(row["sandbox_id"]) if 0 < left <= IDLE_SECONDS else None


@pytest.fixture
def records(stack: Stack, service: httpx.AsyncClient) -> Any:
    """Makes records of a session."""
    return lambda session_id: Records(stack, service, session_id)


async def detail(stack: Stack, sandbox_id: str) -> Json:
    """E2B's own view of a sandbox."""
    headers = {"X-API-KEY": stack.keys.e2b_api_key}
    async with httpx.AsyncClient(base_url=stack.e2b.url, headers=headers) as http:
        found: Json = (await http.get(f"/sandboxes/{sandbox_id}")).json()
        return found


async def job_of(stack: Stack, run: Json) -> Json:
    """The job file that a run was given."""
    sandbox = await connect(stack, run["sandbox_id"])
    content: Json = json.loads(await sandbox.files.read(f"/home/user/.sandstream/{run['id']}/job.json"))
    return content


async def test_turns_share_one_sandbox_that_rests_between_them(stack: Stack, sdk: AsyncAnthropic, records: Any) -> None:
    """After a turn it has five minutes, then E2B pauses it; the next turn takes it for as long as it needs."""
    session_id = await begin(sdk, script(stack, said("One.")))
    await turn(sdk, session_id)
    known = records(session_id)
    sandbox_id = await until(known.at_rest, "the sandbox to wait for its pause")
    assert (await detail(stack, sandbox_id))["lifecycle"]["onTimeout"] == "pause"
    events = await converse(sdk, session_id, script(stack, said("Two.")))
    assert texts(events) == ["Two."]
    assert [row["sandbox_id"] for row in await known.sandboxes()] == [sandbox_id]
    assert {run["sandbox_id"] for run in await known.runs()} == {sandbox_id}
    assert [(await job_of(stack, run))["input"]["fresh"] for run in await known.runs()] == [False, False]


async def test_a_paused_sandbox_is_woken(stack: Stack, sdk: AsyncAnthropic, records: Any) -> None:
    """The message finds it as it was left."""
    session_id = await begin(sdk, script(stack, said("One.")))
    await turn(sdk, session_id)
    known = records(session_id)
    sandbox_id = await until(known.at_rest, "the sandbox to wait for its pause")
    await (await connect(stack, sandbox_id)).files.write("workspace/note.txt", "still here")
    await AsyncSandbox.pause(sandbox_id, api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url)
    assert texts(await converse(sdk, session_id, script(stack, said("Two.")))) == ["Two."]
    assert [row["sandbox_id"] for row in await known.sandboxes()] == [sandbox_id]
    assert await (await connect(stack, sandbox_id)).files.read("workspace/note.txt") == "still here"


async def test_a_sandbox_that_is_gone_is_replaced(stack: Stack, sdk: AsyncAnthropic, records: Any) -> None:
    """The turn runs in another one, which is told that it is; the old one's row is closed as vanished."""
    session_id = await begin(sdk, script(stack, said("One.")))
    await turn(sdk, session_id)
    known = records(session_id)
    gone = await until(known.at_rest, "the sandbox to wait for its pause")
    await (await connect(stack, gone)).kill()
    assert texts(await converse(sdk, session_id, script(stack, said("Two.")))) == ["Two."]
    before, after = await known.sandboxes()
    assert (before["sandbox_id"], before["end_reason"]) == (gone, "vanished")
    assert (after["ended_at"], after["sandbox_id"] != gone) == (None, True)
    job = await job_of(stack, (await known.runs())[-1])
    assert (job["input"]["fresh"], job["input"]["resume"]) == (True, True)


async def test_each_turn_brings_its_own_credentials(stack: Stack, sdk: AsyncAnthropic, records: Any) -> None:
    """What is added to the sandbox's requests is the newest run's token, and the model key; neither is inside."""
    session_id = await begin(sdk, script(stack, said("One.")))
    await turn(sdk, session_id)
    await converse(sdk, session_id, script(stack, said("Two.")))
    first, second = await records(session_id).runs()
    sandbox = await connect(stack, second["sandbox_id"])

    async def asked(url: str) -> tuple[int, Json]:
        options = "-s -w '\\n%{http_code}' -X POST -H 'Authorization: Bearer egress' -H 'x-api-key: placeholder'"
        answer = await sandbox.commands.run(f"curl {options} -H 'Content-Type: application/json' -d '{{}}' {url}")
        body, _, status = answer.stdout.rpartition("\n")
        return int(status), json.loads(body)

    assert (await asked(f"{stack.api.url}/v1/runs/{second['id']}/ended"))[1]["id"] == second["id"]
    assert (await asked(f"{stack.api.url}/v1/runs/{first['id']}/ended"))[1]["error"]["type"] == "other_run"
    assert (await asked(f"{stack.models.url}/v1/messages"))[0] == 400  # a poor request, of one who may ask
    network = (await detail(stack, second["sandbox_id"]))["network"]
    assert set(network["rules"]) <= set(network["allowOut"])


@pytest.mark.parametrize("way", ["archive", "delete"])
async def test_the_sandbox_ends_with_the_session(way: str, stack: Stack, sdk: AsyncAnthropic, records: Any) -> None:
    """Nothing is paid for, nor kept, after an archive or a deletion."""
    session_id = await begin(sdk, script(stack, said("One.")))
    await turn(sdk, session_id)
    sandbox_id = (await records(session_id).sandboxes())[0]["sandbox_id"]
    await getattr(sdk.beta.sessions, way)(session_id)
    assert await is_gone(stack, sandbox_id)
    rows = await records(session_id).sandboxes()
    assert [row["end_reason"] for row in rows] == (["archived"] if way == "archive" else [])


async def test_a_turn_that_ends_after_its_session_leaves_no_sandbox(
    stack: Stack, owner: Person, sdk: AsyncAnthropic, service: httpx.AsyncClient
) -> None:
    """The runner's last call finds the session terminated: the sandbox is killed, not laid to rest."""
    async with acting(stack, owner, "hello") as actor:
        sandbox = await AsyncSandbox.create(api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url, timeout=600)
        recorded = {"run_id": actor.run["id"], "sandbox_id": sandbox.sandbox_id, "template": "base"}
        assert (await service.post("/rpc/record_sandbox_v1", json=recorded)).is_success
        await actor.append("session.status_idle", stop_reason={"type": "requires_action", "event_ids": []})
        await actor.end("archive_session_v1")
        headers = {"Authorization": f"Bearer {actor.token()}"}
        async with httpx.AsyncClient(base_url=stack.api.url, headers=headers, timeout=60) as http:
            answer = await http.post(f"/v1/runs/{actor.run['id']}/ended")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert await is_gone(stack, sandbox.sandbox_id)
        assert of(await turn_log(sdk, actor.session_id), "session.status_terminated")


async def turn_log(sdk: AsyncAnthropic, session_id: str) -> list[Any]:
    """All events of a session."""
    return [event async for event in sdk.beta.sessions.events.list(session_id)]

"""A question from one POST to its answer, and each way that it can end without one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from local.stack import Stack
from sandstream.client import Sandstream
from sandstream.events import Event
from tests.conftest import Person
from tests.e2e.faults import served
from tests.e2e.researching import answer, plan, scripts, step, turn
from tests.e2e.sandboxes import is_gone, sandbox_of, until
from tests.e2e.sweeping import about, age, execute, kill_runner, swept
from tests.e2e.test_runs import assert_whole, of_type

Json = dict[str, Any]


@pytest.fixture
async def http(owner: Person) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoints, as the owner."""
    async with owner.endpoints() as client:
        yield client


async def ask(http: httpx.AsyncClient, query: str, **options: Any) -> Json:
    """The accepted task."""
    told = await http.post("/v1/research", json={"query": query, "options": options})
    assert told.status_code == 202, told.text
    found: Json = told.json()
    return found


async def watched(client: Sandstream, task: Json) -> list[Event]:
    """All events of the task's session until it is at rest."""
    return [event async for event in client.watch(UUID(task["session_id"]))]


async def read(http: httpx.AsyncClient, task: Json) -> Json:
    """The task as it stands."""
    found: Json = (await http.get(f"/v1/research/{task['task_id']}")).json()
    return found


async def test_a_question_becomes_a_plan_and_an_answer_with_its_evidence(
    stack: Stack, http: httpx.AsyncClient, client: Sandstream
) -> None:
    """Planned, checked, executed, answered, remembered; the sandbox is gone, and the ledger has all that it took."""
    looked_up = plan(step("echo six"), step("echo seven"), step("echo $((6 * 7))", 0, 1))
    stack.script_model("flow", *scripts("sea of Tranquility", turn(looked_up), turn(answer("It is 42.", 2))))
    task = await ask(http, "How deep is the sea of Tranquility?")
    assert task["estimated_duration"] > 0
    assert int(task["estimated_cost"]["amount"]) > 0
    events = await watched(client, task)
    assert_whole(events)
    types = [event.type for event in events]
    assert types[0] == "run.created"
    assert types.index("plan.created") < types.index("command.started")
    assert types[-3:] == ["research.answer", "run.succeeded", "session.status_idle"]
    assert sorted(event.data["index"] for event in of_type(events, "command.completed")) == [0, 1, 2]
    found = await read(http, task)
    assert (found["status"], found["from_cache"], found["error"]) == ("completed", False, None)
    assert found["results"] == of_type(events, "research.answer")[0].data
    assert found["results"]["facts"][0]["value"] == "42"
    kinds = "select distinct kind from public.ledger where session_id = %s and entry = 'spend' order by kind"

    async def charged() -> bool | None:
        return execute(stack, kinds, [task["session_id"]]) == [("embedding",), ("model",), ("sandbox",)] or None

    assert await until(charged, "the ledger's rows")
    remembered = execute(stack, "select count(*) from public.task_results where task_id = %s", [task["task_id"]])
    assert remembered == [(1,)]


async def test_a_plan_that_is_refused_is_made_again(stack: Stack, http: httpx.AsyncClient, client: Sandstream) -> None:
    """What was refused is told by its rule, and never ran. Here Claude plans."""
    bad, good = plan(step("sudo cat /etc/shadow")), plan(step("echo fine"))
    stack.script_model("refused", *scripts("shadow", turn(bad), turn(answer("Fine.")), turn(good)))
    events = await watched(client, await ask(http, "What is in the shadow?", model="claude-sonnet-5"))
    assert [reason["rule"] for reason in of_type(events, "plan.rejected")[0].data["reasons"]] == ["privilege"]
    assert [event.data["command"] for event in of_type(events, "command.started")] == ["echo fine"]
    assert {event.data["model"] for event in of_type(events, "plan.created")} == {"claude-sonnet-5"}
    assert events[-2].type == "run.succeeded"


async def test_over_its_budget_not_one_command_runs(stack: Stack, http: httpx.AsyncClient, client: Sandstream) -> None:
    """The plan says what it will cost; what that is too much for ends before its first command."""
    stack.script_model("dear", *scripts("gold", turn(plan(step("echo never"), cost_microusd=5_000_000))))
    budget = {"type": "limit", "max_list_cost": {"amount": "50", "currency": "USD"}}
    task = await ask(http, "How much gold is there?", budget=budget)
    events = await watched(client, task)
    assert of_type(events, "command.started") == []
    assert len(of_type(events, "budget.reached")) == 1
    found = await read(http, task)
    assert (found["status"], found["error"]["type"], found["results"]) == ("failed", "budget_reached", None)


async def test_a_model_that_talks_rubbish_ends_in_a_failure_that_says_so(
    stack: Stack, http: httpx.AsyncClient, client: Sandstream
) -> None:
    """No plan is made up, nothing is executed and nothing remembered."""
    stack.script_model("rubbish", *scripts("rubbish", turn("I would rather talk about something else.")))
    task = await ask(http, "What is rubbish?")
    events = await watched(client, task)
    assert of_type(events, "plan.created") == of_type(events, "command.started") == []
    assert (await read(http, task))["error"]["type"] == "planner_invalid"
    remembered = execute(stack, "select count(*) from public.task_results where task_id = %s", [task["task_id"]])
    assert remembered == [(0,)]


async def test_fifty_who_ask_the_same_at_once_get_one_run(
    stack: Stack, http: httpx.AsyncClient, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """The first starts it, and the others are given the same task while it is under way."""
    wait = "until [ -e /tmp/asked ]; do sleep 0.05; done; echo once"
    stack.script_model("crowd", *scripts("crowd", turn(plan(step(wait, timeout=100))), turn(answer("Once."))))
    body = {"query": "How big is the crowd?"}
    told = await asyncio.gather(*(http.post("/v1/research", json=body) for _ in range(50)))
    assert {answer.status_code for answer in told} == {202}
    tasks = {answer.json()["task_id"] for answer in told}
    assert len(tasks) == 1
    sandbox = await sandbox_of(stack, service, UUID(told[0].json()["run_id"]))
    await sandbox.files.write("/tmp/asked", "")  # noqa: S108 inside the sandbox
    events = await watched(client, told[0].json())
    assert len(of_type(events, "command.started")) == 1
    (runs,) = execute(stack, "select count(*) from public.research_tasks where query = %s", [body["query"]])
    assert runs == (1,)


async def test_a_look_alike_is_asked_anew_and_can_be_cancelled(
    stack: Stack, http: httpx.AsyncClient, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """Its own task with its own run; `use_cache: false` and `max_age: 0` are too, for the very same words."""
    stack.script_model("slow", *scripts("snail", turn(plan(step("sleep 200", timeout=200), duration=20))))
    first = await ask(http, "How fast is the snail?")
    others = [
        await ask(http, "How slow is the snail?"),
        await ask(http, "How fast is the snail?", use_cache=False),
        await ask(http, "How fast is the snail?", max_age=0),
    ]
    joined = await ask(http, "how fast is the SNAIL?")
    assert joined["task_id"] == first["task_id"]
    assert len({task["task_id"] for task in (first, *others)}) == 4
    for task in (first, *others):
        sandbox = await sandbox_of(stack, service, UUID(task["run_id"]))
        assert (await http.post(f"/v1/runs/{task['run_id']}/cancel")).status_code == 202
        events = await watched(client, task)
        assert events[-2].type == "run.cancelled"
        await until(lambda sandbox=sandbox: is_gone(stack, sandbox.sandbox_id), "the sandbox's end")  # type: ignore[misc]
        assert (await read(http, task))["status"] == "cancelled"


@pytest.mark.parametrize(
    "body",
    [
        {"query": ""},
        {"query": " \n"},
        {"query": "x" * 8001},
        {},
        {"query": "x", "options": {"max_duration": 10_000_000}},
        {"query": "x", "options": {"egress": ["127.0.0.1"]}},
        {"query": "x", "context": [""]},
    ],
)
async def test_a_request_that_is_wrong_is_refused_by_name(body: Json, http: httpx.AsyncClient) -> None:
    """400, and nothing is made of it."""
    told = await http.post("/v1/research", json=body)
    assert (told.status_code, told.json()["error"]["type"]) == (400, "invalid_request_error")
    assert told.json()["error"]["param"]


async def test_a_killed_runner_goes_on_with_the_plan_that_stands(
    stack: Stack, http: httpx.AsyncClient, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """The next one asks for no other plan, and the step that ran meanwhile is not run again."""
    wait = "until [ -e /tmp/go ]; do sleep 0.05; done; echo went"
    stack.script_model("storm", *scripts("storm", turn(plan(step(wait, timeout=100))), turn(answer("It went."))))
    task = await ask(http, "When is the storm over?")
    run_id = UUID(task["run_id"])
    sandbox = await sandbox_of(stack, service, run_id)

    async def has_started() -> bool | None:
        query = "select 1 from public.agent_events where run_id = %s and type = 'command.started'"
        return bool(execute(stack, query, [run_id])) or None

    await until(has_started, "the step")
    await kill_runner(sandbox)
    age(stack, run_id)
    assert about(await swept(stack), run_id) == Counter(restarted=1)
    await sandbox.files.write("/tmp/go", "")  # noqa: S108 inside the sandbox
    events = await watched(client, task)
    assert_whole(events)
    counts = Counter(event.type for event in events)
    assert (counts["plan.created"], counts["command.started"], counts["run.resumed"]) == (1, 1, 1)
    assert (await read(http, task))["results"]["answer"] == "It went."


async def test_without_a_model_the_run_fails_and_says_why(
    stack: Stack, owner: Person, tmp_path: Path, client: Sandstream
) -> None:
    """Nobody can embed, so nothing is looked up, and nobody can plan; the question is taken all the same."""
    async with served(stack, tmp_path, OPENAI_BASE_URL="http://127.0.0.1:9/v1") as url:
        async with httpx.AsyncClient(base_url=url, headers=owner.headers, timeout=60) as http:
            task = await ask(http, "Is anybody there?")
        await watched(client, task)
    async with owner.endpoints() as http:
        found = await read(http, task)
    assert (found["status"], found["error"]["type"]) == ("failed", "planner_unavailable")

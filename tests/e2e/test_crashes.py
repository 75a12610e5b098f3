"""The endpoint is killed at each step of a submit: after two sweeps nothing is left that nobody owns."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.sandboxes import Pulse
from functions.sweep import sweep
from functions.wiring import Services
from local.stack import Stack
from tests.conftest import Person
from tests.e2e.conversing import message, said, script
from tests.e2e.faults import Fault, fault_proxy
from tests.e2e.forked import Endpoints
from tests.e2e.sandboxes import living
from tests.e2e.sweeping import age, assert_promises_are_kept, execute, runs_of, sweeper
from tests.e2e.test_launch_faults import by_way_of

pytestmark = pytest.mark.usefixtures("alone")

PLAN = {"commands": [{"command": "sleep 100000"}]}
CREATE, UPLOAD, START = "/v2/sandboxes", "/files", "/process.Process/Start"
CREATE_FAILS = Fault("POST", CREATE, 500)
START_FAILS = Fault("POST", START, 500)


def before(method: str, path: str) -> Fault:
    """Killed when it was about to ask for this."""
    return Fault(method, path, 500, times=1)


def after(method: str, path: str) -> Fault:
    """Killed when it had been done, and the answer was on its way."""
    return Fault(method, path, 500, times=1, passed_on=True)


NEVER_RAN, AT_WORK, GONE = {"failed"}, {"running", "succeeded"}, {"lost"}
# Where: the faults, the last of which kills; and what may become of the first run.
SUBMIT: dict[str, tuple[list[Fault], set[str]]] = {
    "before the sandbox is made": ([before("POST", CREATE)], NEVER_RAN),
    "with a sandbox that it has not heard of": ([after("POST", CREATE)], NEVER_RAN),
    "before the sandbox is stored": ([before("POST", "/rpc/record_sandbox_v1")], NEVER_RAN),
    "with the sandbox stored": ([after("POST", "/rpc/record_sandbox_v1")], NEVER_RAN),
    "before the job is uploaded": ([before("POST", UPLOAD)], NEVER_RAN),
    "with the job uploaded": ([after("POST", UPLOAD)], NEVER_RAN),
    "before the runner is started": ([before("POST", START)], NEVER_RAN),
    "with the runner started": ([after("POST", START)], AT_WORK),
    "before a failure is stored": ([CREATE_FAILS, before("POST", "/rpc/fail_launch_v1")], NEVER_RAN),
    "with a failure stored": ([CREATE_FAILS, after("POST", "/rpc/fail_launch_v1")], NEVER_RAN),
    "before a failed launch's sandbox is killed": ([START_FAILS, before("DELETE", "/sandboxes/")], NEVER_RAN),
    "with a failed launch's sandbox killed": ([START_FAILS, after("DELETE", "/sandboxes/")], GONE),
    "before its end is stored": ([START_FAILS, before("POST", "/rpc/close_sandbox_v1")], GONE),
}
# A conversation differs where there is a sandbox to keep, or a message that waits.
OF_A_CONVERSATION = (
    "with a sandbox that it has not heard of",
    "with the sandbox stored",
    "with the runner started",
    "with a failed launch's sandbox killed",
)
CASES = [("plan", step) for step in SUBMIT] + [("conversation", step) for step in OF_A_CONVERSATION]
ADMISSIONS = {"plan": "/rpc/admit_run_v1", "conversation": "/rpc/create_session_v1"}


@asynccontextmanager
async def doomed(stack: Stack, owner: Person, logs: Path, faults: list[Fault]) -> AsyncIterator[httpx.AsyncClient]:
    """Endpoints that are killed by SIGKILL when the last of the faults strikes."""
    part = Endpoints(logs)
    faults = [*(replace(each) for each in faults[:-1]), replace(faults[-1], then=lambda: part.stop(signal.SIGKILL))]
    of_store = [fault for fault in faults if "/rpc/" in fault.path]
    of_e2b = [fault for fault in faults if fault not in of_store]
    changes: dict[str, str] = {}
    async with AsyncExitStack() as opened:
        if of_store:
            url = (await opened.enter_async_context(fault_proxy(stack.supabase.url, *of_store))).url
            changes |= by_way_of(url, stack)
        if of_e2b:
            url = (await opened.enter_async_context(fault_proxy(stack.e2b.url, *of_e2b))).url
            changes |= {"E2B_API_URL": url, "E2B_SANDBOX_URL": url}
        part.start({**stack.api_environment(), "SANDSTREAM_URL": part.url, **changes})
        try:
            part.wait_until_ready("/healthz")
            async with httpx.AsyncClient(base_url=part.url, headers=owner.headers, timeout=60) as http:
                yield http
        finally:
            part.stop()
            part.socket.close()
    assert faults[-1].seen == 1, "it was not killed where it should have been"


async def submit(kind: str, http: httpx.AsyncClient, stack: Stack) -> None:
    """A plan or a message, of which the client never hears again."""
    path, body = "/v1/runs", dict[str, Any](PLAN)
    if kind == "conversation":
        said_first = [message(script(stack, said("Answered.")))]
        path, body = "/v1/sessions", {"agent": "default", "environment_id": "default", "initial_events": said_first}
    with suppress(httpx.TransportError):
        await http.post(path, json=body)


async def sweep_twice(stack: Stack, owner: Person, services: Services) -> None:
    """Two sweeps, long after everything that happened before them."""
    for _ in range(2):
        for run in runs_of(stack, owner.id):
            age(stack, run["id"])
        await sweep(services)


async def assert_nothing_is_left(stack: Stack, owner: Person, services: Services) -> None:
    """Every run has ended or has a living runner, every sandbox a row with a reason to be open, every promise a run."""
    for run in runs_of(stack, owner.id):
        if run["ended_at"] is None:
            assert await services.sandboxes.ring(run["sandbox_id"], run["id"]) is Pulse.ALIVE
    query = """
      select x.sandbox_id from public.sandbox_executions x
        join public.agent_runs r on r.id = x.run_id join public.agent_sessions s on s.id = x.session_id
      where x.ended_at is null and (s.agent_id is not null or r.ended_at is null)
    """
    owned = {row[0] for row in execute(stack, query)}
    assert set(await living(stack)) == owned
    open_rows = execute(stack, "select sandbox_id from public.sandbox_executions where ended_at is null")
    assert {row[0] for row in open_rows} == owned
    assert_promises_are_kept(stack, owner.id)


@pytest.mark.parametrize(("kind", "step"), CASES)
async def test_killed(kind: str, step: str, stack: Stack, owner: Person, tmp_path: Path) -> None:
    """Two sweeps settle it: what never began has failed, what did goes on, and a lost message gets another run."""
    faults, ends = SUBMIT[step]
    async with doomed(stack, owner, tmp_path, faults) as http:
        await submit(kind, http, stack)
    async with sweeper(stack) as services:
        await sweep_twice(stack, owner, services)
        await assert_nothing_is_left(stack, owner, services)
    first, *others = [run["status"] for run in runs_of(stack, owner.id)]
    assert first in ends
    assert len(others) == (kind == "conversation" and ends is GONE)


@pytest.mark.parametrize("kind", ["plan", "conversation"])
async def test_killed_once_it_is_admitted(kind: str, stack: Stack, owner: Person, tmp_path: Path) -> None:
    """Nothing but the run's row is there: it fails, and the session takes the next request."""
    async with doomed(stack, owner, tmp_path, [after("POST", ADMISSIONS[kind])]) as http:
        await submit(kind, http, stack)
    async with sweeper(stack) as services:
        await sweep_twice(stack, owner, services)
        await assert_nothing_is_left(stack, owner, services)
    assert [run["status"] for run in runs_of(stack, owner.id)] == ["failed"]


@pytest.mark.parametrize("kind", ["plan", "conversation"])
async def test_killed_before_it_is_admitted(kind: str, stack: Stack, owner: Person, tmp_path: Path) -> None:
    """Nothing has happened."""
    async with doomed(stack, owner, tmp_path, [before("POST", ADMISSIONS[kind])]) as http:
        await submit(kind, http, stack)
    assert runs_of(stack, owner.id) == []

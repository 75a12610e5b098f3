"""E2B or Supabase fails in the middle of a submit: a typed refusal, a run that has ended, and no sandbox left."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.faults import Fault, FaultProxy, endpoints, fault_proxy, served
from tests.e2e.sandboxes import living, until
from tests.e2e.test_refusals import assert_refused

PLAN = {"commands": [{"command": "echo hi"}]}


@asynccontextmanager
async def faulty_store(stack: Stack, owner: Person, logs: Path, fault: Fault) -> AsyncIterator[httpx.AsyncClient]:
    """Endpoints whose Supabase fails as told."""
    async with AsyncExitStack() as opened:
        proxy = await opened.enter_async_context(fault_proxy(stack.supabase.url, fault))
        yield await opened.enter_async_context(endpoints(stack, owner, logs, **by_way_of(proxy.url, stack)))


async def assert_ended_as_failed(
    stack: Stack, owner: Person, service: httpx.AsyncClient, before: list[str], word: str
) -> None:
    """The owner's runs have failed, their logs say why and are at their end, and no new sandbox lives."""
    runs = (await service.get("/agent_runs", params={"owner": f"eq.{owner.id}"})).json()
    assert {(run["status"], run["error"]["type"]) for run in runs} == {("failed", word)}
    sessions = (await service.get("/agent_sessions", params={"owner": f"eq.{owner.id}"})).json()
    assert {session["status"] for session in sessions} == {"idle"}
    for session in sessions:
        query = {"session_id": f"eq.{session['id']}", "order": "seq"}
        types = [event["type"] for event in (await service.get("/agent_events", params=query)).json()]
        assert types == ["run.created", "session.error", "run.failed", "session.status_idle"]

    async def none_new() -> bool | None:
        return set(await living(stack)) <= set(before) or None

    await until(none_new, "the sandbox to be gone")


E2B_FAULTS = {
    "create fails": Fault("POST", "/v2/sandboxes", 500),
    "create is refused": Fault("POST", "/v2/sandboxes", 403),
    "create is rate limited": Fault("POST", "/v2/sandboxes", 429),
    "create stays silent": Fault("POST", "/v2/sandboxes", None),
    "the upload fails": Fault("POST", "/files", 500),
    "the upload stays silent": Fault("POST", "/files", None),
    "the start fails": Fault("POST", "/process.Process/Start", 500),
    "the start stays silent": Fault("POST", "/process.Process/Start", None),
}


@pytest.fixture(scope="module")
async def e2b(stack: Stack) -> AsyncIterator[FaultProxy]:
    """E2B, failing as a test tells it to."""
    async with fault_proxy(stack.e2b.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
async def url(stack: Stack, e2b: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Endpoints that have that E2B, and little patience with it."""
    changes = {"E2B_API_URL": e2b.url, "E2B_SANDBOX_URL": e2b.url, "E2B_REQUEST_TIMEOUT_SECONDS": "2"}
    async with served(stack, tmp_path_factory.mktemp("endpoints"), **changes) as url:
        yield url


@pytest.mark.parametrize("fault", E2B_FAULTS.values(), ids=E2B_FAULTS.keys())
async def test_e2b_fails(
    fault: Fault, stack: Stack, owner: Person, service: httpx.AsyncClient, e2b: FaultProxy, url: str
) -> None:
    """502 or 503 with Retry-After; the run ends as failed, and its sandbox too."""
    before = await living(stack)
    e2b.faults[:] = [fault]
    async with httpx.AsyncClient(base_url=url, headers=owner.headers, timeout=120) as http:
        answer = await http.post("/v1/runs", json=PLAN)
    assert answer.status_code in (502, 503)
    assert_refused(answer, answer.status_code, "sandbox_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    e2b.faults.clear()
    assert fault.seen > 0
    await assert_ended_as_failed(stack, owner, service, before, "sandbox_unavailable")


async def test_the_same_key_may_be_tried_again(stack: Stack, owner: Person, tmp_path: Path) -> None:
    """Retry-After is no empty word: after a launch that failed, the same request with its key is launched."""
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    async with AsyncExitStack() as opened:
        fault = Fault("POST", "/v2/sandboxes", 500, times=1)
        proxy = await opened.enter_async_context(fault_proxy(stack.e2b.url, fault))
        http = await opened.enter_async_context(endpoints(stack, owner, tmp_path, E2B_API_URL=proxy.url))
        failed = await http.post("/v1/runs", json=PLAN, headers=headers)
        assert_refused(failed, 502, "sandbox_unavailable")
        launched = await http.post("/v1/runs", json=PLAN, headers=headers)
        assert launched.status_code == 202
        assert (await http.post("/v1/runs", json=PLAN, headers=headers)).json() == launched.json()
    async with owner.client() as client:
        assert (await client.result(launched.json()["id"])).status == "succeeded"


async def test_supabase_fails_before_admission(
    stack: Stack, owner: Person, service: httpx.AsyncClient, tmp_path: Path
) -> None:
    """503, and there is no run: the same key may be used again, and then it is one."""
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    fault = Fault("POST", "/rpc/admit_run_v1", 500, times=1)
    async with faulty_store(stack, owner, tmp_path, fault) as http:
        refused = await http.post("/v1/runs", json=PLAN, headers=headers)
        assert_refused(refused, 503, "store_unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert (await service.get("/agent_runs", params={"owner": f"eq.{owner.id}"})).json() == []
        assert (await http.post("/v1/runs", json=PLAN, headers=headers)).status_code == 202
    assert len((await service.get("/agent_runs", params={"owner": f"eq.{owner.id}"})).json()) == 1


async def test_supabase_fails_when_the_sandbox_is_recorded(
    stack: Stack, owner: Person, service: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The sandbox whose id could not be stored is killed, and nothing was started in it."""
    before = await living(stack)
    fault = Fault("POST", "/rpc/record_sandbox_v1", 500)
    async with faulty_store(stack, owner, tmp_path, fault) as http:
        assert_refused(await http.post("/v1/runs", json=PLAN), 503, "store_unavailable")
    assert fault.seen > 0
    await assert_ended_as_failed(stack, owner, service, before, "store_unavailable")


async def test_the_failure_itself_cannot_be_stored_at_first(
    stack: Stack, owner: Person, service: httpx.AsyncClient, tmp_path: Path
) -> None:
    """E2B fails, and so does the first attempt to say so: it is tried again, and the run does not stay launching."""
    before = await living(stack)
    e2b, store = Fault("POST", "/v2/sandboxes", 500), Fault("POST", "/rpc/fail_launch_v1", 500, times=2)
    async with fault_proxy(stack.e2b.url, e2b) as sandboxes, fault_proxy(stack.supabase.url, store) as supabase:
        changes = {**by_way_of(supabase.url, stack), "E2B_API_URL": sandboxes.url}
        async with endpoints(stack, owner, tmp_path, **changes) as http:
            assert_refused(await http.post("/v1/runs", json=PLAN), 502, "sandbox_unavailable")
    assert store.seen == 2
    await assert_ended_as_failed(stack, owner, service, before, "sandbox_unavailable")


def by_way_of(url: str, stack: Stack) -> dict[str, str]:
    """The settings that send the endpoints to Supabase through a proxy; who signs tokens stays the same."""
    return {"SUPABASE_URL": url, "SUPABASE_JWT_ISSUER": f"{stack.supabase.url}/auth/v1"}


async def test_a_503_of_supabase_is_no_trace(stack: Stack, owner: Person, tmp_path: Path) -> None:
    """Reads too: a failing Supabase is a 503 that may be tried again."""
    async with faulty_store(stack, owner, tmp_path, Fault("GET", "/rest/v1/", 502)) as http:
        for path in ("/v1/sessions", f"/v1/sessions/{uuid4()}", f"/v1/runs/{uuid4()}"):
            assert_refused(await http.get(path), 503, "store_unavailable")

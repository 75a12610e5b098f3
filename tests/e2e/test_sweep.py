"""The sweep against the real local stack: dead runners, vanished sandboxes, deadlines, orphans, lies and failures."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from e2b import AsyncSandbox

from functions.app import sweep as scheduled
from functions.sweep import sweep
from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.faults import Fault, endpoints, fault_proxy
from tests.e2e.sandboxes import is_gone, living, row, sandbox_of, until
from tests.e2e.sweeping import (
    about,
    age,
    execute,
    executions,
    kill_runner,
    pass_deadline,
    runs_of,
    sandboxes_of_run,
    sweeper,
    swept,
    types_of,
)
from tests.e2e.test_restarts import assert_counted, counting
from tests.e2e.test_runs import of_type

pytestmark = pytest.mark.usefixtures("alone")

PROJECT = Path(__file__).parents[2]
SLEEP = "sleep 100000"
# Every claim is as old as one of a sweep that has been at work for long.
LAPSING = """
create function public.lapse() returns trigger language plpgsql as $$
begin
  new.claimed_at := new.claimed_at - interval '200 seconds';
  return new;
end;
$$;
create trigger lapse before insert or update on public.run_repairs for each row execute function public.lapse();
"""


async def started(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> tuple[UUID, AsyncSandbox]:
    """A plan that sleeps, with its runner at work: the run's id, and its sandbox."""
    run = await client.submit([SLEEP])
    await running(service, run.id)
    return run.id, await sandbox_of(stack, service, run.id)


async def running(service: httpx.AsyncClient, run_id: UUID) -> None:
    """Returns once the runner's first events have arrived."""

    async def has_begun() -> bool | None:
        return (await row(service, run_id))["status"] == "running" or None

    await until(has_begun, "the run to begin")


async def test_a_killed_runner_is_swept_back_to_life(
    stack: Stack, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """The plan's command never notices, the next epoch goes on from the spool, and the log is whole."""
    async with counting(stack, client, service) as (run, watched):
        await kill_runner(await sandbox_of(stack, service, run.id))
        age(stack, run.id)
        assert about(await swept(stack), run.id) == Counter(restarted=1)
        assert about(await swept(stack), run.id) == Counter()
        await watched.more("output after the sweep")
    assert_counted(watched.events)
    assert [event.data["epoch"] for event in of_type(watched.events, "run.resumed")] == [2]


async def test_a_restarted_plan_may_reach_what_it_named(
    stack: Stack, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """The egress of the request holds for its next runner too, and the network has that runner's token."""
    run_id = (await client.submit([SLEEP], egress=["example.com"])).id
    await running(service, run_id)
    sandbox = await sandbox_of(stack, service, run_id)
    await kill_runner(sandbox)
    age(stack, run_id)
    await swept(stack)
    network = (await sandbox.get_info()).network
    assert network is not None
    assert "example.com" in network.get("allow_out", [])


async def test_a_runner_killed_four_times_is_not_started_again(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """Three restarts, then the run is lost and says why, and its sandbox is killed."""
    run_id, sandbox = await started(stack, client, service)
    for epoch in (2, 3, 4):
        await kill_runner(sandbox)
        age(stack, run_id)
        assert about(await swept(stack), run_id) == Counter(restarted=1)
        await resumed(stack, run_id, epoch)
    await kill_runner(sandbox)
    age(stack, run_id)
    assert about(await swept(stack), run_id) == Counter(lost=1)
    (run,) = runs_of(stack, owner.id)
    assert (run["status"], run["error"]["type"], run["restarts"], run["epoch"]) == ("lost", "runner_died", 3, 4)
    age(stack, run_id)
    assert about(await swept(stack), sandbox.sandbox_id) == Counter(killed=1)
    assert await is_gone(stack, sandbox.sandbox_id)
    assert executions(stack, run_id) == [(sandbox.sandbox_id, "lost")]


async def resumed(stack: Stack, run_id: UUID, epoch: int) -> None:
    """Returns once the runner of this epoch has said so."""
    query = "select 1 from public.agent_events where run_id = %s and type = 'run.resumed' and data ->> 'epoch' = %s"

    async def has_said() -> bool | None:
        return bool(execute(stack, query, (run_id, str(epoch)))) or None

    await until(has_said, f"epoch {epoch}")


async def test_a_run_whose_sandbox_vanished_is_lost(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """Its log ends with the reason, and its session takes the next plan."""
    run_id, sandbox = await started(stack, client, service)
    await sandbox.kill()
    age(stack, run_id)
    assert about(await swept(stack, times=2), run_id) == Counter(lost=1)
    (run,) = runs_of(stack, owner.id)
    assert (run["status"], run["error"]["type"]) == ("lost", "sandbox_gone")
    assert types_of(stack, run["session_id"])[-3:] == ["session.error", "run.lost", "session.status_idle"]
    assert executions(stack, run_id) == [(sandbox.sandbox_id, "vanished")]
    again = await client.submit(["echo again"], session_id=UUID(run["session_id"]))
    assert (await client.result(again.id)).status == "succeeded"


async def test_a_living_runner_is_left_alone(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """Silent in the log, alive in its sandbox: two sweeps change nothing, and the run goes on to its end."""
    async with counting(stack, client, service) as (run, watched):
        before = await row(service, run.id)
        age(stack, run.id)
        assert about(await swept(stack, times=2), run.id) == Counter()
        after = await row(service, run.id)
        assert {name: after[name] for name in ("status", "epoch", "sandbox_id")} == {
            name: before[name] for name in ("status", "epoch", "sandbox_id")
        }
        await watched.more("output after the sweeps")
    assert_counted(watched.events)
    assert of_type(watched.events, "run.resumed") == []


async def test_two_sweeps_at_once_do_nothing_twice(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """One dead runner, one vanished sandbox, one launch that is gone: each is dealt with once."""
    dead_id, dead = await started(stack, client, service)
    gone_id, gone = await started(stack, client, service)
    await kill_runner(dead)
    await gone.kill()
    launch_id = await admitted(stack, owner)
    for run_id in (dead_id, gone_id, launch_id):
        age(stack, run_id)
    async with sweeper(stack) as one, sweeper(stack) as other:
        deeds = [deed for both in await asyncio.gather(sweep(one), sweep(other)) for deed in both]
    assert about(deeds, dead_id) == Counter(restarted=1)
    assert about(deeds, gone_id) == Counter(lost=1)
    assert about(deeds, launch_id) == Counter(failed=1)
    assert {run["epoch"] for run in runs_of(stack, owner.id)} == {1, 2}


async def admitted(stack: Stack, owner: Person) -> str:
    """A run whose endpoint died before it had a sandbox."""
    arguments = {
        "kind": "commands",
        "input": {"commands": [{"command": "true", "timeout": 5}]},
        "limit_seconds": 60,
        "request_hash": "0" * 64,
        "idempotency_key": f"key-{uuid4()}",
    }
    async with owner.tables() as tables:
        answer = await tables.post("/rpc/admit_run_v1", json=arguments)
        return str(answer.json()["run"]["id"])


async def test_a_launch_is_given_its_time(stack: Stack, owner: Person) -> None:
    """Half a minute old it may still be under way; two minutes old it has failed, and its key is free again."""
    run_id = await admitted(stack, owner)
    age(stack, run_id, 60)
    assert about(await swept(stack), run_id) == Counter()
    age(stack, run_id, 61)
    assert about(await swept(stack), run_id) == Counter(failed=1)
    (run,) = runs_of(stack, owner.id)
    assert (run["status"], run["error"]["type"]) == ("failed", "launch_lost")
    assert execute(stack, "select 1 from public.idempotency_keys where run_id = %s", (run_id,)) == []


async def test_a_run_past_its_deadline_times_out(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """Also with a living runner, whose own clock has not told it to stop; its sandbox goes with it."""
    run_id, sandbox = await started(stack, client, service)
    pass_deadline(stack, run_id)
    assert about(await swept(stack), run_id) == Counter(timed_out=1)
    (run,) = runs_of(stack, owner.id)
    assert (run["status"], run["error"]["type"]) == ("timed_out", "run_timed_out")
    assert types_of(stack, run["session_id"])[-2:] == ["run.timed_out", "session.status_idle"]
    assert await is_gone(stack, sandbox.sandbox_id)
    assert executions(stack, run_id) == [(sandbox.sandbox_id, "timed_out")]


async def orphan(stack: Stack, **metadata: str) -> str:
    """A sandbox that no row knows."""
    made = await AsyncSandbox.create(
        template="base", timeout=600, metadata=metadata,
        api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url, sandbox_url=stack.e2b.url,
    )  # fmt: skip
    return made.sandbox_id


async def test_orphans_are_killed_and_strangers_are_not(stack: Stack) -> None:
    """Killed is what names this project and a run that is none; what is another project's, or nobody's, stays."""
    ids = {"sandstream_run": str(uuid4()), "sandstream_session": str(uuid4())}
    project = httpx.URL(stack.supabase.url).netloc.decode()
    ours = await orphan(stack, sandstream_project=project, **ids)
    kept = [
        await orphan(stack, sandstream_project="other.supabase.test", **ids),
        await orphan(stack, purpose="something else"),
        await orphan(stack, sandstream_project=project, sandstream_run="not-a-uuid", sandstream_session="x"),
        await orphan(stack, **ids),
    ]
    deeds = await swept(stack)
    assert about(deeds, ours) == Counter(killed=1)
    assert about(deeds, *kept) == Counter()
    assert set(await living(stack)) == set(kept)


async def test_the_sandbox_of_a_deleted_session_is_killed(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """Nothing names it any more but its metadata."""
    _, sandbox = await started(stack, client, service)
    execute(stack, "delete from public.agent_sessions where owner = %s", (owner.id,))
    assert about(await swept(stack), sandbox.sandbox_id) == Counter(killed=1)
    assert await is_gone(stack, sandbox.sandbox_id)


async def test_a_kill_that_lies_is_not_believed(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """E2B says 204 and keeps it: the sweep looks, says so, and the next one kills it."""
    run_id, sandbox = await started(stack, client, service)
    execute(stack, "delete from public.agent_sessions")
    async with fault_proxy(stack.e2b.url, Fault("DELETE", "/sandboxes/", 204)) as proxy:
        deeds = await swept(stack, changes={"E2B_API_URL": proxy.url})
    assert about(deeds, sandbox.sandbox_id) == Counter(skipped=1)
    assert about(await swept(stack), sandbox.sandbox_id) == Counter(killed=1)
    assert await sandboxes_of_run(stack, run_id) == []


@pytest.mark.parametrize("status", [500, None], ids=["500", "silence"])
async def test_a_failing_e2b_ends_nothing(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient, status: int | None
) -> None:
    """Not lost, not restarted, not killed; what needs no E2B is done all the same, and the rest by the next sweep."""
    run_id, sandbox = await started(stack, client, service)
    await kill_runner(sandbox)
    launch_id = await admitted(stack, owner)
    age(stack, run_id)
    age(stack, launch_id)
    faults = [Fault(method, "", status) for method in ("GET", "POST", "DELETE")]
    async with fault_proxy(stack.e2b.url, *faults) as proxy:
        changes = {"E2B_API_URL": proxy.url, "E2B_SANDBOX_URL": proxy.url, "E2B_REQUEST_TIMEOUT_SECONDS": "1"}
        deeds = await swept(stack, changes=changes)
    assert about(deeds, run_id) == Counter(skipped=1)
    assert about(deeds, launch_id) == Counter(failed=1)
    assert [run["epoch"] for run in runs_of(stack, owner.id)] == [1, 1]
    assert about(await swept(stack), run_id) == Counter(restarted=1)


async def test_a_sweep_looks_at_a_run_once(stack: Stack, owner: Person) -> None:
    """Also when its claims lapse while it is still at work, as they do when E2B is silent: then it comes to its end."""
    run_id = await admitted(stack, owner)
    age(stack, run_id, 60)  # silent, but not yet given up: it stays stale whatever the sweep does
    execute(stack, LAPSING)
    try:
        async with asyncio.timeout(60):
            assert about(await swept(stack), run_id) == Counter()
    finally:
        execute(stack, "drop trigger lapse on public.run_repairs; drop function public.lapse()")


async def test_one_bad_item_does_not_stop_the_others(
    stack: Stack, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """E2B fails for one sandbox: the other run's fate is found out all the same."""
    bad_id, bad = await started(stack, client, service)
    good_id, good = await started(stack, client, service)
    for run_id, sandbox in ((bad_id, bad), (good_id, good)):
        await kill_runner(sandbox)
        age(stack, run_id)
    async with fault_proxy(stack.e2b.url, Fault("POST", f"/sandboxes/{bad.sandbox_id}/connect", 500)) as proxy:
        deeds = await swept(stack, changes={"E2B_API_URL": proxy.url})
    assert about(deeds, bad_id) == Counter(skipped=1)
    assert about(deeds, good_id) == Counter(restarted=1)


async def test_the_local_stack_sweeps_by_itself(stack: Stack, owner: Person, tmp_path: Path) -> None:
    """The endpoints of the local stack sweep on a timer, every SWEEP_SECONDS."""
    run_id = await admitted(stack, owner)
    age(stack, run_id)

    async def has_failed() -> bool | None:
        return runs_of(stack, owner.id)[0]["status"] == "failed" or None

    async with endpoints(stack, owner, tmp_path, SWEEP_SECONDS="1"):
        await until(has_failed, "the timer's sweep")


async def test_modals_schedule_is_the_same_sweep(stack: Stack, owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Modal calls every 30 s, without Modal: one sweep; none where SWEEP_SECONDS is 0."""
    run_id = await admitted(stack, owner)
    age(stack, run_id)
    for name, value in stack.api_environment().items():
        monkeypatch.setenv(name, value)
    await scheduled.local()
    assert runs_of(stack, owner.id)[0]["status"] == "launching"
    monkeypatch.setenv("SWEEP_SECONDS", "30")
    await scheduled.local()
    assert runs_of(stack, owner.id)[0]["status"] == "failed"


async def test_a_cancellation_finds_out_as_well(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """A plan whose runner is dead gets one that obeys; one whose sandbox is gone is lost at once."""
    dead_id, dead = await started(stack, client, service)
    gone_id, gone = await started(stack, client, service)
    await kill_runner(dead)
    await gone.kill()
    await client.cancel(dead_id)
    await client.cancel(gone_id)
    assert (await client.result(dead_id)).status == "cancelled"
    assert (await client.result(gone_id)).status == "lost"


async def test_an_operator_sweeps_by_hand(stack: Stack, owner: Person) -> None:
    """`python -m functions.sweep` prints what it did, a line of JSON each, and nothing else on stdout."""
    run_id = await admitted(stack, owner)
    age(stack, run_id)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "functions.sweep"], cwd=PROJECT, env=stack.api_environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    session_id = runs_of(stack, owner.id)[0]["session_id"]
    assert {"did": "failed", "run_id": run_id, "session_id": session_id, "reason": "launch_lost"} in lines
    assert "launch_lost" in done.stderr

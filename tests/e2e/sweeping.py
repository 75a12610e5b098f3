"""Sweeping from a test: the very function of the schedule, and rows made older than they are instead of waiting."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from e2b import AsyncSandbox, SandboxInfo, SandboxQuery

from functions.settings import Settings
from functions.sweep import Deed, sweep
from functions.wiring import Services, opened
from local.stack import Stack
from tests.e2e.test_restarts import KILL

Json = dict[str, Any]
AGE = """
update public.agent_runs set
  created_at = created_at - make_interval(secs => %(s)s), heartbeat_at = heartbeat_at - make_interval(secs => %(s)s),
  ended_at = ended_at - make_interval(secs => %(s)s)
where id = %(id)s
"""
# Older than all that a run, a launch or an end is given.
LONG_SECONDS = 1000
NOTHING: Mapping[str, str] = {}


def settings(stack: Stack, **changes: str) -> Settings:
    """The settings of the stack's endpoints, with changes."""
    given = {name.lower(): value for name, value in {**stack.api_environment(), **changes}.items()}
    return Settings.model_validate({name: value for name, value in given.items() if name in Settings.model_fields})


@asynccontextmanager
async def sweeper(stack: Stack) -> AsyncIterator[Services]:
    """What a sweep is given; nobody else's."""
    async with opened(settings(stack)) as services:
        yield services


async def swept(stack: Stack, times: int = 1, changes: Mapping[str, str] = NOTHING) -> list[Deed]:
    """What so many sweeps did, one after the other."""
    deeds: list[Deed] = []
    async with opened(settings(stack, **changes)) as services:
        for _ in range(times):
            deeds += await sweep(services)
    return deeds


def about(deeds: list[Deed], *ids: object) -> Counter[str]:
    """How often each thing was done to these runs, sessions and sandboxes; other tests leave some behind as well."""
    wanted = {str(id) for id in ids}
    return Counter(deed.did for deed in deeds if wanted & {deed.run_id, deed.session_id, deed.sandbox_id})


def execute(stack: Stack, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """A statement as the superuser."""
    with psycopg.connect(stack.postgres.dsn(), autocommit=True) as admin:
        cursor = admin.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def age(stack: Stack, run_id: UUID | str, seconds: int = LONG_SECONDS) -> None:
    """As if everything that has happened to the run had been so much earlier; its deadline stays."""
    execute(stack, AGE, {"s": seconds, "id": str(run_id)})


def pass_deadline(stack: Stack, run_id: UUID | str) -> None:
    """As if the run should have ended long ago."""
    query = "update public.agent_runs set deadline_at = now() - make_interval(secs => %s) where id = %s"
    execute(stack, query, (LONG_SECONDS, str(run_id)))


def runs_of(stack: Stack, owner: UUID) -> list[Json]:
    """A user's runs, the oldest first, with how often they were restarted."""
    query = """
      select to_jsonb(r) || jsonb_build_object('restarts', coalesce(p.restarts, 0))
      from public.agent_runs r left join public.run_repairs p on p.run_id = r.id
      where r.owner = %s order by r.created_at
    """
    return [row[0] for row in execute(stack, query, (owner,))]


def types_of(stack: Stack, session_id: UUID | str) -> list[str]:
    """The session's log, checked to be whole."""
    query = "select seq, type from public.agent_events where session_id = %s order by seq"
    rows = execute(stack, query, (str(session_id),))
    assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
    return [type for _, type in rows]


def executions(stack: Stack, run_id: UUID | str) -> list[tuple[str, str | None]]:
    """(sandbox, why it ended) of a run's sandboxes."""
    query = "select sandbox_id, end_reason from public.sandbox_executions where run_id = %s order by started_at"
    return [(row[0], row[1]) for row in execute(stack, query, (str(run_id),))]


async def sandboxes_of_run(stack: Stack, run_id: UUID | str) -> list[SandboxInfo]:
    """The sandboxes at E2B whose metadata names the run, whether anyone has stored them or not."""
    query = SandboxQuery(metadata={"sandstream_run": str(run_id)})
    pages = AsyncSandbox.list(query, api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url)
    return await pages.next_items()


async def kill_runner(sandbox: AsyncSandbox) -> None:
    """SIGKILL for the runner, and nothing else in the sandbox."""
    killed = await sandbox.commands.run(KILL, timeout=30)
    assert killed.stdout.strip() == "killed"


def assert_promises_are_kept(stack: Stack, owner: UUID) -> None:
    """Money is promised to the owner's live runs and to no other; each promise was made once, and given back once."""
    runs = runs_of(stack, owner)
    living = {str(run["id"]) for run in runs if run["ended_at"] is None}
    promised = "select run_id::text from private.run_costs where owner = %s and settled_at is null"
    assert {run for (run,) in execute(stack, promised, (owner,))} == living
    entries = "select run_id::text, entry from public.ledger where owner = %s and entry <> 'spend'"
    expected = Counter((str(run["id"]), "reserve") for run in runs)
    expected.update((str(run["id"]), "settle") for run in runs if run["ended_at"] is not None)
    assert Counter(execute(stack, entries, (owner,))) == expected

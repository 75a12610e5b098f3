"""Admission: what deciding about a run costs in SQL, beside a bare insert in the same run.

Plain SQL connections, one for each owner, from one process of Python; no REST and no sandbox. Both are done as
PostgREST does them: a transaction that takes the caller's role and claims, one statement, a commit. The owners ask at
the same time, round by round; after each round the runs are ended, unmeasured, so that nobody's live runs add up.
"""

import asyncio
import json
import secrets
import time
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection

from bench.people import Bench, percentiles

# (owners at the same time, rounds)
CROWDS = ((1, 400), (50, 20))
WARM_UP = 3
LIMITS = {
    "max_concurrent_sandboxes": 10,
    "max_sandbox_duration_ms": 3_600_000,
    "sandbox_margin_seconds": 60,
    "requests_per_minute": 1_000_000,
    "idle_sandbox_seconds": 300,
    "max_month_microusd": 1_000_000_000,
}
TABLE = """
create table if not exists public.bench_admissions (
  id uuid primary key, owner uuid not null, request_hash text not null, created_at timestamptz not null default now()
);
grant insert on public.bench_admissions to authenticated;
"""
CLAIMS = "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)"
ADMIT = """
select public.admit_run_v1(
  kind => 'commands', input => '{}', limit_seconds => 330, request_hash => %s, idempotency_key => %s
) #>> '{run,id}'
"""
INSERT = "insert into public.bench_admissions (id, owner, request_hash) values (%s, %s, %s)"
END = """
select public.fail_launch_v1(r.id, '{"type": "bench", "message": "admitted, and that was all"}')
from public.agent_runs r where r.owner = %s and r.ended_at is null
"""

Connection = AsyncConnection[Any]


async def measure(bench: Bench) -> list[tuple[str, str]]:
    """Each crowd's admissions and bare inserts, round by round."""
    await prepare(bench)
    rows: list[tuple[str, str]] = []
    for owners, rounds in CROWDS:
        admissions, inserts = await crowd(bench, owners, rounds)
        who = "1 owner" if owners == 1 else f"{owners} owners at once"
        rows += [
            (f"admission: admit_run_v1, {who}", percentiles(admissions)),
            (f"admission: bare insert, {who}", percentiles(inserts)),
        ]
    return rows


async def prepare(bench: Bench) -> None:
    """A table for the inserts, the prices as the endpoints tell them, and limits that all hold and refuse nothing."""
    with psycopg.connect(bench.stack.postgres.dsn(), autocommit=True) as database:
        database.execute(TABLE)
    asked = await bench.http.get(f"{bench.stack.api.url}/v1/usage", headers={"Authorization": f"Bearer {bench.token}"})
    asked.raise_for_status()
    key = bench.stack.keys.secret_key
    told = await bench.http.post(
        f"{bench.stack.supabase.url}/rest/v1/rpc/set_limits_v1",
        json=LIMITS, headers={"apikey": key, "Authorization": f"Bearer {key}"},
    )  # fmt: skip
    told.raise_for_status()


async def crowd(bench: Bench, owners: int, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of every admission and of every insert."""
    admissions: list[float] = []
    inserts: list[float] = []
    async with AsyncExitStack() as closing:
        people = [await joined(bench, closing) for _ in range(owners)]
        for number in range(rounds + WARM_UP):
            taken = await asyncio.gather(*(admit(connection, owner) for connection, owner in people))
            bare = await asyncio.gather(*(insert(connection, owner) for connection, owner in people))
            for connection, owner in people:
                await connection.execute(END, (owner,))
            if number >= WARM_UP:
                admissions += taken
                inserts += bare
    return admissions, inserts


async def joined(bench: Bench, closing: AsyncExitStack) -> tuple[Connection, UUID]:
    """A new owner and a connection of theirs."""
    connection = await AsyncConnection.connect(bench.stack.postgres.dsn(), autocommit=True)
    await closing.enter_async_context(connection)
    owner = uuid4()
    await connection.execute("insert into auth.users (id, email) values (%s, %s)", (owner, f"{owner}@bench.test"))
    return connection, owner


async def admit(connection: Connection, owner: UUID) -> float:
    """One admission with a key of its own, as the owner."""
    return await timed(connection, owner, ADMIT, (secrets.token_hex(32), secrets.token_hex(16)))


async def insert(connection: Connection, owner: UUID) -> float:
    """One row, as the owner."""
    return await timed(connection, owner, INSERT, (uuid4(), owner, secrets.token_hex(32)))


async def timed(connection: Connection, owner: UUID, statement: str, parameters: tuple[Any, ...]) -> float:
    """Milliseconds from `begin` to the end of `commit`."""
    claims = json.dumps({"role": "authenticated", "sub": str(owner)})
    started = time.perf_counter()
    async with connection.transaction():
        await connection.execute(CLAIMS, (claims,))
        await connection.execute(statement, parameters)
    return (time.perf_counter() - started) * 1000

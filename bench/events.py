"""Events per second: the runner's own spool and shipper into the log, beside one insert per event and a raw COPY.

The same events each time: the path has JWT, RLS, dedupe, the broadcast and all indexes; the single inserts go through
the same REST into a table with the same columns and none of that; COPY goes straight to Postgres into another.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench.people import Bench

EVENTS = 50_000
SINGLE_INSERTS = 1_500
TEXT = "line of output that a command might print, about this long\n"

PRODUCER = """
import sys
from sandbox_scripts.job import Ending, Job
from sandbox_scripts.log import Log
from sandbox_scripts.ship import Shipper
from sandbox_scripts.spool import Spool
job = Job.load(sys.argv[1])
spool = Spool(job.path("spool.ndjson"))
shipper = Shipper(spool, Log(job), job.path("doorbell"))
shipper.start(False)
text = sys.argv[3]
for number in range(int(sys.argv[2])):
    spool.append("command.output", {"index": 0, "attempt": 1, "stream": "stdout", "text": text, "offset": number})
shipper.finish(Ending("succeeded", result={}))
"""

TABLES = """
create table bench_inserts (session_id uuid, seq bigint generated always as identity, n bigint, type text, data jsonb,
  produced_at timestamptz default now(), created_at timestamptz default now(), primary key (session_id, seq));
create table bench_copy (like bench_inserts including defaults including indexes);
alter table bench_copy alter column seq set not null;
grant all on bench_inserts to service_role;
notify pgrst, 'reload schema';
"""


async def measure(bench: Bench) -> list[tuple[str, str]]:
    """Events per second of each, and the two ratios."""
    with psycopg.connect(bench.stack.postgres.dsn("postgres"), autocommit=True) as database:
        database.execute(TABLES)
    path = await path_rate(bench)
    single = await insert_rate(bench)
    copy = await asyncio.to_thread(copy_rate, bench)
    return [
        ("events: runner → REST → log", f"{path:,.0f}/s ({EVENTS:,} events)"),
        ("events: one insert per event, same REST", f"{single:,.0f}/s ({SINGLE_INSERTS:,} events)"),
        ("events: raw COPY", f"{copy:,.0f}/s ({EVENTS:,} events)"),
        ("events: path ÷ single inserts", f"{path / single:.1f}x"),
        ("events: path ÷ COPY", f"{path / copy:.2f}x"),
    ]


async def path_rate(bench: Bench) -> float:
    """The runner's own code in a process of its own, from its first event to the end of the run in the log."""
    run = await bench.admit()
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(job_file(bench, run)))
        environment = {"SANDSTREAM_RUN_TOKEN": bench.run_token(run), "PYTHONPATH": str(Path(__file__).parents[1])}
        started = time.perf_counter()
        producer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PRODUCER, str(job), str(EVENTS), TEXT, env=environment
        )
        code = await producer.wait()
        elapsed = time.perf_counter() - started
    if code != 0:
        raise RuntimeError(f"the producer ended with {code}")
    return EVENTS / elapsed


def job_file(bench: Bench, run: dict[str, Any]) -> dict[str, Any]:
    """A job as the endpoints write it, without an address to call at the end."""
    return {
        "version": 1,
        "run_id": run["id"],
        "session_id": run["session_id"],
        "epoch": 1,
        "kind": "commands",
        "limit_seconds": 3600,
        "supabase_url": bench.stack.supabase.url,
        "publishable_key": bench.stack.keys.publishable_key,
        "ended_url": "",
        "credentials": "env",
        "output_limit_bytes": 1 << 20,
        "working_directory": "/",
        "redact": [],
        "input": {},
    }


async def insert_rate(bench: Bench) -> float:
    """One POST per event on a kept-alive connection, one after the other, as a naive runner would."""
    key = bench.stack.keys.secret_key
    headers = {"apikey": key, "Authorization": f"Bearer {key}", "Prefer": "return=minimal"}
    row = {"session_id": "00000000-0000-0000-0000-000000000000", "type": "command.output", "data": {"text": TEXT}}
    async with httpx.AsyncClient(base_url=f"{bench.stack.supabase.url}/rest/v1", headers=headers) as http:
        started = time.perf_counter()
        for number in range(SINGLE_INSERTS):
            answer = await http.post("/bench_inserts", json={**row, "n": number})
            answer.raise_for_status()
        return SINGLE_INSERTS / (time.perf_counter() - started)


def copy_rate(bench: Bench) -> float:
    """All events in one COPY."""
    data = json.dumps({"index": 0, "attempt": 1, "stream": "stdout", "text": TEXT, "offset": 1})
    started = time.perf_counter()
    statement = "copy bench_copy (session_id, seq, n, type, data) from stdin"
    with psycopg.connect(bench.stack.postgres.dsn("postgres")) as database, database.cursor().copy(statement) as copy:
        for number in range(EVENTS):
            copy.write_row(("00000000-0000-0000-0000-000000000000", number, number, "command.output", data))
    return EVENTS / (time.perf_counter() - started)

"""Prices to test with, and what the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from uuid import UUID

from tests.sql.conversations import say
from tests.sql.people import SERVICE, Connection, Person, scalar
from tests.sql.runs import Json, Run

CHEAP: Json = {"input": 1000, "output": 2000, "cache_write_5m": 1250, "cache_write_1h": 2000, "cache_read": 100}
DEAR: Json = {"input": 15000, "output": 75000, "cache_write_5m": 18750, "cache_write_1h": 30000, "cache_read": 1500}
FAST: Json = {name: 2 * price for name, price in DEAR.items()}
LONG: Json = {name: 5 * price for name, price in CHEAP.items()}
# $32.50 for a million seconds of a sandbox.
SANDBOX: Json = {"vcpu_second": 14000, "gib_second": 4500, "vcpus": 2, "memory_mib": 1024}
PRICES: Json = {
    "as_of": "2026-11-01",
    "models": {
        "cheap": CHEAP,
        "dear": {**DEAR, "fast": FAST},
        "long": {**CHEAP, "long_prompt": {**LONG, "above_prompt_tokens": 1000}},
    },
    "embeddings": {"small": 20, "large": 130},
    "sandbox": SANDBOX,
    "turn_estimate_microusd": 250_000,
}
NANOUSD_PER_SECOND = 32_500
MICRO = 1000


@contextmanager
def priced(rest: Connection, admin: Connection, **changes: object) -> Iterator[None]:
    """A deployment with these prices; afterwards the database is as one that no endpoint has told its own."""
    SERVICE.call(rest, "set_prices_v1", prices={**PRICES, **changes})
    try:
        yield
    finally:
        admin.execute("update private.price_list set list = '{}', dearest = null, dearest_fast = null")


def sandbox_microusd(milliseconds: int) -> int:
    """What so much of a sandbox costs, reckoned here a second time."""
    return ceil(milliseconds * NANOUSD_PER_SECOND / 1_000_000)


def tokens_microusd(price: Json, usage: Json) -> int:
    """What a request costs, reckoned here a second time; its cache was written for five minutes."""
    names = {"input_tokens": "input", "output_tokens": "output", "cache_read_input_tokens": "cache_read"}
    names["cache_creation_input_tokens"] = "cache_write_5m"
    return ceil(sum(usage.get(name, 0) * price[of] for name, of in names.items()) / MICRO)


def use(rest: Connection, run: Run, n: int, id: str = "a", model: str | None = "cheap", **usage: object) -> Json:
    """The answer of append_events_v1 to the end of a request to a model."""
    named = {"model": model} if model else {}
    return say(rest, run.runner, n, "span.model_request_end", model_request_start_id=id, model_usage=usage, **named)


def entries(admin: Connection, run: Run) -> list[tuple[str, str | None, int]]:
    """The run's movements, in order: which, of what, how much."""
    query = "select entry, kind, amount_microusd from public.ledger where run_id = %s order by id"
    return [tuple(row) for row in admin.execute(query, (run.id,))]


def spends(admin: Connection, run: Run, kind: str = "model") -> list[Json]:
    """The run's ledger rows of this kind."""
    query = "select to_jsonb(l) from public.ledger l where run_id = %s and kind = %s order by id"
    return [dict(row[0]) for row in admin.execute(query, (run.id, kind))]


def record(rest: Connection, run: Run, sandbox: str | None = None) -> str:
    """The run's sandbox, stored; its id."""
    sandbox = sandbox or f"sbx-{run.id}"
    SERVICE.call(rest, "record_sandbox_v1", run_id=run.id, sandbox_id=sandbox, template="base")
    return sandbox


def run_on(admin: Connection, sandbox: str, seconds: float) -> None:
    """The sandbox has run for so much longer than it is charged for."""
    query = (
        "update public.sandbox_executions set metered_at = metered_at - make_interval(secs => %s) where sandbox_id = %s"
    )
    admin.execute(query, (seconds, sandbox))


def life(admin: Connection, sandbox: str) -> Json:
    """The sandbox's row."""
    return dict(scalar(admin, "select to_jsonb(x) from public.sandbox_executions x where sandbox_id = %s", (sandbox,)))


def month(rest: Connection, owner: Person) -> Json:
    """This month, as its owner reads it."""
    return dict(owner.call(rest, "read_usage_v1")["month"])


def cost_of(admin: Connection, session_id: UUID) -> int:
    """What the session has cost."""
    return int(scalar(admin, "select cost_microusd from public.agent_sessions where id = %s", (session_id,)))

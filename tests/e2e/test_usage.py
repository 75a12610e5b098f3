"""Money over HTTP: what was spent, to the millionth of a dollar, and what is refused when it is gone."""

from math import ceil
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import APIStatusError

from functions import prices
from functions.limits import deployed
from local.stack import Stack
from sandstream.client import Sandstream
from sandstream.errors import BudgetExceededError
from tests.conftest import Person
from tests.e2e import official
from tests.e2e.conversing import bash, begin, message, said, script, send, turn
from tests.e2e.faults import endpoints
from tests.e2e.operating import allow
from tests.e2e.sandboxes import until
from tests.e2e.sweeping import execute, settings, swept
from tests.e2e.test_cli import environment, sandstream

Json = dict[str, Any]
PLAN = {"commands": [{"command": "true"}]}
# The local stack's sandboxes have two processors and a GiB.
SANDBOX_NANOUSD_PER_SECOND = 2 * 14_000 + 1 * 4_500
# A plan of one command reserves its sandbox for as long as it may last: 300 s for the command and 30 s beside it.
PLAN_MICROUSD = ceil(330 * SANDBOX_NANOUSD_PER_SECOND / 1000)
TOKENS = {
    "input_tokens": 1001,
    "output_tokens": 203,
    "cache_creation_input_tokens": 57,
    "cache_read_input_tokens": 4003,
}


def cents(amount: int) -> Json:
    """A budget on the wire."""
    return {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}


async def usage(person: Person, **days: str) -> Json:
    """What GET /v1/usage answers."""
    async with person.endpoints() as http:
        answer = await http.get("/v1/usage", params=days)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def ledger(person: Person) -> list[Json]:
    """The rows that the person may read."""
    async with person.tables() as http:
        rows: list[Json] = (await http.get("/ledger", params={"order": "id"})).json()
    return rows


async def settled(person: Person, session_id: object) -> None:
    """Returns once nothing of the session is metered any more: what it cost stands."""

    async def closed() -> bool | None:
        async with person.tables() as http:
            found = await http.get("/sandbox_executions", params={"session_id": f"eq.{session_id}"})
        return all(row["metered_at"] is None for row in found.json()) or None

    await until(closed, "the sandbox to be paid for")


def assert_adds_up(spent: Json, rows: list[Json]) -> None:
    """The days, the month and the ledger tell of the same money."""
    total = sum(row["amount_microusd"] for row in rows if row["entry"] == "spend")
    assert total > 0
    assert sum(day["amount_microusd"] for day in spent["days"]) == spent["month"]["spent_microusd"] == total


async def test_a_plan_costs_its_sandboxs_seconds(owner: Person, stranger: Person, client: Sandstream) -> None:
    """One row for the day, of as many milliseconds as were metered; what was reserved is free again; nobody else's."""
    run = await client.submit(["true"])
    assert (await usage(owner))["month"]["reserved_microusd"] in (0, PLAN_MICROUSD)
    await client.result(run)
    await settled(owner, run.session_id)
    spent, rows = await usage(owner), await ledger(owner)
    assert_adds_up(spent, rows)
    assert [row["amount_microusd"] for row in rows if row["entry"] != "spend"] == [PLAN_MICROUSD, PLAN_MICROUSD]
    (day,) = spent["days"]
    assert (day["kind"], day["model"], day["quantity"].keys()) == ("sandbox", None, {"milliseconds"})
    assert day["quantity"]["milliseconds"] == sum(row["quantity"].get("milliseconds", 0) for row in rows)
    assert spent["month"]["reserved_microusd"] == 0
    assert (spent["month"]["limit_microusd"], spent["month"]["remainder_microusd"]) == (None, None)
    assert spent["prices_as_of"] == prices.read().as_of.isoformat()
    assert (await usage(stranger))["days"] == await ledger(stranger) == []


async def test_a_turn_costs_its_tokens_by_their_kinds(owner: Person) -> None:
    """Each request at the model's own price, rounded up once; days, session and ledger say the same."""
    word = script(owner.stack, bash("true", usage=TOKENS), said("done", usage=TOKENS))
    async with official.sdk(owner) as client:
        session_id = await begin(client, word)
        await turn(client, session_id)
    rows = [row for row in await ledger(owner) if row["kind"] == "model"]
    price = prices.read().models["claude-sonnet-5"]
    nano = 1001 * price.input + 203 * price.output + 57 * price.cache_write_5m + 4003 * price.cache_read
    of_script = [row for row in rows if row["quantity"].get("cache_read_input_tokens") == 4003]
    assert [row["amount_microusd"] for row in of_script] == [ceil(nano / 1000)] * 2
    assert {(row["price"], row["is_known"]) for row in of_script} == {("claude-sonnet-5", True)}
    days = [day for day in (await usage(owner))["days"] if day["kind"] == "model"]
    assert sum(day["amount_microusd"] for day in days) == sum(row["amount_microusd"] for row in rows)
    for kind in TOKENS:
        counted = sum(row["quantity"].get(kind, 0) for row in rows)
        assert sum(day["quantity"].get(kind, 0) for day in days) == counted >= 2 * TOKENS[kind]


async def test_an_idle_sandbox_is_charged_by_the_sweep(stack: Stack, owner: Person) -> None:
    """E2B pauses it and tells nobody: the time that it was awake is charged once, and the log says so."""
    word = script(stack, said("done"))
    async with official.sdk(owner) as client:
        session_id = await begin(client, word)
        await turn(client, session_id)
    execute(
        stack,
        "update public.sandbox_executions set metered_at = metered_at - interval '1000 s' where session_id = %s"
        " returning sandbox_id",
        (session_id,),
    )
    before = (await usage(owner))["month"]["spent_microusd"]
    deeds = await swept(stack)
    assert any(deed.did == "settled" and str(deed.reason).endswith(" sandboxes") for deed in deeds)
    spent = await usage(owner)
    # It was awake for IDLE_SANDBOX_SECONDS, and paused for the rest.
    assert spent["month"]["spent_microusd"] - before == 300 * SANDBOX_NANOUSD_PER_SECOND / 1000
    assert_adds_up(spent, await ledger(owner))
    await swept(stack)
    assert (await usage(owner))["month"] == spent["month"]


async def test_a_month_that_is_spent_starts_nothing(owner: Person, client: Sandstream) -> None:
    """402 with what it would cost and what is left; nothing is written; once the limit is raised, it runs."""
    await allow(owner, max_month_microusd=5_000)
    async with owner.endpoints() as http:
        refused = await http.post("/v1/runs", json=PLAN, headers={"Idempotency-Key": "again"})
        told = official.plain(refused, 402)
        assert (told["type"], told["estimate_microusd"]) == ("budget_exceeded", PLAN_MICROUSD)
        assert told["remainder_microusd"] == 5_000
        assert "$0.0050" in told["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert (await http.get("/v1/sessions")).json()["data"] == []
        assert await ledger(owner) == []
        month = (await usage(owner))["month"]
        assert (month["limit_microusd"], month["remainder_microusd"]) == (5_000, 5_000)
        with pytest.raises(BudgetExceededError) as ours:
            await client.submit(["true"])
        assert ours.value.remainder_microusd == 5_000
        await allow(owner, max_month_microusd=50_000)
        accepted = await http.post("/v1/runs", json=PLAN, headers={"Idempotency-Key": "again"})
        assert accepted.status_code == 202, accepted.text
        await client.result(accepted.json()["id"])


async def test_a_plan_reserves_no_more_than_its_budget(owner: Person, client: Sandstream) -> None:
    """A month with a cent left takes a plan of a cent, and not the same plan without a budget."""
    await allow(owner, max_month_microusd=10_000)
    async with owner.endpoints() as http:
        assert official.plain(await http.post("/v1/runs", json=PLAN), 402)["estimate_microusd"] == PLAN_MICROUSD
        accepted = await http.post("/v1/runs", json={**PLAN, "budget": cents(1)})
        assert accepted.status_code == 202, accepted.text
        assert official.plain(await http.post("/v1/runs", json={**PLAN, "budget": cents(1)}), 402)
        await client.result(accepted.json()["id"])
    assert (await ledger(owner))[0]["amount_microusd"] == 10_000


@pytest.mark.parametrize(
    "budget", [{"type": "limit"}, {**cents(1), "type": "soft"}, {"type": "limit", "max_list_cost": {"amount": "0"}}, 1]
)
async def test_a_budget_that_is_none_is_refused(owner: Person, budget: Any) -> None:
    """400, as for a session's."""
    async with owner.endpoints() as http:
        told = official.plain(await http.post("/v1/runs", json={**PLAN, "budget": budget}), 400)
    assert told["param"].startswith("budget")


async def test_a_message_without_money_is_not_said(owner: Person) -> None:
    """The official SDK gets the 402 once, and the session's log stays empty."""
    async with official.sdk(owner) as client, owner.endpoints() as http:
        session = await client.beta.sessions.create(agent="default", environment_id="default")
        await allow(owner, max_month_microusd=0)
        with pytest.raises(APIStatusError) as refused:
            await send(client, session.id, message("hello"))
        assert refused.value.status_code == 402
        assert official.error(refused.value)["remainder_microusd"] == 0
        assert (await http.get(f"/v1/sessions/{session.id}/events")).json()["data"] == []


async def test_a_deployments_month_holds_for_everyone(
    stack: Stack, owner: Person, service: httpx.AsyncClient, tmp_path: Path
) -> None:
    """MAX_MONTHLY_COST_PER_USER is what an owner without exceptions may spend."""
    try:
        async with endpoints(stack, owner, tmp_path, MAX_MONTHLY_COST_PER_USER="0") as http:
            assert official.plain(await http.post("/v1/runs", json=PLAN), 402)["remainder_microusd"] == 0
    finally:
        # The other tests' endpoints have told theirs, and do not tell them again.
        (await service.post("/rpc/set_limits_v1", json=deployed(settings(stack)))).raise_for_status()


async def test_days_are_the_callers_to_choose(owner: Person) -> None:
    """From one day to a year and a day; what is no day, or no such stretch, is 400 with the parameter's name."""
    leap = await usage(owner, **{"from": "2024-01-01", "to": "2024-12-31"})
    assert (leap["from"], leap["to"], leap["days"]) == ("2024-01-01", "2024-12-31", [])
    async with owner.endpoints() as http:
        for wrong in ({"from": "2024-01-01", "to": "2025-01-01"}, {"from": "2024-01-02", "to": "2024-01-01"}):
            assert official.plain(await http.get("/v1/usage", params=wrong), 400)["param"] == "from"
        for name in ("from", "to"):
            assert official.plain(await http.get("/v1/usage", params={name: "1700000000"}), 400)["param"] == name


async def test_usage_at_a_terminal(owner: Person) -> None:
    """`sandstream run --budget` and then `sandstream usage`: the month, the day, the prices' date."""
    code, _, _ = await sandstream(environment(owner), "run", "--budget", "0.05", "--", "true")
    assert code == 0
    code, out, _ = await sandstream(environment(owner), "usage")
    assert code == 0
    assert "spent" in out
    assert " sandbox " in out
    assert prices.read().as_of.isoformat() in out
    code, out, _ = await sandstream(environment(owner), "usage", "--from", "2024-01-01", "--to", "2024-01-31")
    assert (code, "nothing from 2024-01-01 to 2024-01-31" in out) == (0, True)


async def test_a_refused_plan_at_a_terminal(owner: Person) -> None:
    """One line that says what is left, exit code 1."""
    await allow(owner, max_month_microusd=0)
    code, out, err = await sandstream(environment(owner), "run", "--", "true")
    assert (code, out) == (1, "")
    assert "is left" in err

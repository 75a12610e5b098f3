"""Runs that spend their budget: they stop, say so, keep what they have, and go on once it was raised."""

from typing import Any
from uuid import UUID

import httpx
import psycopg
from anthropic import AsyncAnthropic

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person, sign_up
from tests.e2e.conversing import (
    bash,
    begin,
    converse,
    log,
    of,
    official,
    results,
    said,
    script,
    seq,
    stop_reason,
    texts,
    turn,
    types,
)
from tests.e2e.runners import Budgeted, endpoints_with, spent, submit
from tests.e2e.sandboxes import is_gone, row, sandbox_of_session, until
from tests.e2e.test_runs import assert_whole

# A second of a sandbox costs some 32 of these.
PLAN_MICROUSD = 40
CENT = 10_000
# Over the month's limit with one request, and more than a turn is promised at its admission.
MONTH_MICROUSD = 400_000
OPERATOR = 'update auth.users set raw_app_meta_data = \'{"sandstream_role": "admin"}\' where id = %s'
HALF_A_CENT = {"input_tokens": 1_500, "output_tokens": 250}
A_DOLLAR = {"input_tokens": 400_000, "output_tokens": 40_000}


def cents(amount: int) -> Any:
    """A budget as the wire has it."""
    return {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}


async def test_a_plan_that_spends_its_budget_on_its_sandbox(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient
) -> None:
    """Its command is ended, the next is not begun, and nothing is paid for any more."""
    async with endpoints_with(stack, way=Budgeted(PLAN_MICROUSD)) as here:
        run = await submit(here, owner, "echo begun; sleep 600", "echo never")
    events = [event async for event in client.watch(UUID(run["session_id"]))]
    assert_whole(events)
    names = [event.type for event in events]
    assert names[-4:] == ["budget.reached", "command.completed", "run.failed", "session.status_idle"]
    budget, completed, ended, idle = (event.data for event in events[-4:])
    assert (budget["scope"], budget["limit_microusd"]) == ("run", PLAN_MICROUSD)
    assert budget["spent_microusd"] >= PLAN_MICROUSD
    assert completed["budget_reached"] is True
    assert ended["error"]["type"] == "budget_reached"
    assert ended["result"] == {"stop_reason": idle["stop_reason"], "commands": 2, "completed": 1, "failed": 1}
    assert idle["stop_reason"] == {"type": "budget_reached"}
    assert sum(move["amount_microusd"] for move in await spent(service, run["session_id"])) >= PLAN_MICROUSD
    sandbox_id = str((await row(service, UUID(run["id"])))["sandbox_id"])
    await until(lambda: is_gone(stack, sandbox_id), "the sandbox to be killed")


async def test_a_session_that_spends_its_budget_goes_on_when_it_is_raised(
    stack: Stack, owner: Person, service: httpx.AsyncClient
) -> None:
    """Up to the request that went over it the session was under it; files and memory are there for the next message."""
    word = script(
        stack,
        bash("echo treasure > chest.txt", usage=HALF_A_CENT),
        bash("echo two", usage=HALF_A_CENT),
        bash("echo three", usage=HALF_A_CENT),
        said("never said"),
    )
    again = script(stack, bash("cat chest.txt"), said("It was {{memory:password is ([a-z]+)}}."))
    async with official(owner) as client:
        session_id = await begin(client, f"{word} the password is swordfish", budget=cents(1))
        await assert_stopped(client, service, session_id, "session", CENT)
        await client.beta.sessions.update(session_id, budget=cents(100))
        events = await converse(client, session_id, f"{again} what was the password?")
        assert (results(events), texts(events)[-1]) == (["treasure"], "It was swordfish.")
        assert stop_reason(events) == "end_turn"
        await log(client, session_id)


async def test_a_turn_is_interrupted_when_the_month_is_spent(
    stack: Stack, owner: Person, service: httpx.AsyncClient
) -> None:
    """Nothing in the sandbox knows of that limit: the log's answer stops the tool that runs, and files are kept.

    They outlive the sandbox, too.
    """
    await limit_month(stack, owner, MONTH_MICROUSD)
    word = script(
        stack, bash("echo treasure > chest.txt"), bash("echo begun; sleep 600", usage=A_DOLLAR), said("never said")
    )
    async with official(owner) as client:
        session_id = await begin(client, word)
        await assert_stopped(client, service, session_id, "month", MONTH_MICROUSD)
        await (await sandbox_of_session(stack, session_id)).kill()
        await limit_month(stack, owner, 10 * MONTH_MICROUSD)
        events = await converse(client, session_id, script(stack, bash("cat chest.txt"), said("Found.")))
        assert (results(events), texts(events)) == (["treasure"], ["Let me see.", "Found."])
        assert [told.files for told in of(events, "sandbox.files_restored")] == [1]


async def assert_stopped(
    client: AsyncAnthropic, service: httpx.AsyncClient, session_id: str, scope: str, limit: int
) -> None:
    """The turn ended by the budget, told once, and what came after the request that went over it cost no tokens."""
    events = await turn(client, session_id)
    assert stop_reason(events) == "budget_reached"
    assert "never said" not in texts(events)
    (told,) = of(events, "budget.reached")
    assert (told.scope, told.limit_microusd) == (scope, limit)
    ended = seq(told)
    assert types(events)[-2:] == ["run.succeeded", "session.status_idle"]
    assert not [event for event in of(events, "span.model_request_start") if seq(event) > ended]
    amounts = [(move["kind"], int(move["amount_microusd"])) for move in await spent(service, session_id)]
    requests = [number for number, (kind, amount) in enumerate(amounts) if kind == "model" and amount]
    before = sum(amount for _, amount in amounts[: requests[-1]])
    assert before < limit <= told.spent_microusd


async def limit_month(stack: Stack, owner: Person, microusd: int) -> None:
    """An operator's word."""
    operator = await sign_up(stack)
    with psycopg.connect(stack.postgres.dsn(), autocommit=True) as admin:
        admin.execute(OPERATOR, (operator.id,))
    async with operator.tables() as tables:
        answer = await tables.post(
            "/rpc/set_account_limits_v1", json={"owner": str(owner.id), "max_month_microusd": microusd}
        )
    assert answer.status_code == httpx.codes.OK, answer.text

"""Runners of earlier releases against the SQL and the endpoints of today: a deployment is replaced while runs go on."""

from pathlib import Path
from uuid import UUID

import httpx
import pytest

from functions.bundle import Bundle
from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.conversing import bash, converse, log, official, results, said, script, stop_reason, texts, turn
from tests.e2e.runners import as_it_was_started, begin_at, endpoints_with, rows, submit
from tests.e2e.sandboxes import until
from tests.e2e.test_runs import assert_whole, closing, of_type, text_of

PREVIOUS = Path(__file__).parent / "previous"
PLANS_ONLY, BEFORE_THE_LEDGER = "runner-81967d47a23fce5c.pyz", "runner-052eb1825eef53b5.pyz"


def runner(name: str) -> Bundle:
    """As it was released."""
    return as_it_was_started(Bundle((PREVIOUS / name).read_bytes(), name))


@pytest.mark.parametrize("name", [PLANS_ONLY, BEFORE_THE_LEDGER])
async def test_a_plan_finishes(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient, name: str
) -> None:
    """Every event is in the log, in order; its end is told, and its sandbox is closed and paid for."""
    async with endpoints_with(stack, runner(name)) as here:
        run = await submit(here, owner, "echo one; echo two >&2", "for i in $(seq 300); do echo $i; done", "exit 3")
    events = [event async for event in client.watch(UUID(run["session_id"]))]
    assert_whole(events)
    assert of_type(events, "run.started")[0].data["runner"] == name.removesuffix(".pyz")
    assert [event.type for event in events][-2:] == ["run.failed", "session.status_idle"]
    assert [event.data["exit_code"] for event in of_type(events, "command.completed")] == [0, 0, 3]
    assert text_of(events, 1) == "".join(f"{number}\n" for number in range(1, 301))
    ended = await client.run(UUID(run["id"]))
    assert (ended.status, ended.result) == ("failed", {"commands": 3, "completed": 3, "failed": 1})
    (stored,) = await rows(service, "agent_runs", id=run["id"])
    await until(lambda: closing(service, stored["sandbox_id"]), "the sandbox's row to be closed")
    assert {move["entry"] for move in await rows(service, "ledger", run_id=run["id"])} == {"reserve", "spend", "settle"}


async def test_a_conversation_goes_on(stack: Stack, owner: Person, service: httpx.AsyncClient) -> None:
    """Two turns, with a tool and with memory; the second is today's runner in the sandbox that the older one left."""
    first = script(stack, bash("echo treasure > chest.txt; cat chest.txt"), said("Hidden."))
    second = script(stack, bash("cat chest.txt"), said("It was {{memory:password is ([a-z]+)}}."))
    async with official(owner) as reader, endpoints_with(stack, runner(BEFORE_THE_LEDGER)) as here:
        session_id = await begin_at(here, owner, f"{first} the password is swordfish")
        events = await turn(reader, session_id)
        assert (results(events), texts(events)[-1], stop_reason(events)) == (["treasure"], "Hidden.", "end_turn")
        events = await converse(reader, session_id, f"{second} what was the password?")
        assert (results(events), texts(events)[-1]) == (["treasure"], "It was swordfish.")
        whole = await log(reader, session_id)
    runners = [event.runner for event in whole if event.type == "run.started"]
    assert runners[0] == BEFORE_THE_LEDGER.removesuffix(".pyz")
    assert runners[1] not in (runners[0], PLANS_ONLY.removesuffix(".pyz"))
    spends = await rows(service, "ledger", session_id=session_id, entry="spend", kind="model")
    assert len([move for move in spends if move["amount_microusd"]]) == 4

"""A sandbox whose wall clock is wrong: it is only shown, and decides nothing."""

from datetime import datetime, timedelta
from uuid import UUID

import httpx
import pytest

from functions.bundle import build
from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.conversing import bash, log, official, said, script, turn
from tests.e2e.runners import Json, begin_at, endpoints_with, rows, spent, submit, with_clock_off
from tests.e2e.sandboxes import row, until
from tests.e2e.test_runs import assert_whole, closing

MINUTES = 10
SHIFTS = pytest.mark.parametrize("minutes", [-MINUTES, MINUTES])
SLACK = timedelta(minutes=1)
USAGE = {"input_tokens": 1_500, "output_tokens": 250}


def moves(ledger: list[Json]) -> list[tuple[str, object]]:
    """What was paid for, with the tokens; a sandbox's time is what it is."""
    return [(move["kind"], move["quantity"] if move["kind"] == "model" else None) for move in ledger]


def assert_off(events: list[Json], minutes: int) -> None:
    """The runner's own events show its clock, and the database's stands beside it."""
    shown = [
        datetime.fromisoformat(event["produced_at"]) - datetime.fromisoformat(event["created_at"])
        for event in events
        if event["n"] is not None
    ]
    assert shown
    assert all(abs(shift - timedelta(minutes=minutes)) < SLACK for shift in shown)


async def assert_charged_by_the_database(service: httpx.AsyncClient, session_id: str) -> None:
    """The sandbox's time lies between the run's beginning and now, by one clock; no row is of another time."""
    (run,) = await rows(service, "agent_runs", session_id=session_id)
    began = datetime.fromisoformat(run["created_at"])
    for move in await spent(service, session_id):
        lasted = timedelta(milliseconds=(move["quantity"] or {}).get("milliseconds", 0))
        assert lasted <= datetime.fromisoformat(move["created_at"]) - began < SLACK * 2


@SHIFTS
async def test_a_plan_ends_the_same(
    stack: Stack, owner: Person, client: Sandstream, service: httpx.AsyncClient, minutes: int
) -> None:
    """The same events under the same seqs, the same status, the same movements of money."""
    told = []
    for shift in (0, minutes):
        async with endpoints_with(stack, with_clock_off(build(), shift * 60)) as here:
            run = await submit(here, owner, "sleep 0.3; echo one", "exit 3")
        events = [event async for event in client.watch(UUID(run["session_id"]))]
        assert_whole(events)
        assert_off(await rows(service, "agent_events", session_id=run["session_id"]), shift)
        sandbox_id = str((await row(service, UUID(run["id"])))["sandbox_id"])
        await until(lambda gone=sandbox_id: closing(service, gone), "the sandbox's last second to be charged")
        await assert_charged_by_the_database(service, run["session_id"])
        ended = await client.run(UUID(run["id"]))
        ledger = await spent(service, run["session_id"])
        told.append(([event.type for event in events], ended.status, ended.result, ended.error, moves(ledger)))
    assert told[0] == told[1]


@SHIFTS
async def test_a_turn_ends_the_same(stack: Stack, owner: Person, service: httpx.AsyncClient, minutes: int) -> None:
    """A turn with a tool; its tokens cost the same."""
    told = []
    word = script(stack, bash("echo one", usage=USAGE), said("Done.", usage=USAGE))
    async with official(owner) as client:
        for shift in (0, minutes):
            async with endpoints_with(stack, with_clock_off(build(), shift * 60)) as here:
                session_id = await begin_at(here, owner, word)
            events = await turn(client, session_id)
            assert_off(await rows(service, "agent_events", session_id=session_id), shift)
            await assert_charged_by_the_database(service, session_id)
            whole = await log(client, session_id)
            (run,) = await rows(service, "agent_runs", session_id=session_id)
            ledger = await spent(service, session_id)
            told.append(([event.type for event in whole], len(events), run["status"], run["result"], moves(ledger)))
    assert told[0] == told[1]

"""`sandstream ask`: endpoints that a test scripts, and a session's log behind them that the test writes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from starlette.responses import JSONResponse

from sandstream import Sandstream, cli_ask, shell
from sandstream.research import ResearchTask
from tests.client.asking import ACCEPTED, COMPLETED, REMEMBERED, failed, found_out
from tests.client.fake_endpoints import FakeEndpoints, refused, serving
from tests.client.test_client import RUN
from tests.client.watching import eventually
from tests.client.world import PUBLISHABLE_KEY, Person, World, Writer

SANDSTREAM = str(Path(sys.executable).with_name("sandstream"))
QUESTION = "What is the price of bitcoin?"


@pytest.fixture
async def person(world: World) -> Person:
    return await world.person()


@pytest.fixture
async def run(person: Person) -> Writer:
    return await person.admit()


@pytest.fixture
async def endpoints(world: World) -> AsyncIterator[FakeEndpoints]:
    config = {"supabase_url": world.supabase.url, "publishable_key": PUBLISHABLE_KEY}
    async with serving(FakeEndpoints(config)) as scripted:
        yield scripted


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 80 columns would show."""
    shown = io.StringIO()
    monkeypatch.setattr(cli_ask, "out", Console(file=shown, width=80, highlight=False, soft_wrap=True))
    return shown


def of(run: Writer, body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The body as it is for this run's session."""
    ids = {"session_id": run.session_id} | ({"run_id": run.run_id} if body.get("run_id") else {})
    return {**body, **ids, **changes}


async def sandstream(endpoints: FakeEndpoints, person: Person, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, whose output is no terminal."""
    env = {"PATH": os.environ["PATH"], "SANDSTREAM_URL": endpoints.url, "SANDSTREAM_KEY": person.token}
    process = await asyncio.create_subprocess_exec(
        SANDSTREAM, *arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_question_is_asked_watched_and_answered(endpoints: FakeEndpoints, person: Person, run: Writer) -> None:
    """Every option reaches the endpoints; plan, answer and cost are printed in 80 columns, without colours."""
    await run.write(found_out().events)
    await run.finish()
    endpoints.script(JSONResponse(of(run, ACCEPTED), 202), JSONResponse(of(run, COMPLETED)))
    options = (
        "--context", "in dollars", "--context", "today", "--max-duration", "90", "--budget", "0.50", "--no-cache",
        "--max-age", "0", "--model", "claude-sonnet-5", "--egress", "a.test", "--egress", "b.test",
    )  # fmt: skip
    code, out, err = await sandstream(endpoints, person, "ask", QUESTION, *options)
    assert (code, err) == (0, "")
    assert endpoints.asked[0].body == {
        "query": QUESTION,
        "context": ["in dollars", "today"],
        "options": {
            "max_duration": 90,
            "budget": {"type": "limit", "max_list_cost": {"amount": "50", "currency": "USD"}},
            "use_cache": False,
            "max_age": 0,
            "model": "claude-sonnet-5",
            "egress": ["a.test", "b.test"],
        },
    }
    for words in ("plan: 2 steps", "[1] done: exit 0", "Bitcoin costs 67,123.45 dollars.", "$0.0031"):
        assert words in out
    assert "\x1b" not in out
    assert max(len(line) for line in out.splitlines()) <= 80


async def test_steps_are_shown_while_they_run(
    endpoints: FakeEndpoints, person: Person, run: Writer, screen: io.StringIO
) -> None:
    """Each event as soon as it is in the log, not when all is over."""
    events = found_out().events
    started = next(at for at, event in enumerate(events) if event.type == "command.started") + 1
    endpoints.script(JSONResponse(of(run, COMPLETED)))
    async with Sandstream(endpoints.url, person.token) as client:
        showing = asyncio.create_task(cli_ask.show(client, ResearchTask.model_validate(of(run, ACCEPTED))))
        await run.write(events[:started])
        await eventually(lambda: "[0] started" in screen.getvalue())
        assert "[1] started" not in screen.getvalue()
        await run.write(events[started:])
        await run.finish()
        assert (await showing).status == "completed"
    assert screen.getvalue().count("Bitcoin costs") == 1


async def test_what_is_remembered_is_shown_without_a_watch(
    endpoints: FakeEndpoints, person: Person, run: Writer, screen: io.StringIO
) -> None:
    """The answer is there already; only what it cost is asked for."""
    endpoints.script(JSONResponse(of(run, {**COMPLETED, **REMEMBERED}, cost_microusd=1)))
    async with Sandstream(endpoints.url, person.token) as client:
        await cli_ask.show(client, ResearchTask.model_validate(of(run, REMEMBERED)))
    assert [asked.method for asked in endpoints.asked] == ["GET"]
    shown = screen.getvalue()
    assert shown.index("Bitcoin costs") < shown.index("from memory, found 42 s ago, similarity 0.99")
    assert shown.splitlines()[-1] == "completed · $0.0001"


async def test_ctrl_c_asks_the_run_to_stop(
    endpoints: FakeEndpoints,
    person: Person,
    run: Writer,
    screen: io.StringIO,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever leaves does not leave it running, and is told so."""
    monkeypatch.setattr(shell, "err", Console(stderr=True, width=80, highlight=False))
    endpoints.script(JSONResponse({**RUN, "id": run.run_id, "session_id": run.session_id}, 202))
    async with Sandstream(endpoints.url, person.token) as client:
        showing = asyncio.create_task(cli_ask.show(client, ResearchTask.model_validate(of(run, ACCEPTED))))
        await run.write(found_out().events[:3])
        await eventually(lambda: "plan: 2 steps" in screen.getvalue())
        # What asyncio.run() does to its task on SIGINT.
        showing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await showing
    assert [(asked.method, asked.path) for asked in endpoints.asked] == [("POST", f"/v1/runs/{run.run_id}/cancel")]
    assert "to stop" in capsys.readouterr().err


async def test_json_is_the_log(endpoints: FakeEndpoints, person: Person, run: Writer) -> None:
    """One event a line, also where an answer was remembered and there is no run; the exit code says the rest."""
    await run.write(found_out().events)
    last = await run.finish()
    endpoints.script(JSONResponse(of(run, REMEMBERED)))
    code, out, _ = await sandstream(endpoints, person, "ask", "--json", QUESTION)
    assert code == 0
    assert [json.loads(line)["seq"] for line in out.splitlines()] == list(range(1, last + 1))
    budget_reached = failed("budget_reached", "the plan costs too much")
    endpoints.script(JSONResponse(of(run, ACCEPTED), 202), JSONResponse(of(run, budget_reached)))
    code, out, _ = await sandstream(endpoints, person, "ask", "--json", QUESTION)
    assert (code, len(out.splitlines())) == (4, last)


async def test_a_refusal_is_one_line(endpoints: FakeEndpoints, person: Person) -> None:
    """Exit code 1, no trace."""
    endpoints.script(refused(400, "invalid_request_error", "query: must not be empty"))
    code, out, err = await sandstream(endpoints, person, "ask", "")
    assert (code, out, err) == (1, "", "query: must not be empty\n")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (COMPLETED, 0),
        (REMEMBERED, 0),
        (failed("research_failed", "nothing came of it"), 1),
        (failed("budget_reached", "spent"), 4),
        (failed("timed_out", "too slow", "timed_out"), 1),
        ({**COMPLETED, "status": "lost"}, 1),
        ({**COMPLETED, "status": "cancelled"}, 130),
        ({**COMPLETED, "status": "of_tomorrow"}, 1),
    ],
)
def test_how_a_question_ended_is_the_exit_code(body: dict[str, Any], code: int) -> None:
    """As for runs: a script can tell a spent budget from a failure."""
    assert cli_ask.exit_code(ResearchTask.model_validate(body)) == code

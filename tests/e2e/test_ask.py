"""`sandstream ask`, as a person at a terminal and as a script use it."""

from __future__ import annotations

import json

from rich.cells import cell_len

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.researching import answer, plan, scripts, step, turn
from tests.e2e.terminal import terminal
from tests.e2e.test_chat import sandstream


async def test_a_question_is_answered_and_then_remembered(stack: Stack, owner: Person) -> None:
    """The plan, its steps, the answer, its evidence and its cost; then at once, and where it came from."""
    looked_up = plan(step("echo 'the moon is 384400 km away'"), step("echo measured"))
    said = answer("The moon is 384400 km away.", value="384400")
    stack.script_model("moon", *scripts("moon", turn(looked_up), turn(said)))
    code, out, err = await sandstream(owner, "ask", "How far away is the moon?")
    assert (code, err) == (0, "")
    for words in ("plan: 2 steps", "echo measured", "the moon is 384400 km away", "The moon is 384400 km", "completed"):
        assert words in out
    assert "\x1b" not in out
    assert all(cell_len(line) <= 80 for line in out.splitlines())
    again = await sandstream(owner, "ask", "how far away is the moon")
    assert again[0] == 0
    assert "from memory" in again[1]
    assert "plan:" not in again[1]
    fresh = await sandstream(owner, "ask", "how far away is the moon", "--no-cache", "--json")
    events = [json.loads(line) for line in fresh[1].splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "plan.created" in {event["type"] for event in events}


async def test_ctrl_c_stops_the_question(stack: Stack, owner: Person, client: Sandstream) -> None:
    """Its run is asked to stop, and the shell hears that it was interrupted."""
    stack.script_model("comet", *scripts("comet", turn(plan(step("sleep 200", timeout=200)))))
    async with terminal(owner, "ask", "Where is the comet?") as shown:
        await shown.until("started")
        shown.ctrl_c()
        assert await shown.end() == 130
    assert "to stop" in shown.screen
    (task,) = (await client.research.list(limit=1)).data
    events = [event.type async for event in client.watch(task.session_id)]
    assert events[-2:] == ["run.cancelled", "session.status_idle"]


async def test_what_cannot_be_asked_is_one_line(owner: Person) -> None:
    """Without a trace."""
    code, out, err = await sandstream(owner, "ask", "")
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert "the question is empty" in err

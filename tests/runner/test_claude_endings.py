"""How a conversation's run ends when something comes in between: killed runners, late messages, spent budgets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sandbox_scripts.drivers.claude import files
from tests.runner.log_server import Fault
from tests.runner.talk import ASK, Talk, agent, toolset
from tests.runner.test_claude import assert_whole, resume, types

NOW_CANCELLED = ["cancelled", "hurry", {"type": "end_turn"}, None]
NOW_OVERDUE = ["timed_out", "stop", {"type": "retries_exhausted"}, {"type": "turn_overdue", "message": "too long"}]


def noted(talk: Talk, **facts: Any) -> None:
    """Changes what the dead runner had noted, as if it had come further."""
    path = talk.directory / "claude.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def budgets(talk: Talk) -> list[str]:
    """The budget that each start of the CLI was given, from the arguments that it tells."""
    told = [text.split() for text in talk.texts() if "--max-budget-usd" in text]
    return [words[words.index("--max-budget-usd") + 1] for words in told]


def deaf_in_its_second_turn(talk: Talk) -> Any:
    """A runner whose CLI has answered once, and does not hear the interrupt of its second turn."""
    talk.prepare(limits={"interrupt_seconds": 0.3})
    talk.log.message("one")
    talk.log.message("two")
    runner = talk.start("deaf_later")
    talk.log.wait(lambda: "you said two" in talk.texts())
    talk.say("user.interrupt")
    return runner


@pytest.mark.parametrize("ending", [NOW_CANCELLED, NOW_OVERDUE], ids=lambda ending: str(ending[0]))
def test_a_runner_killed_while_it_ends_the_cli_does_not_change_the_end(talk: Talk, ending: list[Any]) -> None:
    """Why the CLI is being ended is noted with the fact: the next runner carries that out, and tells nothing else."""
    talk.prepare()
    talk.log.message("hello")
    runner = talk.start("no_result")
    talk.log.wait(lambda: talk.texts() == ["you said hello"])
    talk.kill(runner)
    noted(talk, closing=True, ending=ending)
    assert talk.finish(resume(talk, "no_result")) == 0
    assert (talk.status(), talk.result()["stop_reason"]) == (ending[0], ending[2])
    assert talk.errors() == []
    assert_whole(talk)


def test_an_interrupt_that_a_runner_took_to_its_grave_is_passed_on(talk: Talk) -> None:
    """It was heard and noted, and the CLI had not been told: the next runner tells it."""
    talk.prepare()
    talk.log.message("hello")
    runner = talk.start("no_result")
    talk.log.wait(lambda: talk.texts() == ["you said hello"])
    talk.kill(runner)
    noted(talk, interrupt_seq=talk.log.say("user.interrupt"))
    assert talk.finish(resume(talk, "no_result")) == 0
    assert talk.status() == "cancelled"
    assert_whole(talk)


def test_an_interrupt_of_an_earlier_turn_is_not_passed_on(talk: Talk) -> None:
    """After a restart the turn that is on now goes on."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("one")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    talk.log.say("user.interrupt")
    talk.message_and_ring("two")
    talk.log.wait(lambda: "you said two" in talk.texts() and bool(talk.log.asked()))
    talk.kill(runner)
    runner = resume(talk, "ask")
    talk.log.wait(lambda: "run.resumed" in types(talk))
    talk.confirm_all()
    assert talk.finish(runner) == 0
    assert (talk.status(), talk.texts()[-1]) == ("succeeded", "all answered")
    assert_whole(talk)


def test_a_question_after_a_restart_in_the_second_turn_is_asked_once(talk: Talk) -> None:
    """What was read again and what is new are told apart by what was dealt with."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("one")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    talk.log.message("two")
    talk.confirm_all()
    talk.log.wait(lambda: "you said two" in talk.texts() and len(talk.log.of("session.status_idle")) == 2)
    talk.kill(runner)
    runner = resume(talk, "ask")
    talk.log.wait(lambda: "run.resumed" in types(talk))
    talk.confirm_all()
    assert talk.finish(runner) == 0
    assert len(talk.log.of("session.status_idle")) == 2
    assert talk.result()["turns"] == 2
    assert_whole(talk)


def test_a_message_that_comes_with_the_interrupt_that_nobody_hears_is_answered(talk: Talk) -> None:
    """The CLI has to be killed; what was said meanwhile is said to the next one."""
    runner = deaf_in_its_second_turn(talk)
    talk.log.before["take_input_v1"] = lambda: talk.log.message("three")
    talk.ring()
    assert talk.finish(runner) == 0
    assert [text for text in talk.texts() if text.startswith("you")][-1] == "you said three"
    assert_whole(talk)


def test_a_cli_whose_output_is_held_open_is_over_all_the_same(talk: Talk) -> None:
    """It has exited and left a process behind that holds its streams: the run ends as the result says."""
    talk.prepare()
    talk.log.message("hello")
    assert talk.finish(talk.start("holds_output")) == 0
    assert talk.status() == "succeeded"
    assert talk.watchdogs() == ["left_processes"]
    assert_whole(talk)


def test_a_turn_that_is_cut_off_does_not_forget_what_the_others_cost(talk: Talk) -> None:
    """One turn has its result, the next is killed: the first one's cost stands."""
    runner = deaf_in_its_second_turn(talk)
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert talk.result()["cost_microusd"] == 10_000


def test_each_start_of_the_cli_may_cost_what_is_left(talk: Talk) -> None:
    """The first is given the run's budget, the next what that one has left of it."""
    talk.prepare(budget_microusd=100_000)
    talk.log.message("one")
    talk.log.before["finish_run_v1"] = lambda: talk.log.message("two")
    assert talk.finish(talk.start("arguments")) == 0
    assert budgets(talk) == ["0.100000", "0.090000"]
    assert talk.result()["cost_microusd"] == 20_000


@pytest.mark.parametrize(("budget", "turns"), [(0, 0), (10_000, 1)])
def test_without_budget_nothing_is_started(talk: Talk, budget: int, turns: int) -> None:
    """The run ends and says why; what waits is for the run after the budget was raised."""
    talk.prepare(budget_microusd=budget)
    talk.log.message("one")
    talk.log.before["finish_run_v1"] = lambda: talk.log.message("two")
    assert talk.finish(talk.start()) == 0
    assert len(talk.texts()) == turns
    assert talk.status() == "succeeded"
    assert talk.result()["stop_reason"] == {"type": "budget_reached"}
    assert [told["limit_microusd"] for told in talk.log.of("budget.reached")] == [budget]


def test_a_question_is_given_up_before_the_run_is_over(talk: Talk) -> None:
    """Nobody answers, and the run's limit comes before the question's: Claude is told, and the turn ends well."""
    talk.prepare(agent=agent(toolset(ASK)), job={"limit_seconds": 8})
    talk.log.message("hello")
    assert talk.finish(talk.start("ask")) == 0
    assert "Nobody confirmed" in talk.log.of("agent.tool_result")[0]["content"][0]["text"]
    assert talk.status() == "succeeded"


def test_files_that_cannot_be_asked_for_just_now_are_asked_for_again(talk: Talk, tmp_path: Path) -> None:
    """An outage of a moment is no loss."""
    talk.log.files = saved(tmp_path)
    talk.log.fault("load_files_v1", Fault(500), Fault(503))
    talk.prepare(fresh=True)
    talk.log.message("hello")
    assert talk.finish(talk.start()) == 0
    assert [told["files"] for told in talk.log.of("sandbox.files_restored")] == [1]
    assert (talk.work / "a.txt").read_text() == "kept"


def test_files_that_could_not_be_unpacked_are_not_replaced(talk: Talk) -> None:
    """What is saved may still be good for something: a run without them does not write over it."""
    damaged = {"archive": "bm8gdGFy", "files": 1, "bytes": 6, "saved_at": "2026-11-21T08:00:00+00:00"}
    talk.log.files = dict(damaged)
    talk.prepare(fresh=True)
    talk.log.message("hello")
    assert talk.finish(talk.start()) == 0
    assert len(talk.log.of("sandbox.files_lost")) == 1
    assert talk.log.files == damaged


def saved(root: Path) -> dict[str, Any]:
    """A saved working directory with one file."""
    (root / "tree").mkdir()
    (root / "tree" / "a.txt").write_text("kept")
    snapshot = files.pack(str(root / "tree"))
    archive = base64.b64encode(snapshot.archive).decode()
    return {"archive": archive, "files": 1, "bytes": 4, "saved_at": "2026-11-21T08:00:00+00:00"}

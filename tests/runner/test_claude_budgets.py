"""A conversation whose budget is spent: the turn stops as for an interrupt, all is kept, a raised budget goes on."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from tests.runner.conftest import until
from tests.runner.log_server import Fault
from tests.runner.talk import ASK, Talk, agent, toolset
from tests.runner.test_claude import assert_whole, resume
from tests.runner.test_claude_endings import noted

SESSION = {"scope": "session", "spent_microusd": 12_345, "limit_microusd": 10_000}
RAISED = {"scope": "session", "spent_microusd": 21_000, "limit_microusd": 20_000}


def spend(talk: Talk, budget: dict[str, Any] | None = None) -> None:
    """From now on the log says that the budget is spent, and the doorbell rings."""
    with talk.log.changed:
        talk.log.budget_reached = budget or SESSION
    talk.ring()


def told(talk: Talk) -> list[dict[str, Any]]:
    """Which budgets the runner has told as spent."""
    return [{name: data[name] for name in SESSION} for data in talk.log.of("budget.reached")]


def assert_spent(talk: Talk, *budgets: dict[str, Any]) -> None:
    """The run ended well, by the budget, which was told; nobody is left, nothing stands twice."""
    assert talk.status() == "succeeded"
    assert talk.result()["stop_reason"] == {"type": "budget_reached"}
    assert told(talk) == list(budgets or [SESSION])
    assert talk.errors() == []
    assert_whole(talk)


def working(talk: Talk, way: str = "no_result") -> Any:
    """A runner whose turn is under way."""
    talk.prepare(limits={"interrupt_seconds": 0.5})
    talk.log.message("hello")
    runner = talk.start(way)
    talk.log.wait(lambda: talk.texts() == ["you said hello"])
    return runner


@pytest.mark.parametrize("way", ["no_result", "deaf"])
def test_the_turn_is_stopped_and_all_is_kept(talk: Talk, way: str) -> None:
    """Whether the CLI hears the interrupt or has to be ended: files are saved, and the run has not failed."""
    runner = working(talk, way)
    (talk.work / "kept.txt").write_text("kept")
    spend(talk)
    assert talk.finish(runner) == 0
    assert talk.log.files is not None
    assert talk.log.files["files"] == 1
    assert_spent(talk)


def test_a_pending_question_is_dropped(talk: Talk) -> None:
    """Nobody is asked any more, and nobody's answer is waited for."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    spend(talk)
    assert talk.finish(runner) == 0
    assert len(talk.log.of("session.status_idle")) == 1
    assert_spent(talk)


def test_what_waits_is_not_said(talk: Talk) -> None:
    """A message that was queued is taken, so that the run may end, and left to the run after the budget was raised."""
    runner = working(talk)
    talk.log.message("two")
    spend(talk)
    assert talk.finish(runner) == 0
    assert talk.texts() == ["you said hello"]
    assert talk.log.taken_seq == talk.log.input_seq
    assert_spent(talk)


def test_a_budget_spent_before_the_first_word_starts_no_turn(talk: Talk) -> None:
    """The first answer is enough."""
    talk.log.budget_reached = SESSION
    talk.prepare()
    talk.log.message("hello")
    talk.log.fault("take_input_v1", Fault(0, seconds=0.5))
    assert talk.finish(talk.start()) == 0
    assert talk.texts() == []
    assert_spent(talk)


def test_a_turn_that_is_done_ends_as_it_did(talk: Talk) -> None:
    """Nothing was stopped for the budget: it stands in the way of the next message, at its admission."""
    talk.prepare()
    talk.log.message("hello")
    talk.log.before["append_transcript_v1"] = talk.log.before["save_files_v1"] = lambda: spend(talk)
    assert talk.finish(talk.start()) == 0
    assert talk.result()["stop_reason"] == {"type": "end_turn"}
    assert told(talk) == []


def test_a_message_that_crosses_such_an_end_is_not_taken_for_done(talk: Talk) -> None:
    """Claude was never told it: the run's end says so, and the next run has to tell it."""
    talk.prepare()
    talk.log.message("one")
    talk.log.before["finish_run_v1"] = lambda: (talk.log.message("two"), spend(talk))
    assert talk.finish(talk.start()) == 0
    assert talk.texts() == ["you said one"]
    assert talk.result()["turns"] == 1
    assert_spent(talk)


def test_a_message_with_a_raised_budget_goes_on(talk: Talk) -> None:
    """It crosses the end of a run that the budget has stopped: the same run says it, and may reach the next limit."""
    runner = working(talk)
    talk.log.before["finish_run_v1"] = lambda: (talk.log.message("two"), raise_budget(talk))
    spend(talk)
    talk.log.wait(lambda: "you said two" in talk.texts())
    spend(talk, RAISED)
    assert talk.finish(runner) == 0
    assert talk.texts() == ["you said hello", "you said two"]
    assert_spent(talk, SESSION, RAISED)


def test_what_was_left_unsaid_is_said_when_the_budget_is_raised_meanwhile(talk: Talk) -> None:
    """The run has told it and was about to end: with the next message it goes on, and says both."""

    def spent_meanwhile() -> None:
        talk.log.before["finish_run_v1"] = raised_meanwhile
        talk.log.message("two")
        spend(talk)

    def raised_meanwhile() -> None:
        talk.log.message("three")
        raise_budget(talk)

    talk.prepare()
    talk.log.message("one")
    talk.log.before["finish_run_v1"] = spent_meanwhile
    assert talk.finish(talk.start()) == 0
    assert talk.texts() == ["you said one", "you said two", "you said three"]
    assert not (talk.directory / "children/claude-3").exists()
    assert (talk.status(), talk.result()["stop_reason"]) == ("succeeded", {"type": "end_turn"})
    assert told(talk) == [SESSION]
    assert_whole(talk)


def raise_budget(talk: Talk) -> None:
    """The next answers speak of no spent budget."""
    talk.log.budget_reached = None


def test_a_user_who_had_stopped_the_turn_has_stopped_it(talk: Talk) -> None:
    """The interrupt came first: the run is cancelled."""
    runner = working(talk, "deaf")
    with talk.log.changed:
        talk.log.say("user.interrupt")
    talk.ring()
    until(lambda: json.loads((talk.directory / "claude.json").read_text())["interrupt_seq"] > 0)
    spend(talk)
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert talk.result()["stop_reason"] == {"type": "end_turn"}


def test_a_cancelled_run_is_cancelled(talk: Talk) -> None:
    """Whatever it has cost."""
    runner = working(talk)
    talk.log.cancel_requested = True
    spend(talk)
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert told(talk) == []


@pytest.mark.parametrize("way", ["no_result", "deaf"])
@pytest.mark.parametrize("moment", ["noted", "told", "ending"])
def test_killed_at_any_point_after_the_budget_the_end_is_the_same(talk: Talk, way: str, moment: str) -> None:
    """Also where a later answer says nothing of it any more: why the turn is being stopped is noted, and told once."""
    runner = working(talk, way)
    if moment == "noted":
        talk.kill(runner)
        noted(talk, budget=SESSION)
    else:
        spend(talk)
        until(lambda: passed(talk, moment))
        talk.kill(runner)
    talk.log.budget_reached = None
    assert talk.finish(resume(talk, way)) == 0
    assert_spent(talk)


def passed(talk: Talk, moment: str) -> bool:
    """Whether the runner has come so far."""
    if moment == "ending":
        return bool(json.loads((talk.directory / "claude.json").read_text())["closing"])
    return any(event["type"] == "budget.reached" for event in talk.spooled())


def test_a_budget_that_the_cli_keeps_by_itself_is_told_as_well(talk: Talk) -> None:
    """It ends its turn, and the log, whose prices are others, finds nothing spent: then it is the run's own limit."""
    talk.prepare(budget_microusd=9_000)
    talk.log.message("hello")
    assert talk.finish(talk.start("spent")) == 0
    assert_spent(talk, {"scope": "run", "spent_microusd": 10_000, "limit_microusd": 9_000})


def test_the_logs_word_about_it_is_preferred(talk: Talk) -> None:
    """It knows whose limit it is, and what was spent before this run."""
    talk.prepare(budget_microusd=9_000)
    talk.log.message("hello")
    talk.log.poison = functools.partial(spent_by, talk)
    assert talk.finish(talk.start("spent")) == 0
    assert_spent(talk)


def spent_by(talk: Talk, event: dict[str, Any]) -> bool:
    """The first request that has ended spends the budget; no event is poison."""
    if event["type"] == "span.model_request_end":
        talk.log.budget_reached = SESSION
    return False

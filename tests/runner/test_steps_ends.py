"""Several steps at once that are cut short, killed with their runner, or leave something behind: nothing is lost."""

from __future__ import annotations

import json
import random
import subprocess

import pytest

from tests.runner.conftest import alive, until
from tests.runner.log_server import Fault, LogServer
from tests.runner.plans import LINES, TICKER, UNTIL, PlansBench, outcome, results, ring, step, story
from tests.runner.test_budgets import MONTH, POLITE, spend
from tests.runner.test_commands import finished, types
from tests.runner.test_process import STUBBORN, pids
from tests.runner.test_restart import assert_whole


def test_a_cancellation_ends_all_at_once_and_nothing_more_begins(plans: PlansBench, log: LogServer) -> None:
    """Families that ignore every signal, side by side: each completed as cancelled, nobody left."""
    path = plans.directory / "pids"
    family = STUBBORN.format(pids=path)
    plans.plans([*(step(index, family) for index in range(2)), step(2, "sleep 60"), step(3, "echo never", 2)])
    runner = plans.start()
    found = pids(path, 8)
    log.wait(lambda: len(log.of("command.started")) == 3)
    log.cancel_requested = True
    ring(plans)
    assert plans.finish(runner) == 0
    assert [data["cancelled"] for data in log.of("command.completed")] == [True] * 3
    assert finished(log)["status"] == "cancelled"
    assert (outcome(log)["stopped"], outcome(log)["skipped"]) == ("cancelled", [3])
    assert [pid for pid in found if alive(pid)] == []
    assert plans.survivors() == []


def test_a_run_that_is_cancelled_at_once_begins_no_step(plans: PlansBench, log: LogServer) -> None:
    """Every step is skipped, and the plans after it are not looked at."""
    log.cancel_requested = True
    plans.plans([step(0, "true"), step(1, "true")], [step(2, "true")], epoch=2)  # waits for the log's first answer
    assert plans.finish() == 0
    assert story(log) == []
    assert finished(log)["result"] == {"outcomes": [{"stopped": "cancelled", "skipped": [0, 1], "results": []}]}


def test_a_budget_that_is_spent_at_once_begins_no_step(plans: PlansBench, log: LogServer) -> None:
    """Told all the same."""
    log.budget_reached = MONTH
    plans.plans([step(0, "true"), step(1, "true")], epoch=2)  # likewise
    assert plans.finish() == 0
    assert story(log) == []
    assert_spent(log, 0)
    assert outcome(log)["skipped"] == [0, 1]


def test_a_run_over_its_limit_ends_all_that_runs(plans: PlansBench, log: LogServer) -> None:
    """None of it is tried again."""
    plans.plans([step(0, "sleep 60", retryable=True), step(1, "sleep 60"), step(2, "true", 0)], limit_seconds=1)
    assert plans.finish() == 0
    assert log.of("command.retrying") == []
    assert [data["timed_out"] for data in log.of("command.completed")] == [True, True]
    assert finished(log)["status"] == "timed_out"
    assert finished(log)["error"]["type"] == "run_timed_out"
    assert outcome(log)["stopped"] == "timed_out"


def assert_spent(log: LogServer, steps: int) -> None:
    """Told once, before anything was ended for it, and of each that it ended."""
    assert log.of("budget.reached") == [MONTH]
    told = [kind for kind in types(log) if kind in ("budget.reached", "command.completed")]
    assert told == ["budget.reached", *["command.completed"] * steps]
    assert [data["budget_reached"] for data in log.of("command.completed")] == [True] * steps
    assert finished(log)["error"] == {"type": "budget_reached", "message": "the budget of the month is spent"}
    assert outcome(log)["stopped"] == "budget_reached"


def test_a_spent_budget_is_told_once_and_ends_all_that_runs(plans: PlansBench, log: LogServer) -> None:
    """An exit code of 0 on a signal makes it no success; what waits does not begin."""
    plans.plans([*(step(index, POLITE, retryable=True) for index in range(3)), step(3, "echo never", 0)])
    runner = plans.start()
    log.wait(lambda: len(log.of("command.output")) >= 3)
    spend(plans, log)
    assert plans.finish(runner) == 0
    assert_spent(log, 3)
    assert outcome(log)["skipped"] == [3]


def test_a_spent_budget_holds_through_a_restart_in_the_middle_of_several(plans: PlansBench, log: LogServer) -> None:
    """Told, and killed before the steps have ended: the next runner ends them for it, though the log says no more."""
    plans.plans([step(index, POLITE.replace("exit 0", "sleep 0.2; exit 0"), retryable=True) for index in range(2)])
    runner = plans.start()
    log.wait(lambda: len(log.of("command.output")) >= 2)
    spend(plans, log)
    log.wait(lambda: "budget.reached" in types(log))
    plans.kill(runner)
    log.budget_reached = None
    assert plans.finish() == 0
    assert_spent(log, 2)
    assert plans.survivors() == []


@pytest.mark.parametrize("seed", range(2))
def test_killed_in_the_middle_of_several_nothing_is_lost_or_repeated(
    plans: PlansBench, log: LogServer, seed: int
) -> None:
    """Three at a time, one that is retried, one that waits for all: each as often as planned, all output once."""
    dice = random.Random(seed)
    log.fault("append_events_v1", *(Fault(None, applied=dice.random() < 0.5) for _ in range(3)))
    tickers = [step(index, TICKER.format(index)) for index in range(3)]
    tried = step(3, "echo run >> tries; echo again; test $(wc -l < tries) = 2", retryable=True)
    plans.plans([*tickers, tried, step(4, "cat runs.*", 0, 1, 2, 3)], [step(5, "echo second", 4)])
    for _ in range(6):
        runner = plans.start()
        try:
            runner.wait(dice.uniform(0.1, 0.4))
        except subprocess.TimeoutExpired:
            plans.kill(runner)
    assert plans.finish() == 0
    assert results(log)[4]["stdout"] == "run\n" * 3
    assert (plans.home / "tries").read_text() == "run\n" * 2
    for index in range(3):
        out = "".join(f"{index} {line}\n" for line in range(1, LINES + 1))
        assert plans.text("stdout", index) == results(log)[index]["stdout"] == out
        assert plans.text("stderr", index) == results(log)[index]["stderr"]
    assert results(log, 1)[5]["stdout"] == "second\n"
    assert sorted(index for word, index in story(log) if word == "completed") == list(range(6))
    assert_whole(plans, log)
    assert plans.survivors() == []


def test_several_that_ended_while_no_runner_lived_are_found(plans: PlansBench, log: LogServer) -> None:
    """Code and output of each; none is run again, and what waited for them begins."""
    plans.plans([*(step(index, f"sleep 0.5; echo {index}; echo x >> ran") for index in range(3)), step(3, "true", 0)])
    runner = plans.start()
    until(lambda: all((plans.directory / f"children/{index}-1/leader").exists() for index in range(3)))
    plans.kill(runner)
    until(lambda: plans.survivors() == [])
    assert plans.finish() == 0
    assert [results(log)[index]["stdout"] for index in range(3)] == ["0\n", "1\n", "2\n"]
    assert (plans.home / "ran").read_text() == "x\n" * 3
    assert results(log)[3]["succeeded"]


def test_a_finished_step_takes_nobody_elses_processes_with_it(plans: PlansBench, log: LogServer) -> None:
    """What one leaves in the background ends with it; the children of the others live on."""
    leaves = f"sleep 60 & echo $! > left; {UNTIL.format('child')}"
    other = f"(trap '' TERM; {UNTIL.format('done')}; echo alive) & echo $! > child; wait"
    after = "kill -0 $(cat left) && echo alive || echo gone; kill -0 $(cat child) && echo alive; touch done"
    plans.plans([step(0, leaves), step(1, other), step(2, after, 0)])
    assert plans.finish() == 0
    assert results(log)[2]["stdout"] == "gone\nalive\n"
    assert results(log)[1]["stdout"] == "alive\n"


DAEMON = "trap '' TERM HUP INT; echo $$ > {0}; while :; do sleep 0.05; done"


def daemon(plans: PlansBench, redirection: str) -> str:
    """A command that leaves a daemon without marker, session and parent; `pid` is its pid."""
    script = plans.directory / "daemon.sh"
    script.write_text(DAEMON.format(plans.home / "pid"))
    return f"(env -i setsid /bin/bash {script} {redirection} &); until [ -s pid ]; do sleep 0.01; done"


def test_a_daemon_that_holds_its_commands_streams_ends_with_it(plans: PlansBench, log: LogServer) -> None:
    """Though it kept nothing else of it, and others run: these see it go."""
    other = "until [ -s pid ]; do sleep 0.01; done; while kill -0 $(cat pid); do sleep 0.02; done; echo gone"
    plans.plans([step(0, daemon(plans, "")), step(1, other)])
    assert plans.finish() == 0
    assert story(log)[-2:] == [("completed", 0), ("completed", 1)]
    assert results(log)[1]["stdout"] == "gone\n"


def test_a_daemon_that_holds_nothing_ends_with_the_last(plans: PlansBench, log: LogServer) -> None:
    """Nobody can say whose it is while several run."""
    plans.plans([step(0, daemon(plans, "> /dev/null 2>&1")), step(1, f"{UNTIL.format('go')}"), step(2, "touch go", 0)])
    assert plans.finish() == 0
    (pid,) = pids(plans.home / "pid", 1)
    assert not alive(pid)
    assert all(result["succeeded"] for result in results(log).values())


def test_a_superseded_runner_ends_all_of_them_and_writes_nothing_more(plans: PlansBench, log: LogServer) -> None:
    """An exit code of its own; no event, no finish, nobody left."""
    plans.plans([step(index, "echo out; sleep 60") for index in range(3)])
    runner = plans.start()
    log.wait(lambda: len(log.of("command.output")) == 3)
    log.forbidden = 403
    ring(plans)
    assert plans.finish(runner) == 3
    assert plans.survivors() == []
    assert plans.spooled()[-1]["type"] == "command.output"


def test_a_defect_in_one_ends_all(plans: PlansBench, log: LogServer) -> None:
    """A step that cannot be started: the run fails, and what ran beside it is ended."""
    plans.plans([step(0, "sleep 60"), step(1, "true")])
    (plans.directory / "children").mkdir()
    (plans.directory / "children/1-1").touch()
    assert plans.finish() == 0
    assert finished(log)["error"]["type"] == "runner_error"
    assert plans.survivors() == []


def test_a_finished_run_of_plans_started_again_only_says_so(plans: PlansBench, log: LogServer) -> None:
    """No new event, though the driver's decision was lost: every outcome is read from the spool."""
    plans.plans([step(0, "echo a"), step(1, "exit 1")], [step(2, "echo c", 0)])
    log.fault("finish_run_v1", *[Fault(500) for _ in range(100)])
    runner = plans.start()
    log.wait(lambda: len(log.called("finish_run_v1")) >= 1)
    plans.kill(runner)
    log.faults.clear()
    state = json.loads((plans.directory / "state").read_text())
    (plans.directory / "state").write_text(json.dumps({**state, "ending": None}))
    assert plans.finish() == 0
    assert types(log)[-1] == "run.resumed"
    assert [log.of("command.started")[at]["index"] for at in range(3)] == [0, 1, 2]
    assert finished(log)["result"] == state["ending"][1]

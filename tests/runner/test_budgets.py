"""A plan whose budget is spent: told once, the command under way ended, the same end however often it is restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox_scripts.clock import boottime
from sandbox_scripts.control import BUDGET_REACHED, CANCELLED, TIMED_OUT, Control
from sandbox_scripts.log import Standing
from tests.runner.conftest import Bench, command, until
from tests.runner.log_server import Fault, LogServer
from tests.runner.test_commands import finished, types
from tests.runner.test_restart import assert_whole

MONTH = {"scope": "month", "spent_microusd": 5_000_120, "limit_microusd": 5_000_000}
ANSWER = {"last_n": 3, "cancel_requested": False, "status": "running", "input_seq": 0}
STOPS = {"stop_reason": {"type": "budget_reached"}}
POLITE = "trap 'exit 0' INT; echo out; while :; do sleep 0.05; done"
STUBBORN = "trap '' INT; trap 'sleep 0.3; exit 0' TERM; echo out; while :; do sleep 0.05; done"


def spend(bench: Bench, log: LogServer, budget: dict[str, Any] | None = None) -> None:
    """From now on the log says that the budget is spent, and the doorbell rings."""
    with log.changed:
        log.budget_reached = budget or MONTH
    (bench.directory / "doorbell").touch()


def assert_spent(bench: Bench, log: LogServer, **counts: int) -> None:
    """The run's end, and that it was told once."""
    assert log.of("budget.reached") == [MONTH]
    assert finished(log)["status"] == "failed"
    assert finished(log)["result"] == {**STOPS, **counts}
    assert finished(log)["error"] == {"type": "budget_reached", "message": "the budget of the month is spent"}
    assert bench.survivors() == []
    assert_whole(bench, log)


def control_of(deadline: float = float("inf"), **said: Any) -> Control:
    """A control over what a log has said."""
    shipper = SimpleNamespace(**{"cancel_requested": False, "alarm": None, "budget_reached": None, **said})
    return Control(shipper, deadline)  # type: ignore[arg-type] # the fields that it reads


@pytest.mark.parametrize("command_text", [POLITE, STUBBORN])
def test_the_command_under_way_is_ended_and_the_plan_fails(bench: Bench, log: LogServer, command_text: str) -> None:
    """Told before it is ended; an exit code of 0 on a signal makes it no success; what follows is not begun."""
    bench.job(command(command_text, timeout=60, retryable=True), command("echo never"))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    spend(bench, log)
    assert bench.finish(runner) == 0
    told = [kind for kind in types(log) if kind != "command.output"]  # a shell may say «Terminated»
    assert told[-2:] == ["budget.reached", "command.completed"]
    completed = log.of("command.completed")[0]
    assert (completed["budget_reached"], completed["timed_out"], completed["attempts"]) == (True, False, 1)
    assert "cancelled" not in completed
    assert_spent(bench, log, commands=2, completed=1, failed=1)


def test_a_budget_spent_before_the_first_command_runs_none(bench: Bench, log: LogServer) -> None:
    """The first answer is enough."""
    log.budget_reached = MONTH
    bench.job(command("sleep 60", timeout=60))
    assert bench.finish() == 0
    assert log.of("budget.reached") == [MONTH]
    assert finished(log)["error"]["type"] == "budget_reached"
    assert len(log.of("command.completed")) == len(log.of("command.started"))
    assert bench.survivors() == []


def test_a_retry_does_not_begin_once_the_budget_is_spent(bench: Bench, log: LogServer) -> None:
    """It waits for its next attempt, and that does not come."""
    bench.job(command("echo try >> tries; exit 1", retryable=True), command("echo never"))
    runner = bench.start()
    log.wait(lambda: len(log.of("command.retrying")) == 2)
    spend(bench, log)
    assert bench.finish(runner) == 0
    assert (bench.home / "tries").read_text() == "try\n" * 2
    assert_spent(bench, log, commands=2, completed=0, failed=0)


def test_a_plan_that_is_done_is_not_failed_by_the_budget(bench: Bench, log: LogServer) -> None:
    """What its last command has cost is not taken back."""
    bench.job(command("echo done"))
    runner = bench.start()
    until(lambda: any(event["type"] == "command.completed" for event in bench.spooled()))
    log.budget_reached = MONTH
    assert bench.finish(runner) == 0
    assert finished(log)["status"] == "succeeded"
    assert log.of("budget.reached") == []


def test_a_budget_that_is_raised_later_does_not_change_the_end(bench: Bench, log: LogServer) -> None:
    """Once told, it ends the plan: later answers say nothing of it, and a new runner reads it in the spool."""
    bench.job(command(STUBBORN, timeout=60), command("echo never"))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    spend(bench, log)
    log.wait(lambda: "budget.reached" in types(log))
    bench.kill(runner)
    log.budget_reached = None
    assert bench.finish() == 0
    assert log.of("command.completed")[0]["budget_reached"] is True
    assert_spent(bench, log, commands=2, completed=1, failed=1)


def test_a_command_that_was_ended_while_no_runner_lived_was_ended_by_the_budget(bench: Bench, log: LogServer) -> None:
    """The runner told it, sent the signal and died: the next one finds an exit code and knows why."""
    bench.job(command(STUBBORN, timeout=60, retryable=True), command("echo never"))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    spend(bench, log)
    log.wait(lambda: "budget.reached" in types(log))
    bench.kill(runner)
    for pid in bench.survivors():
        signal_quietly(pid)
    until(lambda: bench.survivors() == [])
    log.budget_reached = None
    assert bench.finish() == 0
    assert len(log.of("command.started")) == 1
    assert_spent(bench, log, commands=2, completed=1, failed=1)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_point_after_the_budget_the_end_is_the_same(bench: Bench, log: LogServer, seed: int) -> None:
    """Whatever was spooled or sent by then."""
    dice = random.Random(seed)
    bench.job(command(STUBBORN, timeout=60, retryable=True), command("echo never"))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    log.fault("append_events_v1", *(Fault(None, applied=dice.random() < 0.5) for _ in range(2)))
    spend(bench, log)
    for _ in range(3):
        spooled, more = len(bench.spooled()), dice.randint(1, 2)
        until(lambda s=spooled, m=more, r=runner: len(bench.spooled()) >= s + m or r.poll() is not None)
        bench.kill(runner)
        runner = bench.start()
    assert bench.finish(runner) == 0
    assert_spent(bench, log, commands=2, completed=1, failed=1)


def test_what_ends_a_run_first_is_cancelling_then_time_then_money() -> None:
    """A run that is cancelled and out of time and money is cancelled."""
    assert control_of(0.0, budget_reached=MONTH, cancel_requested=True).check() == CANCELLED
    assert control_of(boottime() - 1, budget_reached=MONTH).check() == TIMED_OUT
    assert control_of(budget_reached=MONTH).check() == BUDGET_REACHED
    assert control_of().check() is None


def test_a_spent_budget_ends_the_longest_pause() -> None:
    """No sleep between two attempts outlasts it."""
    control_of(budget_reached=MONTH).sleep(3600)


def test_a_plan_that_is_cancelled_and_out_of_money_is_cancelled(bench: Bench, log: LogServer) -> None:
    """One answer says both: the budget is not told."""
    bench.job(command("echo out; sleep 60", timeout=60))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    with log.changed:
        log.cancel_requested = True
    spend(bench, log)
    assert bench.finish(runner) == 0
    assert finished(log)["status"] == "cancelled"
    assert log.of("budget.reached") == []


def test_an_older_database_does_not_speak_of_budgets() -> None:
    """Then there is none; one that says null says the same."""
    assert Standing(ANSWER).budget_reached is None
    assert Standing({**ANSWER, "budget_reached": None}).budget_reached is None
    assert Standing({**ANSWER, "budget_reached": {**MONTH, "more": 1}}).budget_reached == MONTH


@pytest.mark.parametrize("said", [{}, {**MONTH, "spent_microusd": None}, {"scope": "run", "limit_microusd": 1}, 7])
def test_a_budget_that_makes_no_sense_is_no_answer(said: Any) -> None:
    """As every other field: the call is repeated."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        Standing({**ANSWER, "budget_reached": said})


def signal_quietly(pid: int) -> None:
    """SIGTERM to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)

"""Steps side by side through a whole runner: what the log holds afterwards, what the driver is told, nobody left."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_scripts.drivers.steps import SIDE_BY_SIDE
from tests.runner.conftest import Bench, alive, until
from tests.runner.log_server import Fault, LogServer
from tests.runner.test_budgets import MONTH, POLITE, spend
from tests.runner.test_commands import finished, types
from tests.runner.test_process import STUBBORN, pids
from tests.runner.test_restart import assert_whole

# Ends when the file is there.
UNTIL = "until [ -e {} ]; do sleep 0.01; done"
LINES = 20
TICKER = f"echo run >> runs.{{0}}; for i in $(seq {LINES}); do echo {{0}} $i; echo err {{0}} $i >&2; sleep 0.05; done"


class PlansBench(Bench):
    """A run of plans, by the driver of these tests."""

    program = ("-m", "tests.runner.plans_runner")

    def plans(self, *plans: list[dict[str, Any]], **fields: Any) -> None:
        """Write the job file."""
        self.job(kind="plans", input={"plans": plans}, **fields)


def step(index: int, text: str, *needs: int, **fields: Any) -> dict[str, Any]:
    """An entry of a plan."""
    return {"index": index, "command": text, "timeout_seconds": 30, "needs": needs, **fields}


def outcome(log: LogServer, plan: int = 0) -> dict[str, Any]:
    """What the driver was told of a plan."""
    found: dict[str, Any] = finished(log)["result"]["outcomes"][plan]
    return found


def results(log: LogServer, plan: int = 0) -> dict[int, dict[str, Any]]:
    return {result["index"]: result for result in outcome(log, plan)["results"]}


def story(log: LogServer) -> list[tuple[str, int]]:
    """Which step was started or completed, in the log's order."""
    words = {"command.started": "started", "command.completed": "completed"}
    with log.changed:
        return [(words[event["type"]], event["data"]["index"]) for event in log.events if event["type"] in words]


def most_at_once(log: LogServer) -> int:
    running = peak = 0
    for word, _ in story(log):
        running += 1 if word == "started" else -1
        peak = max(peak, running)
    return peak


def ring(bench: Bench) -> None:
    (bench.directory / "doorbell").touch()


@pytest.fixture
def plans(tmp_path: Path, log: LogServer) -> Iterator[PlansBench]:
    """One run, cleaned up afterwards."""
    bench = PlansBench(tmp_path, log)
    yield bench
    bench.close()


def test_steps_that_need_nothing_run_side_by_side(plans: PlansBench, log: LogServer) -> None:
    """Each waits for what the other makes: one after the other they would never end."""
    plans.plans([step(0, f"touch a; {UNTIL.format('b')}; echo 0"), step(1, f"{UNTIL.format('a')}; touch b; echo 1")])
    assert plans.finish() == 0
    assert story(log)[:2] == [("started", 0), ("started", 1)]
    assert outcome(log)["stopped"] is None
    assert outcome(log)["skipped"] == []
    assert {index: result["succeeded"] for index, result in results(log).items()} == {0: True, 1: True}
    assert_whole(plans, log)


def test_a_step_begins_when_all_that_it_needs_has_succeeded(plans: PlansBench, log: LogServer) -> None:
    """A diamond: the last one after both in the middle, those after the first, in whatever order they are written."""
    plans.plans([step(3, "cat b c", 1, 2), step(1, "cat a > b", 0), step(2, "cat a > c", 0), step(0, "echo x > a")])
    assert plans.finish() == 0
    told = story(log)
    assert told[:2] == [("started", 0), ("completed", 0)]
    assert sorted(told[2:6]) == [("completed", 1), ("completed", 2), ("started", 1), ("started", 2)]
    assert told[6:] == [("started", 3), ("completed", 3)]
    assert results(log)[3]["stdout"] == "x\nx\n"
    assert [result["index"] for result in outcome(log)["results"]] == [3, 1, 2, 0]


def test_what_needs_a_failed_step_is_never_started_and_the_others_go_on(plans: PlansBench, log: LogServer) -> None:
    """Nor what needs that. Nobody else is ended for it; one who waits for its end sees it."""
    last = f"{UNTIL.format('failed')}; sleep 0.1; echo on"
    plans.plans([step(0, "touch failed; exit 3"), step(1, last), step(2, "echo never", 0), step(3, "echo never", 2, 1)])
    assert plans.finish() == 0
    assert story(log) == [("started", 0), ("started", 1), ("completed", 0), ("completed", 1)]
    assert outcome(log)["skipped"] == [2, 3]
    assert outcome(log)["stopped"] is None
    assert (results(log)[0]["exit_code"], results(log)[0]["succeeded"]) == (3, False)
    assert results(log)[1]["stdout"] == "on\n"


def test_needs_that_can_never_be_met_are_left_alone(plans: PlansBench, log: LogServer) -> None:
    """A circle, itself, or a step that is in no plan: such a step is skipped, and the run does not wait for it."""
    plans.plans([step(0, "true", 1), step(1, "true", 0), step(2, "true", 2), step(3, "true", 99), step(4, "echo on")])
    assert plans.finish() == 0
    assert story(log) == [("started", 4), ("completed", 4)]
    assert outcome(log)["skipped"] == [0, 1, 2, 3]


def test_a_later_plan_may_need_steps_of_an_earlier_one(plans: PlansBench, log: LogServer) -> None:
    """By their indexes, which go on; what failed there is met nowhere."""
    first = [step(0, "echo x > a"), step(1, "exit 1")]
    plans.plans(first, [step(2, "cat a", 0), step(3, "echo never", 1)])
    assert plans.finish() == 0
    assert results(log, 1)[2]["stdout"] == "x\n"
    assert outcome(log, 1)["skipped"] == [3]
    assert outcome(log, 0)["skipped"] == []


def test_no_more_than_four_run_at_a_time(plans: PlansBench, log: LogServer) -> None:
    """Four that wait until four are there; the next begin when there is room."""
    meet = "touch here.{}; until [ $(ls here.* | wc -l) -ge 4 ]; do sleep 0.02; done"
    plans.plans([step(index, meet.format(index)) for index in range(7)])
    assert plans.finish() == 0
    assert len(results(log)) == 7
    assert most_at_once(log) == SIDE_BY_SIDE == 4
    assert story(log)[:4] == [("started", index) for index in range(4)]


def test_each_stream_is_told_of_its_own_step(plans: PlansBench, log: LogServer) -> None:
    """In the log and in the evidence; the offsets of each are without gap."""
    plans.plans([step(index, TICKER.format(index)) for index in range(3)])
    assert plans.finish() == 0
    for index in range(3):
        out = "".join(f"{index} {line}\n" for line in range(1, LINES + 1))
        err = "".join(f"err {index} {line}\n" for line in range(1, LINES + 1))
        assert (plans.text("stdout", index), plans.text("stderr", index)) == (out, err)
        assert (results(log)[index]["stdout"], results(log)[index]["stderr"]) == (out, err)


def test_evidence_is_the_beginning_and_the_end_and_holds_no_secret(plans: PlansBench, log: LogServer) -> None:
    """Redacted as in the log, bounded, and it says what was left out; no more than the log has of it."""
    canary = "canary-value-0815"
    plans.plans(
        [step(0, f"echo begin {canary}; seq 100000; echo end {canary}")], redact=[canary], output_limit_bytes=1 << 21
    )
    assert plans.finish() == 0
    said = results(log)[0]["stdout"]
    assert said.startswith("begin [redacted:value]\n1\n2\n")
    assert said.endswith("\n99999\n100000\nend [redacted:value]\n")
    assert "bytes left out]" in said
    assert len(said) < 17_000
    assert canary not in json.dumps(finished(log))


def test_a_retryable_step_is_tried_again_while_others_run(plans: PlansBench, log: LogServer) -> None:
    """Its pause holds nobody; it fails for good after three attempts, and what needs it is skipped, unlike in a list.

    The other step sees all three attempts go by. Evidence is of the last.
    """
    tries = "echo x >> tries; echo $(wc -l < tries); exit 5"
    watch = "until [ -e tries ] && [ $(wc -l < tries) = 3 ]; do sleep 0.02; done"
    plans.plans([step(0, tries, retryable=True), step(1, watch), step(2, "echo never", 0)])
    assert plans.finish() == 0
    assert [data["attempt"] for data in log.of("command.started") if data["index"] == 0] == [1, 2, 3]
    assert [(data["attempt"], data["delay_ms"]) for data in log.of("command.retrying")] == [(1, 500), (2, 1000)]
    assert (results(log)[0]["attempts"], results(log)[0]["stdout"]) == (3, "3\n")
    assert results(log)[1]["succeeded"]
    assert outcome(log)["skipped"] == [2]


def test_a_step_that_recovers_is_met(plans: PlansBench, log: LogServer) -> None:
    """Also when it is the only one, and nothing runs in the pause."""
    plans.plans([step(0, "test -e flag || { touch flag; exit 1; }", retryable=True), step(1, "echo on", 0)])
    assert plans.finish() == 0
    assert results(log)[0]["attempts"] == 2
    assert results(log)[1]["stdout"] == "on\n"


def test_a_step_over_its_time_ends_alone(plans: PlansBench, log: LogServer) -> None:
    """Its timeout is its own."""
    other = f"{UNTIL.format('late')}; echo on"
    plans.plans([step(0, "trap 'touch late' EXIT; sleep 60 & wait", timeout_seconds=0.5), step(1, other)])
    assert plans.finish() == 0
    assert (results(log)[0]["timed_out"], results(log)[0]["succeeded"]) == (True, False)
    assert (results(log)[1]["timed_out"], results(log)[1]["stdout"]) == (False, "on\n")
    assert outcome(log)["stopped"] is None


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

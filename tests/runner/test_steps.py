"""Steps side by side through a whole runner: what the log holds afterwards, and what the driver is told."""

from __future__ import annotations

import json

from sandbox_scripts.drivers.steps import SIDE_BY_SIDE
from tests.runner.log_server import LogServer
from tests.runner.plans import LINES, TICKER, UNTIL, PlansBench, most_at_once, outcome, results, step, story
from tests.runner.test_commands import finished
from tests.runner.test_restart import assert_whole


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

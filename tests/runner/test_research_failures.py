"""Models that are down, refuse or talk rubbish, budgets, deadlines: tried again where that helps, then a typed end."""

from __future__ import annotations

import json
import sys
import threading
from importlib import import_module
from typing import Any

import pytest

from sandbox_scripts.drivers.research import journal, planner, shell
from sandbox_scripts.drivers.research import models as wires
from tests.runner.inquiry import Inquiry, answer, plan
from tests.runner.log_server import Fault, LogServer
from tests.runner.model_server import Asked, Broken, ModelServer, Said
from tests.runner.test_research_flow import failed_as, forget

BUDGET = {"scope": "month", "spent_microusd": 5_000_120, "limit_microusd": 5_000_000}
OVERLOADED = Broken(529)
PASSING = [Broken(None), Broken(408), Broken(409), Broken(429), Broken(500), OVERLOADED]


def completed(**message: Any) -> Broken:
    """A completion with this message."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return Broken(200, json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode())


GARBAGE = [
    Broken(200, b"<html>", content_type="text/html"),
    Broken(200, b"{"),
    Broken(200, b"{}"),
    Broken(200, b"[]"),
    Broken(200, b"[" * 100_000),
    completed(content=[{"type": "text", "text": "{}"}]),
    completed(content=7),
    completed(content=None, refusal={"reason": "no"}),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff without the waiting."""
    monkeypatch.setattr(planner, "BACKOFF_FIRST_SECONDS", 0.01)


@pytest.mark.parametrize("fault", [*PASSING, *GARBAGE], ids=lambda fault: f"{fault.status}-{len(fault.body)}")
def test_what_may_pass_is_tried_again(inquiry: Inquiry, log: LogServer, fault: Broken) -> None:
    """Twice it goes wrong and the third time not; each request has its span, and only the good ones have tokens."""
    inquiry.models.say(fault, fault, plan("true"), fault, fault, answer())
    inquiry.ask()
    assert inquiry.drive().status == "succeeded"
    ends = log.of("span.model_request_end")
    assert [end["is_error"] for end in ends] == [True, True, False] * 2
    assert [end["model_usage"]["input_tokens"] for end in ends] == [0, 0, 60] * 2


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_model_that_stays_down_is_unavailable(inquiry: Inquiry, log: LogServer, provider: str) -> None:
    """After three tries; nothing was planned, nothing is made up."""
    inquiry.models.say(*[OVERLOADED] * 3)
    inquiry.ask(provider=provider)
    ending = inquiry.drive()
    failed_as(ending, "planner_unavailable", "planner-1", "529")
    assert ending.result == {"plans": 0, "steps": 0, "succeeded": 0, "failed": 0, "answered": False}
    assert len(inquiry.models.asked) == 3
    assert log.of("plan.created") == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_trying_again_cannot_mend_is_told_at_once(inquiry: Inquiry, status: int) -> None:
    """With the status, and without the key that the other side may quote."""
    inquiry.models.say(Broken(status, b'{"error":{"message":"not with my-own-key"}}'))
    inquiry.ask(redact=["my-own-key"])
    ending = inquiry.drive()
    failed_as(ending, "planner_unavailable", str(status), "[redacted:value]")
    assert len(inquiry.models.asked) == 1


@pytest.mark.parametrize("before", [462, 466])
def test_a_secret_in_a_long_complaint_is_not_cut_in_two(inquiry: Inquiry, before: int) -> None:
    """It is found whole before the message is shortened."""
    key = f"sk-ant-{'k3' * 20}"
    inquiry.models.say(Broken(401, json.dumps({"error": {"message": "x" * before + f" {key}"}}).encode()))
    inquiry.ask()
    error = inquiry.drive().error
    assert error is not None
    assert "k3" not in error["message"]
    assert len(error["message"]) < 600


def test_what_a_database_cannot_hold_is_not_in_the_error(inquiry: Inquiry, log: LogServer) -> None:
    """A NUL would be refused, and with it the end of the run."""
    inquiry.models.say(Broken(400, b'{"error":{"message":"a\\u0000b \\ud800"}}'))
    inquiry.ask()
    inquiry.drive()
    assert log.finished is not None
    assert "\0" not in log.finished["error"]["message"]
    assert "a\ufffdb" in log.finished["error"]["message"]


def test_nobody_there_is_unavailable(inquiry: Inquiry, models: ModelServer) -> None:
    """A connection that is refused."""
    inquiry.ask(planner={"provider": "openai", "model": "planner-1", "url": "http://127.0.0.1:9/v1"})
    failed_as(inquiry.drive(), "planner_unavailable")
    assert models.asked == []


def test_an_answer_that_takes_too_long_is_none(
    inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch, models: ModelServer
) -> None:
    """It counts as a try."""
    monkeypatch.setattr(planner, "REQUEST_SECONDS", 0.3)
    held = threading.Event()
    models.say(*[Said("{}", held=held)] * 3)
    inquiry.ask()
    failed_as(inquiry.drive(), "planner_unavailable", "0.3 seconds")
    held.set()
    assert len(models.asked) == 3


def test_retry_after_is_waited_for(inquiry: Inquiry, models: ModelServer) -> None:
    """The other side's own word counts, where it gives one."""
    models.say(Broken(429, retry_after="1"), plan("true"), answer())
    inquiry.ask()
    assert inquiry.drive().status == "succeeded"
    first, second, _ = models.asked
    assert second.at - first.at >= 1


@pytest.mark.parametrize(
    ("told", "seconds"), [("1", 1), ("0.5", 0.5), ("900", 30), ("-1", None), ("soon", None), ("nan", None), ("", None)]
)
def test_what_retry_after_says(told: str, seconds: float | None) -> None:
    """At most 30 seconds; what is no number of seconds says nothing."""
    assert wires._retry_after({"retry-after": told}) == seconds


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_refusal_is_tried_once_more(inquiry: Inquiry, provider: str, log: LogServer) -> None:
    """And then it stands, in the model's own words; a refusal has cost its tokens."""
    inquiry.models.say(Said("", refusal="I would rather not."), Said("", refusal="I will not."))
    inquiry.ask(provider=provider)
    failed_as(inquiry.drive(), "planner_refused", "I will not.")
    assert [end["is_error"] for end in log.of("span.model_request_end")] == [False, False]
    assert len(inquiry.models.asked) == 2


def test_a_refusal_that_does_not_come_again_is_forgotten(inquiry: Inquiry) -> None:
    """The second request is the same as the first."""
    inquiry.models.say(Said("", refusal="no"), plan("true"), answer())
    inquiry.ask()
    assert inquiry.drive().status == "succeeded"
    prompts = inquiry.prompts()
    assert prompts[0] == prompts[1]


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (Said(""), "it was empty"),
        (Said("Sure! Here is a plan."), "reply: Invalid JSON"),
        (Said({"steps": []}), "estimated_duration_seconds: Field required"),
        (plan(), "a plan has 1 to 12 steps, this one 0"),
        (Said("{", is_cut=True), "it was cut off"),
    ],
    ids=["empty", "words", "schema", "no-steps", "cut"],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_rubbish_is_asked_for_again_with_what_was_wrong(
    inquiry: Inquiry, provider: str, reply: Said, wrong: str
) -> None:
    """Three times in all, and then the run fails: never a made-up plan."""
    inquiry.models.say(*[reply] * 3)
    inquiry.ask(provider=provider)
    failed_as(inquiry.drive(), "planner_invalid", wrong)
    first, *again = inquiry.prompts()
    assert "cannot be used" not in first
    assert all(prompt.startswith(first) and f"cannot be used: {wrong}" in prompt for prompt in again)
    assert len(again) == 2


def test_rubbish_for_an_answer_fails_with_the_evidence_kept(inquiry: Inquiry, log: LogServer) -> None:
    """The commands' output stands in the log; there is no answer."""
    inquiry.models.say(plan("echo found"), *[answer("", 0)] * 3)
    inquiry.ask()
    ending = inquiry.drive()
    failed_as(ending, "planner_invalid", "the answer is empty")
    assert ending.result == {"plans": 1, "steps": 1, "succeeded": 1, "failed": 0, "answered": False}
    assert log.of("research.answer") == []


def test_different_faults_have_tries_of_their_own(inquiry: Inquiry) -> None:
    """Twice down, once refused and twice rubbish is still no end."""
    inquiry.models.say(OVERLOADED, Said(""), Said("", refusal="no"), OVERLOADED, Said("no"), plan("true"), answer())
    inquiry.ask()
    assert inquiry.drive().status == "succeeded"


def test_a_plan_that_is_thought_to_cost_too_much_does_not_begin(inquiry: Inquiry, log: LogServer) -> None:
    """Told as a budget that is reached, before a single command."""
    inquiry.models.say(plan("echo never", estimated_cost_microusd=501))
    inquiry.ask(budget_microusd=500)
    ending = inquiry.drive()
    failed_as(ending, "budget_reached", "thought to cost more than the budget")
    assert ending.result is not None
    assert ending.result["stop_reason"] == {"type": "budget_reached"}
    told = {"scope": "run", "spent_microusd": 0, "limit_microusd": 500, "estimated_microusd": 501}
    assert log.of("budget.reached") == [told]
    assert log.of("command.started") == []


def test_a_plan_within_its_budget_runs(inquiry: Inquiry) -> None:
    """To the last millionth."""
    inquiry.models.say(plan("true", estimated_cost_microusd=500), answer())
    inquiry.ask(budget_microusd=500)
    assert inquiry.drive().status == "succeeded"


def test_what_planning_has_cost_counts_before_the_first_command(inquiry: Inquiry, log: LogServer) -> None:
    """The log's word on the planning request is waited for, slow as it may be."""

    def charge(event: dict[str, Any]) -> bool:
        if event["type"] == "span.model_request_end":
            log.budget_reached = BUDGET
        return False

    log.poison, log.delay = charge, 0.3
    inquiry.models.say(plan("echo never"))
    inquiry.ask()
    failed_as(inquiry.drive(), "budget_reached", "month")
    assert log.of("budget.reached") == [BUDGET]
    assert inquiry.types()[-2:] == ["plan.created", "budget.reached"]


def test_a_log_that_is_down_does_not_hold_the_plan_up_for_ever(
    inquiry: Inquiry, log: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with every plan of commands, the work goes on while the log cannot be reached."""
    monkeypatch.setattr(journal, "SHIPPED_SECONDS", 0.2)
    log.fault("append_events_v1", *[Fault(503)] * 3)
    inquiry.models.say(plan("true"), answer())
    inquiry.ask()
    assert inquiry.drive().status == "succeeded"


SLOW = "eval " * 500 + "ls"


def test_a_plan_that_takes_too_long_to_read_is_refused(
    inquiry: Inquiry, log: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the check would have said in the end; the next one is read."""
    monkeypatch.setattr(import_module("sandbox_scripts.drivers.research.drive"), "CHECK_SECONDS", 0.1)
    inquiry.models.say(plan("ls", SLOW), plan("true"), answer())
    inquiry.ask()
    assert inquiry.drive().status == "succeeded"
    (rejected,) = log.of("plan.rejected")
    assert [(reason["index"], reason["rule"]) for reason in rejected["reasons"]] == [(None, "unreadable")]


def test_a_cancelled_run_waits_for_no_check(inquiry: Inquiry, log: LogServer) -> None:
    """As it waits for nothing else."""

    def cancelled(_asked: Asked) -> Said:
        log.cancel_requested = True
        (inquiry.directory / "doorbell").touch()
        return plan(*[SLOW] * 3)

    inquiry.models.say(cancelled)
    inquiry.ask()
    assert inquiry.drive().status == "cancelled"
    assert log.of("plan.rejected") == []


def test_a_cancelled_run_waits_for_no_model(inquiry: Inquiry, log: LogServer) -> None:
    """The request under way is let go of, and its span is closed."""
    held = threading.Event()

    def cancelled(_asked: Asked) -> Said:
        log.cancel_requested = True
        (inquiry.directory / "doorbell").touch()
        return Said("{}", held=held)

    inquiry.models.say(cancelled)
    inquiry.ask()
    ending = inquiry.drive()
    held.set()
    assert (ending.status, ending.error) == ("cancelled", None)
    assert [end["is_error"] for end in log.of("span.model_request_end")] == [True]


def test_the_deadline_ends_a_request(inquiry: Inquiry) -> None:
    """The run has timed out, and not failed."""
    held = threading.Event()
    inquiry.models.say(Said("{}", held=held))
    inquiry.ask(limit_seconds=1)
    ending = inquiry.drive(limit_seconds=1)
    held.set()
    assert ending.status == "timed_out"
    assert ending.error == {"type": "run_timed_out", "message": "the run went over 1 seconds"}


def test_a_budget_that_is_spent_meanwhile_ends_a_request_and_the_run_for_good(inquiry: Inquiry, log: LogServer) -> None:
    """Told once. A runner that dies right after ends the same, whatever was raised meanwhile, and asks nothing more."""
    held = threading.Event()

    def spent(_asked: Asked) -> Said:
        log.budget_reached = BUDGET
        (inquiry.directory / "doorbell").touch()
        return Said("{}", held=held)

    inquiry.models.say(spent)
    inquiry.ask()
    ending = inquiry.drive()
    held.set()
    failed_as(ending, "budget_reached", "month")
    assert log.of("budget.reached") == [BUDGET]
    forget(inquiry, (inquiry.directory / "spool.ndjson").read_bytes())
    log.budget_reached = None
    again = inquiry.drive()
    assert (again.status, again.result, again.error) == (ending.status, ending.result, ending.error)
    assert log.of("budget.reached") == [BUDGET]
    assert len(inquiry.models.asked) == 1


def test_no_pause_outlives_the_run(inquiry: Inquiry) -> None:
    """Half a minute was asked for, and the run has a second."""
    inquiry.models.say(Broken(429, retry_after="30"))
    inquiry.ask()
    assert inquiry.drive(limit_seconds=1).status == "timed_out"


def test_without_its_sdk_a_model_is_unavailable(inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox of another template."""
    monkeypatch.setitem(sys.modules, "openai", None)
    inquiry.ask()
    failed_as(inquiry.drive(), "planner_unavailable", "openai")


def test_without_a_parser_nothing_is_planned(inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be checked is not paid for."""
    monkeypatch.setitem(sys.modules, "tree_sitter_bash", None)
    shell._parser_of.cache_clear()
    inquiry.ask()
    failed_as(inquiry.drive(), "checker_missing", "tree_sitter_bash")
    assert inquiry.models.asked == []

"""Research through the whole runner, as a process of its own: killed anywhere, cancelled, with a key to keep."""

from __future__ import annotations

import re
import threading

from tests.runner.inquiry import Inquiry, answer, plan, step
from tests.runner.log_server import LogServer
from tests.runner.model_server import ModelServer, Said
from tests.runner.test_commands import finished, types
from tests.runner.test_research_flow import COMMAND, REQUEST
from tests.runner.test_restart import assert_whole

BUDGET = {"scope": "session", "spent_microusd": 600, "limit_microusd": 500}
WAITS = "echo run >> runs; echo before; until [ -e go ]; do sleep 0.02; done; echo after"


def unfenced(prompt: str) -> str:
    """The prompt without the numbers of its fences, which are new each time."""
    return re.sub(r" \w{16}\]", "]", prompt)


def test_from_the_question_to_the_answer(inquiry: Inquiry, log: LogServer, models: ModelServer) -> None:
    """The log tells it in order and the run ends; commands see no key, and the model's host sees it."""
    models.say(plan("env"), answer())
    log.bearer = "run-token"
    inquiry.ask(credentials="env")
    runner = inquiry.start(SANDSTREAM_RUN_TOKEN="run-token", OPENAI_API_KEY="my-openai-key")
    assert inquiry.finish(runner) == 0
    start = ["run.started", "session.status_running"]
    kinds = [kind for kind in types(log) if kind != "command.output"]
    assert kinds == [*start, *REQUEST, "plan.created", COMMAND[0], COMMAND[-1], *REQUEST, "research.answer"]
    assert finished(log)["status"] == "succeeded"
    assert {asked.headers["authorization"] for asked in models.asked} == {"Bearer my-openai-key"}
    assert models.asked[0].path == "/v1/chat/completions"
    assert "HOME=" in inquiry.text("stdout")
    assert "KEY" not in inquiry.text("stdout")
    assert "my-openai-key" not in str(log.events)
    assert_whole(inquiry, log)


def test_with_egress_rules_the_key_is_a_word(inquiry: Inquiry, log: LogServer, models: ModelServer) -> None:
    """Anthropic's wire: the rule outside puts the key in the word's place. A plan that breaks rules is made again."""
    models.say(plan("sudo ls"), plan("echo fine"), answer())
    inquiry.ask(provider="anthropic")
    assert inquiry.finish() == 0
    assert finished(log)["result"] == {"plans": 2, "steps": 1, "succeeded": 1, "failed": 0, "answered": True}
    assert {asked.headers["x-api-key"] for asked in models.asked} == {"placeholder"}
    assert {asked.path for asked in models.asked} == {"/v1/messages"}
    assert not any("authorization" in asked.headers for asked in models.asked)
    assert log.of(REQUEST[1])[0]["model_usage"]["cache_creation_input_tokens"] == 7
    assert_whole(inquiry, log)


def test_killed_while_it_plans_it_asks_again(inquiry: Inquiry, log: LogServer, models: ModelServer) -> None:
    """What the lost request has cost nobody knows: its span ends in error, and the plan comes from another."""
    held = threading.Event()
    models.say(Said("{}", held=held), plan("echo found"), answer())
    inquiry.ask()
    runner = inquiry.start()
    models.wait(1)
    inquiry.kill(runner)
    assert inquiry.finish() == 0
    held.set()
    assert [end["is_error"] for end in log.of(REQUEST[1])] == [True, False, False]
    assert len(log.of("plan.created")) == 1
    assert finished(log)["status"] == "succeeded"
    assert_whole(inquiry, log)


def test_killed_among_its_steps_it_finds_them_again(inquiry: Inquiry, log: LogServer, models: ModelServer) -> None:
    """Several at once; none begins twice, no output is lost, and the plan is not asked for again."""
    models.say(plan(WAITS, WAITS, step("echo third", 0, 1)), answer("All.", 0, 1, 2))
    inquiry.ask()
    runner = inquiry.start()
    log.wait(lambda: len(log.of("command.output")) >= 2)
    inquiry.kill(runner)
    (inquiry.home / "go").touch()
    assert inquiry.finish() == 0
    assert (inquiry.home / "runs").read_text() == "run\n" * 2
    assert [inquiry.text("stdout", index) for index in range(3)] == ["before\nafter\n"] * 2 + ["third\n"]
    assert len(models.asked) == 2
    assert "before\nafter" in models.asked[1].prompt
    assert finished(log)["status"] == "succeeded"
    assert inquiry.survivors() == []
    assert_whole(inquiry, log)


def test_killed_before_its_answer_it_has_kept_the_evidence(
    inquiry: Inquiry, log: LogServer, models: ModelServer
) -> None:
    """What the steps of both plans have printed is read from the log; only the answer is asked for again."""
    held = threading.Event()
    models.say(plan("echo one >> runs; echo one; exit 1"), plan("echo two >> runs; echo two"))
    models.say(Said("{}", held=held), answer("Two.", 1))
    inquiry.ask()
    runner = inquiry.start()
    models.wait(3)
    inquiry.kill(runner)
    assert inquiry.finish() == 0
    held.set()
    assert (inquiry.home / "runs").read_text() == "one\ntwo\n"
    third, fourth = (asked.prompt for asked in models.asked[2:])
    assert "two" in third
    assert unfenced(third) == unfenced(fourth)
    assert finished(log)["result"] == {"plans": 2, "steps": 2, "succeeded": 1, "failed": 1, "answered": True}
    assert_whole(inquiry, log)


def test_a_cancelled_run_ends_at_once_although_the_model_is_silent(
    inquiry: Inquiry, log: LogServer, models: ModelServer
) -> None:
    """SIGTERM to the runner, in the middle of a request, is a cancellation."""
    held = threading.Event()
    models.say(Said("{}", held=held))
    inquiry.ask()
    runner = inquiry.start()
    models.wait(1)
    runner.terminate()
    assert inquiry.finish(runner) == 0
    held.set()
    assert finished(log)["status"] == "cancelled"
    assert finished(log)["result"] == {"plans": 0, "steps": 0, "succeeded": 0, "failed": 0, "answered": False}
    assert_whole(inquiry, log)


def test_a_budget_ends_several_steps_and_the_run(inquiry: Inquiry, log: LogServer, models: ModelServer) -> None:
    """Told once; the steps under way are ended with it, and no answer is paid for."""
    models.say(plan(WAITS, WAITS, step("echo never", 0)))
    inquiry.ask()
    runner = inquiry.start()
    log.wait(lambda: len(log.of("command.output")) >= 2)
    with log.changed:
        log.budget_reached = BUDGET
    (inquiry.directory / "doorbell").touch()
    assert inquiry.finish(runner) == 0
    assert log.of("budget.reached") == [BUDGET]
    assert finished(log)["error"] == {"type": "budget_reached", "message": "the budget of the session is spent"}
    assert finished(log)["result"]["stop_reason"] == {"type": "budget_reached"}
    assert len(models.asked) == 1
    assert inquiry.survivors() == []
    assert_whole(inquiry, log)

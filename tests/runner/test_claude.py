"""A conversation with a CLI that behaves: turns, the queue, questions, interrupts, and a runner that dies meanwhile."""

from __future__ import annotations

import functools
import json
import os
import signal
from typing import Any

import pytest

from sandbox_scripts.procfs import read_environ
from tests.runner.conftest import until
from tests.runner.log_server import Fault
from tests.runner.talk import ASK, Talk, agent, toolset

CANARY = "sk-ant-" + "api03-canary-of-the-model-0123456789"


def types(talk: Talk) -> list[str]:
    """The types of the log's events, without the spans."""
    return [event["type"] for event in talk.log.events if not event["type"].startswith("span.")]


def assert_whole(talk: Talk) -> None:
    """The log is the spool, no event stands twice, nobody is left."""
    assert talk.log.events == talk.spooled()
    assert len(talk.ids()) == len(set(talk.ids()))
    assert talk.survivors() == []


def moved_on(talk: Talk, runner: Any, calls: int) -> bool:
    """Whether the log was called more often than that, or the runner is done."""
    return len(talk.log.calls) > calls or runner.poll() is not None


def confirmed(talk: Talk, runner: Any) -> bool:
    """Say yes to what is asked; whether the runner is done."""
    talk.confirm_all()
    return runner.poll() is not None


def resume(talk: Talk, way: str) -> Any:
    """A new runner on the same directory, under the next epoch, as functions starts it."""
    job = json.loads((talk.directory / "job.json").read_text())
    job["epoch"] += 1
    (talk.directory / "job.json").write_text(json.dumps(job))
    return talk.start(way)


def test_one_turn(talk: Talk) -> None:
    """The prompt goes in, what Claude says comes out, the result is the run's."""
    talk.prepare()
    talk.log.message("hello")
    assert talk.finish(talk.start()) == 0
    assert types(talk) == ["run.started", "session.status_running", "agent.message"]
    assert talk.texts() == ["you said hello"]
    assert talk.status() == "succeeded"
    expected = {"stop_reason": {"type": "end_turn"}, "turns": 1, "cost_microusd": 10_000, "text": "done"}
    assert talk.result() == expected
    assert_whole(talk)


def test_the_first_event_does_not_wait_for_the_sdk(talk: Talk) -> None:
    """session.status_running is in the log before the CLI is spoken to, whose SDK takes a second to import."""
    talk.prepare()
    talk.log.message("hello")
    talk.log.fault("append_events_v1", Fault(500), Fault(500))
    assert talk.finish(talk.start()) == 0
    shipped = next(call for call in talk.log.called("append_events_v1")[2:] if 2 in call.numbers())
    spoken = until(lambda: next((talk.directory / "children/claude-1/fed").glob("000001"), None))
    assert spoken.stat().st_size > 0
    assert shipped.numbers() == [1, 2]


def test_a_message_that_comes_meanwhile_is_the_next_turn(talk: Talk) -> None:
    """In the same run and the same process, after the first has its result."""
    talk.prepare()
    talk.log.message("one")
    talk.log.message("two")
    assert talk.finish(talk.start()) == 0
    assert talk.texts() == ["you said one", "you said two"]
    assert talk.result()["turns"] == 2
    assert not (talk.directory / "children/claude-2").exists()
    assert_whole(talk)


def test_a_message_that_the_end_crosses_is_not_lost(talk: Talk) -> None:
    """The log refuses the end while a message waits: the run goes on with a new process that resumes."""
    talk.prepare()
    talk.log.message("one")
    talk.log.before["finish_run_v1"] = lambda: talk.log.message("two")
    assert talk.finish(talk.start()) == 0
    assert talk.texts() == ["you said one", "you said two"]
    assert talk.result()["turns"] == 2
    assert talk.result()["cost_microusd"] == 20_000
    assert talk.status() == "succeeded"
    assert_whole(talk)


def test_a_run_without_a_message_says_nothing(talk: Talk) -> None:
    """It ends well, and no CLI was started."""
    talk.prepare()
    assert talk.finish(talk.start()) == 0
    assert talk.status() == "succeeded"
    assert not (talk.directory / "children").exists()


def test_a_question_is_asked_and_answered(talk: Talk) -> None:
    """The use stands in the log, the session idles with its id, the answer lets it run on."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    (use,) = talk.log.of("agent.tool_use")
    assert use["evaluated_permission"] == "ask"
    assert talk.log.asked() == [use["id"]]
    talk.confirm_all()
    assert talk.finish(runner) == 0
    assert types(talk)[2:] == [
        *("agent.message", "agent.tool_use", "session.status_idle", "session.status_running"),
        *("agent.tool_result", "agent.message"),
    ]
    assert talk.log.of("agent.tool_result")[0]["content"][0]["text"] == "allow"
    assert_whole(talk)


def test_a_denial_tells_claude_why(talk: Talk) -> None:
    """deny_message reaches the CLI as the reason."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    talk.confirm_all("deny", deny_message="rather not")
    assert talk.finish(runner) == 0
    assert talk.log.of("agent.tool_result")[0]["content"][0]["text"] == "rather not"


def test_a_question_nobody_answers_is_denied(talk: Talk) -> None:
    """After confirmation_seconds."""
    talk.prepare(limits={"confirmation_seconds": 1}, agent=agent(toolset(ASK)))
    talk.log.message("hello")
    assert talk.finish(talk.start("ask")) == 0
    assert "Nobody confirmed" in talk.log.of("agent.tool_result")[0]["content"][0]["text"]
    assert talk.status() == "succeeded"


def test_two_questions_are_one_set(talk: Talk) -> None:
    """Both ids at once; after one answer the other alone; then none."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask_two")
    talk.log.wait(lambda: bool(talk.log.asked()))
    first, second = [use["id"] for use in talk.log.of("agent.tool_use")]
    assert talk.log.asked() == [first, second]
    talk.log.confirm(second)
    talk.ring()
    talk.log.wait(lambda: talk.log.asked() == [first])
    talk.log.confirm(first, "deny")
    talk.ring()
    assert talk.finish(runner) == 0
    asked = [data["stop_reason"]["event_ids"] for data in talk.log.of("session.status_idle")]
    assert asked == [[first, second], [first]]
    assert_whole(talk)


def test_what_is_allowed_is_not_asked_and_what_is_off_is_denied(talk: Talk) -> None:
    """One policy for each tool, decided without a person."""
    talk.prepare(agent=agent(toolset(bash={"enabled": False})))
    talk.log.message("hello")
    assert talk.finish(talk.start("ask_two")) == 0
    results = {data["tool_use_id"]: data["content"][0]["text"] for data in talk.log.of("agent.tool_result")}
    assert sorted(results.values()) == ["Bash is not enabled in this session.", "allow"]
    assert talk.log.of("session.status_idle") == []


@pytest.mark.parametrize("answered_meanwhile", [False, True])
def test_a_question_survives_the_runner(talk: Talk, answered_meanwhile: bool) -> None:
    """Killed while it waits: the CLI lives on, the next runner asks nothing twice and takes the answer."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    talk.kill(runner)
    if answered_meanwhile:
        talk.confirm_all()
    runner = resume(talk, "ask")
    talk.log.wait(lambda: "run.resumed" in types(talk))
    if not answered_meanwhile:
        talk.confirm_all()
    assert talk.finish(runner) == 0
    assert len(talk.log.of("session.status_idle")) == 1
    assert talk.texts() == ["you said hello", "all answered"]
    assert talk.status() == "succeeded"
    assert talk.result()["turns"] == 1
    assert_whole(talk)


@pytest.mark.parametrize("seed", range(3))
def test_a_runner_killed_again_and_again_repeats_nothing(talk: Talk, seed: int) -> None:
    """At any point: each message is said once, each event stands once, the run ends well."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("one")
    talk.log.message("two")
    for step in range(4):
        runner = talk.start("ask") if step == 0 else resume(talk, "ask")
        calls = len(talk.log.calls) + 2 * step + seed
        until(functools.partial(moved_on, talk, runner, calls))
        talk.kill(runner)
        talk.confirm_all()
    runner = resume(talk, "ask")
    until(functools.partial(confirmed, talk, runner), 60)
    assert runner.returncode == 0, talk.told()
    assert talk.texts() == ["you said one", "all answered", "you said two", "all answered"]
    assert talk.result()["turns"] == 2
    assert talk.status() == "succeeded"
    assert_whole(talk)


def test_a_cli_that_ended_while_the_runner_was_dead_is_read_to_its_end(talk: Talk) -> None:
    """What it had said by then is in the log, and that it is gone is told."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    talk.kill(runner)
    for pid in talk.survivors():
        if b"FAKE_CLI" in read_environ(pid):
            os.kill(pid, signal.SIGKILL)
    assert talk.finish(resume(talk, "ask")) == 0
    assert talk.status() == "failed"
    assert talk.texts() == ["you said hello"]
    assert_whole(talk)


def test_an_interrupt_stops_the_turn(talk: Talk) -> None:
    """The CLI is asked to stop, the run ends as cancelled, with end_turn."""
    talk.prepare()
    talk.log.message("hello")
    runner = talk.start("no_result")
    talk.log.wait(lambda: talk.texts() == ["you said hello"])
    talk.say("user.interrupt")
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert talk.result()["stop_reason"] == {"type": "end_turn"}
    assert talk.errors() == []
    assert_whole(talk)


def test_a_turn_that_does_not_hear_the_interrupt_is_stopped(talk: Talk) -> None:
    """Within interrupt_seconds the process group goes."""
    talk.prepare(limits={"interrupt_seconds": 0.5})
    talk.log.message("hello")
    runner = talk.start("deaf")
    talk.log.wait(lambda: talk.texts() == ["you said hello"])
    talk.say("user.interrupt")
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert_whole(talk)


@pytest.mark.parametrize("way", ["no_result", "deaf"])
def test_a_message_after_the_interrupt_is_the_next_turn(talk: Talk, way: str) -> None:
    """In the same run, whether the CLI stopped by itself or had to be stopped."""
    talk.prepare(limits={"interrupt_seconds": 0.5})
    talk.log.message("one")
    runner = talk.start(way)
    talk.log.wait(lambda: "you said one" in talk.texts())
    talk.log.say("user.interrupt")
    talk.message_and_ring("two")
    talk.log.wait(lambda: "you said two" in talk.texts())
    talk.say("user.interrupt")
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert [text for text in talk.texts() if text.startswith("you")] == ["you said one", "you said two"]
    assert_whole(talk)


def test_an_interrupt_takes_the_question_back(talk: Talk) -> None:
    """Nothing is asked any more, and the run ends as cancelled."""
    talk.prepare(agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    talk.say("user.interrupt")
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert_whole(talk)


def test_an_interrupt_before_the_turn_began_is_heard(talk: Talk) -> None:
    """The message before it is not said to Claude at all."""
    talk.prepare()
    talk.log.message("hello")
    talk.log.say("user.interrupt")
    assert talk.finish(talk.start()) == 0
    assert talk.texts() == []
    assert talk.status() == "cancelled"


def test_cancelling_the_run_ends_it(talk: Talk) -> None:
    """As any other run: the process group goes, the run is cancelled, messages that wait stay unsaid."""
    talk.prepare()
    talk.log.message("one")
    runner = talk.start("no_result")
    talk.log.wait(lambda: talk.texts() == ["you said one"])
    talk.log.message("two")
    talk.log.cancel_requested = True
    talk.ring()
    assert talk.finish(runner) == 0
    assert talk.status() == "cancelled"
    assert talk.texts() == ["you said one"]
    assert_whole(talk)


def test_a_run_over_its_limit_times_out(talk: Talk) -> None:
    """The limit of the whole run holds too."""
    talk.prepare(job={"limit_seconds": 4})
    talk.log.message("hello")
    assert talk.finish(talk.start("no_result")) == 0
    assert talk.status() == "timed_out"
    assert talk.watchdogs() == ["turn_overdue"]
    assert_whole(talk)


def test_a_superseded_runner_leaves_nobody(talk: Talk) -> None:
    """Its token is refused: the CLI is ended, and nothing more is written."""
    talk.prepare()
    talk.log.message("hello")
    runner = talk.start("no_result")
    talk.log.wait(lambda: talk.texts() == ["you said hello"])
    talk.log.forbidden = 403
    assert talk.finish(runner) == 3
    assert talk.survivors() == []


def test_the_keys_stay_out_of_the_log(talk: Talk) -> None:
    """A CLI that prints its whole environment tells neither the model's key nor the run token."""
    talk.prepare(job={"credentials": "env"})
    talk.log.bearer = "token-of-this-run-4711"
    talk.log.message("hello")
    runner = talk.start("environment", ANTHROPIC_API_KEY=CANARY, SANDSTREAM_RUN_TOKEN=talk.log.bearer)
    assert talk.finish(runner) == 0
    said = talk.texts()[1]
    assert "ANTHROPIC_API_KEY=[redacted" in said
    assert "SANDSTREAM_RUN_TOKEN" not in said
    for secret in (CANARY, talk.log.bearer):
        assert secret not in talk.raw()
        assert secret not in (talk.directory / "spool.ndjson").read_text()


def test_the_sandboxs_environment_does_not_steer_the_cli(talk: Talk) -> None:
    """With egress rules the CLI gets a placeholder, and the address of the job, whatever is set around it."""
    talk.prepare()
    talk.log.message("hello")
    astray = {"ANTHROPIC_BASE_URL": "http://evil.example", "ANTHROPIC_AUTH_TOKEN": "x", "CLAUDE_CODE_USE_BEDROCK": "1"}
    assert talk.finish(talk.start("environment", ANTHROPIC_API_KEY=CANARY, **astray)) == 0
    said = dict(word.partition("=")[::2] for word in talk.texts()[1].split())
    assert said["ANTHROPIC_API_KEY"] == "placeholder"
    assert said["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9"
    assert said["CLAUDE_CONFIG_DIR"] == str(talk.home / ".sandstream/claude")
    assert not {"ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK"} & said.keys()


def test_a_template_without_claude_is_told(talk: Talk) -> None:
    """The run fails with a type of its own."""
    talk.prepare()
    talk.log.message("hello")
    (talk.bin / "claude").unlink()
    runner = talk.start("polite", PYTHONPATH=str(talk.without_sdk()))
    assert talk.finish(runner) == 0
    assert talk.status() == "failed"
    assert talk.log.finished is not None
    assert talk.log.finished["error"]["type"] == "template_lacks_claude"


@pytest.mark.parametrize("bad", [{"agent": {}}, {"agent": None}, {"after_seq": "x"}, {"limits": {"turn_seconds": "x"}}])
def test_an_input_that_makes_no_sense_ends_the_run(talk: Talk, bad: dict[str, Any]) -> None:
    """Validated long before; should it come here, the run fails in the log."""
    talk.prepare()
    job = json.loads((talk.directory / "job.json").read_text())
    job["input"].update(bad)
    (talk.directory / "job.json").write_text(json.dumps(job))
    assert talk.finish(talk.start()) == 0
    assert talk.log.finished is not None
    assert talk.log.finished["error"]["type"] == "job_invalid"

"""Each watchdog with a CLI that misbehaves that way, ten times: a true end, nobody left, what was said is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runner.session_server import SessionLog
from tests.runner.talk import ASK, Talk, agent, toolset

TIMES = 10
AT_ONCE = 5
SECONDS = 120


@contextlib.contextmanager
def talks(root: Path, way: str, limits: dict[str, float], count: int) -> Iterator[list[Talk]]:
    """`count` runs at once with a CLI of that kind, all of them ended."""
    with contextlib.ExitStack() as stack:
        made = []
        for index in range(count):
            directory = root / str(index)
            directory.mkdir(parents=True)
            talk = Talk(directory, stack.enter_context(SessionLog()))
            stack.callback(talk.close)
            talk.fake()
            talk.prepare(limits=limits)
            talk.log.message("hello")
            made.append((talk, talk.start(way)))
        for talk, runner in made:
            assert talk.finish(runner, SECONDS) == 0, talk.told()
        yield [talk for talk, _ in made]


CASES: dict[str, tuple[dict[str, float], list[str], str]] = {
    "no_result": ({"turn_seconds": 2}, ["turn_overdue"], "timed_out"),
    "silent": ({"silent_seconds": 2}, ["silent"], "failed"),
    "close_stdout": ({}, ["output_closed"], "failed"),
    "stubborn": ({"turn_seconds": 2}, ["turn_overdue", "ignored_sigterm"], "timed_out"),
    "long_line": ({}, ["line_too_long"], "failed"),
    "linger": ({"exit_seconds": 0.5}, ["lingered_after_result"], "succeeded"),
    "linger_stubborn": ({"exit_seconds": 0.5}, ["lingered_after_result", "ignored_sigterm"], "succeeded"),
    "grandchildren": ({}, ["left_processes"], "succeeded"),
    "foreign": ({}, [], "succeeded"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", CASES)
def test_a_cli_that_misbehaves_is_ended(tmp_path: Path, way: str) -> None:
    """Its watchdog is told once, the run ends as it should, no process is left, and what was said stands in the log."""
    limits, watchdogs, status = CASES[way]
    for batch in range(TIMES // AT_ONCE):
        with talks(tmp_path / str(batch), way, limits, AT_ONCE) as made:
            for talk in made:
                assert talk.watchdogs() == watchdogs, talk.errors()
                assert talk.status() == status
                assert talk.survivors() == []
                assert talk.texts()[0] == "you said hello"
                assert len(talk.ids()) == len(set(talk.ids()))
                succeeded = status == "succeeded"
                assert talk.result()["turns"] == (1 if succeeded or way == "long_line" else 0)
                assert talk.result()["stop_reason"]["type"] == ("end_turn" if succeeded else "retries_exhausted")


def test_what_was_cut_in_two_by_a_foreign_event_is_whole(talk: Talk) -> None:
    """The event in the middle is taken out, the sentence around it is said."""
    talk.prepare()
    talk.log.message("hello")
    assert talk.finish(talk.start("foreign")) == 0
    assert talk.texts() == ["you said hello", "a sentence that was cut in two"]


def test_a_line_of_fifty_megabytes_is_told_by_size_and_hash(talk: Talk) -> None:
    """Its content is not kept; how much it was is."""
    talk.prepare()
    talk.log.message("hello")
    assert talk.finish(talk.start("long_line")) == 0
    (told,) = talk.log.of("agent.unparsed")
    assert told["bytes"] > 50 * 1024 * 1024
    assert len(told["sha256"]) == 64
    assert len(told["head"]) <= 200


def test_a_cli_that_dies_is_told_with_its_last_words(talk: Talk) -> None:
    """Exit code and stderr, in a run that failed."""
    talk.prepare()
    talk.log.message("hello")
    assert talk.finish(talk.start("die")) == 0
    assert talk.status() == "failed"
    assert "exit code 3" in talk.errors()[0]["message"]
    assert "died of something" in talk.errors()[0]["message"]
    assert talk.log.finished is not None
    assert talk.log.finished["error"]["type"] == "claude_ended"


def test_a_cli_that_never_answers_is_given_up(talk: Talk) -> None:
    """Not even its greeting comes: the run fails, without a prompt having been sent, and is not tried again."""
    talk.prepare(limits={"start_seconds": 1})
    talk.log.message("hello")
    assert talk.finish(talk.start("mute")) == 0
    assert talk.watchdogs() == ["silent"]
    assert talk.status() == "failed"
    assert talk.survivors() == []


def test_a_person_who_thinks_costs_no_time(talk: Talk) -> None:
    """The limits of a turn count work: waiting for an answer longer than both is no fault."""
    talk.prepare(limits={"turn_seconds": 3, "silent_seconds": 2}, agent=agent(toolset(ASK)))
    talk.log.message("hello")
    runner = talk.start("ask")
    talk.log.wait(lambda: bool(talk.log.asked()))
    beats = len(talk.log.called("heartbeat_v1"))
    talk.log.wait(lambda: len(talk.log.called("heartbeat_v1")) >= beats + 3)
    talk.confirm_all()
    assert talk.finish(runner) == 0
    assert talk.status() == "succeeded"
    assert talk.watchdogs() == []

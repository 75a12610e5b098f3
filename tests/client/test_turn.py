"""A turn, told by its events."""

from __future__ import annotations

import pytest

from sandstream.turn import Turn, last_turn
from tests.client.events_of import SESSION, Log


def charged(log: Log, tokens_in: int, tokens_out: int, cached: int = 0) -> None:
    usage = {"input_tokens": tokens_in, "output_tokens": tokens_out, "cache_read_input_tokens": cached}
    log.add("span.model_request_end", model_usage=usage)


def test_a_turn_adds_up() -> None:
    """Why it ended, the requests, every token of the input, the cost, the time from first event to last."""
    log = Log()
    log.message("build it")
    charged(log, 1000, 20)
    charged(log, 10, 500, cached=4000)
    log.add("run.succeeded", result={"cost_microusd": 12345}, error=None)
    log.rests()
    turn = Turn.of(log.events)
    assert turn.ended
    assert not turn.is_open
    assert turn.summary == "end_turn · 2 model requests · 5,010 tokens in, 520 out · $0.0123 · 4.0 s"


def test_what_is_not_known_is_not_made_up() -> None:
    """A turn without a price shows none, one without an end says so."""
    log = Log()
    log.message("build it")
    assert Turn.of(log.events).summary == "no end · 0 model requests · 0 tokens in, 0 out · 0.0 s"


def test_a_question_waits_until_it_is_answered() -> None:
    """The tool uses that ask are known by the ids in the stop reason, and each answer takes its own away."""
    log, turn = Log(), Turn()
    log.message("clean up")
    log.uses("sevt_a", "bash", command="rm a")
    log.uses("sevt_b", "bash", command="rm b")
    log.rests("requires_action", event_ids=["sevt_b", "sevt_a"])
    for event in log.events:
        turn.add(event)
    assert [use.id for use in turn.waits_for] == ["sevt_b", "sevt_a"]
    assert turn.is_open
    turn.add(log.add("user.tool_confirmation", tool_use_id="sevt_b", result="allow"))
    assert [use.id for use in turn.waits_for] == ["sevt_a"]
    turn.add(log.add("session.status_running"))
    assert turn.waits_for == []
    assert turn.stop_reason == ""


def test_a_custom_tool_waits_likewise() -> None:
    """Its result is the answer."""
    log = Log()
    log.add("agent.custom_tool_use", id="sevt_c", name="weather", input={})
    log.rests("requires_action", event_ids=["sevt_c"])
    assert [use.id for use in Turn.of(log.events).waits_for] == ["sevt_c"]
    log.add("user.custom_tool_result", custom_tool_use_id="sevt_c", content=[])
    assert Turn.of(log.events).waits_for == []


@pytest.mark.parametrize("end", ["run.failed", "run.timed_out", "run.lost"])
def test_a_failed_run_is_a_failed_turn(end: str) -> None:
    """However it failed, and with the words of the error."""
    log = Log()
    log.message("build it")
    log.add(end, result=None, error={"type": "unknown_error", "message": "it broke"})
    log.rests()
    turn = Turn.of(log.events)
    assert turn.failed
    assert turn.error == "it broke (unknown_error)"


def test_an_error_that_was_overcome_is_no_failure() -> None:
    """A retry that helped leaves the turn whole."""
    log = Log()
    log.message("build it")
    log.add("session.error", error={"type": "model_overloaded_error", "message": "busy"})
    log.rests()
    assert not Turn.of(log.events).failed


@pytest.mark.parametrize(
    ("type", "reason"), [("session.status_terminated", "terminated"), ("session.deleted", "deleted")]
)
def test_a_session_that_is_gone_has_ended_its_turn(type: str, reason: str) -> None:
    """Nobody waits for what cannot come."""
    log = Log()
    log.message("build it")
    log.add(type)
    turn = Turn.of(log.events)
    assert (turn.ended, turn.stop_reason) == (True, reason)


def test_the_last_turn_begins_with_its_message() -> None:
    """Earlier turns are left out; a message that came while the turn worked is a part of it."""
    log = Log()
    log.message("one")
    log.rests()
    first = log.message("two")
    log.says("sevt_m", "working")
    log.message("and this")
    log.rests()
    assert [event.seq for event in last_turn(log.events)] == list(range(first.seq, first.seq + 4))
    assert last_turn([]) == []
    assert log.events[0].session_id == SESSION

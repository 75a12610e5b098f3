"""Whose tokens they are: what only the CLI's own sums tell of is told model by model, where that adds up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_scripts.drivers.claude.totals import USAGE_KEYS, Totals, plain
from tests.runner.claude_record import assistant, fold, line, mapped, of, validated

OPUS, HAIKU = "claude-opus-4-8", "claude-haiku-5-5"
SPLIT = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 10}
COUNTS = st.integers(0, 50)
MODELS = st.dictionaries(st.sampled_from([OPUS, HAIKU, "other"]), st.tuples(COUNTS, COUNTS), max_size=3)


def told(input: int, output: int, written: int = 0, read: int = 0, **more: int) -> dict[str, int]:
    """One model's entry in a `result`."""
    counts = {"inputTokens": input, "outputTokens": output}
    return {**counts, "cacheCreationInputTokens": written, "cacheReadInputTokens": read, **more}


def used(input: int, output: int) -> dict[str, Any]:
    """A usage of the API."""
    return {**dict.fromkeys(USAGE_KEYS, 0), "input_tokens": input, "output_tokens": output}


def result(**models: dict[str, int]) -> dict[str, Any]:
    """A `result` with what was used since the last one."""
    return {"type": "result", "subtype": "success", "model_usage_since_last_result": models}


def said(model: str, usage: dict[str, Any], id: str = "msg_1") -> dict[str, Any]:
    """An assistant's line with its usage."""
    value = assistant({"type": "text", "text": "x"}, id=id)
    value["message"].update(model=model, usage=usage)
    return value


def unseen(events: list[Any]) -> list[tuple[Any, int, int]]:
    """(model, input, output) of the spans of requests that have no lines."""
    ends = [data for data in of(events, "span.model_request_end") if data.get("unseen")]
    return [
        (data.get("model"), data["model_usage"]["input_tokens"], data["model_usage"]["output_tokens"]) for data in ends
    ]


def test_each_model_has_its_own_span() -> None:
    """The main model's line is there; a sub-agent's last message and a title's have none. Starts say the model too."""
    events = mapped(
        said(OPUS, used(10, 5)),
        result(**{OPUS: told(110, 25), HAIKU: told(300, 7)}),
    )
    assert unseen(events) == [(OPUS, 100, 20), (HAIKU, 300, 7)]
    assert [data["model"] for data in of(events, "span.model_request_start")] == [OPUS, OPUS, HAIKU]
    ids = [data["id"] for _, data in events]
    assert len(set(ids)) == len(ids)
    assert ids[-4:] == [f"sevt_run_unseen_1{number}_{end}" for number in ("", "_2") for end in ("start", "end")]
    for event in events:
        validated(event)


@pytest.mark.parametrize("name", [OPUS, f"{OPUS}-20260801", f"{OPUS}[1m]", f"{OPUS}-20260801[1m]", f"{OPUS}-latest"])
def test_a_model_is_known_by_all_its_names(name: str) -> None:
    """The API answers with a date, the CLI counts by what it was asked for."""
    assert plain(name) == OPUS
    assert unseen(mapped(said(OPUS, used(10, 5)), result(**{name: told(10, 5)}))) == []
    assert unseen(mapped(said(name, used(10, 5)), result(**{OPUS: told(10, 6)}))) == [(OPUS, 0, 1)]


def test_names_that_only_look_like_variants_are_others() -> None:
    """Seven digits are no date, and what stands before one belongs to the name."""
    assert plain("claude-x-1234567") == "claude-x-1234567"
    assert plain("claude-20260801-x") == "claude-20260801-x"
    assert plain("") is plain(None) is None


def test_models_that_do_not_add_up_are_one_span_without_a_model() -> None:
    """The API calls the model by another name than the CLI: what is missing in all is told, and of nobody."""
    events = mapped(said("gateway/opus", used(10, 5)), result(**{OPUS: told(10, 5), HAIKU: told(3, 1)}))
    assert unseen(events) == [(None, 3, 1)]
    assert "model" not in of(events, "span.model_request_start")[-1]


def test_a_matter_of_names_is_settled_once() -> None:
    """The next result's models add up again."""
    by = fold()
    first = [said("gateway/opus", used(10, 5)), result(**{OPUS: told(10, 5), HAIKU: told(3, 1)})]
    second = result(**{HAIKU: told(4, 2)})
    events = [event for number, value in enumerate([*first, second]) for event in by.take(line(value, number))]
    assert unseen(events) == [(None, 3, 1), (HAIKU, 4, 2)]


def test_without_news_since_the_last_result_the_whole_is_compared() -> None:
    """An older CLI tells only the sums of the whole process."""
    by = fold()
    values = [
        {"type": "result", "subtype": "success", "modelUsage": {HAIKU: told(4, 2)}},
        {"type": "result", "subtype": "success", "modelUsage": {HAIKU: told(9, 2), OPUS: told(1, 1)}},
    ]
    events = [event for number, value in enumerate(values) for event in by.take(line(value, number))]
    assert unseen(events) == [(HAIKU, 4, 2), (HAIKU, 5, 0), (OPUS, 1, 1)]


@pytest.mark.parametrize("models", [None, [], {"m": None}, {"m": {"inputTokens": "x"}}, {"m": {"inputTokens": -1}}])
def test_sums_that_make_no_sense_are_none(models: Any) -> None:
    """They raise nothing and tell nothing."""
    assert unseen(mapped({"type": "result", "subtype": "success", "model_usage_since_last_result": models})) == []


@given(st.lists(st.tuples(MODELS, MODELS), max_size=4))
def test_whatever_is_told_all_tokens_are_told_once(turns: list[tuple[Any, Any]]) -> None:
    """Spans and unseen spans together are what the CLI reports, for every kind of token, unless more was seen."""
    totals = Totals()
    seen = reported = 0
    for spans, models in turns:
        for model, counts in spans.items():
            totals.add(used(*counts), model)
            seen += counts[0]
        reported += sum(counts[0] for counts in models.values())
        seen += sum(
            usage["input_tokens"]
            for _, usage in totals.missing(result(**{name: told(*counts) for name, counts in models.items()}))
        )
        assert seen >= reported
    clean = Totals()
    assert sum(u["input_tokens"] for _, u in clean.missing(result(a=told(3, 0), b=told(4, 0)))) == 7
    assert clean.missing(result()) == []


def test_how_long_a_cache_write_is_kept_is_told_where_the_api_does() -> None:
    """From the message's start; the delta's zeros mean that they are the start's, as with the other counts."""
    usage = {**used(1, 1), "cache_creation_input_tokens": 40, "cache_creation": SPLIT}
    (end,) = of(mapped(said(OPUS, usage), result()), "span.model_request_end")
    assert end["model_usage"]["cache_creation"] == SPLIT
    validated(("span.model_request_end", end))
    (plainly,) = of(mapped(said(OPUS, used(1, 1)), result()), "span.model_request_end")
    assert "cache_creation" not in plainly["model_usage"]


@pytest.mark.parametrize("final", [None, dict.fromkeys(SPLIT, 0), {**SPLIT, "ephemeral_1h_input_tokens": 11}])
def test_a_streams_split_is_its_last(final: dict[str, int] | None) -> None:
    """As with the other counts, zeros in the delta mean that they are the start's."""
    first = {**used(1, 1), "cache_creation_input_tokens": 40, "cache_creation": SPLIT}
    start = {"type": "message_start", "message": {"id": "msg_1", "model": OPUS, "usage": first}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    if final is not None:
        delta["usage"] = {"output_tokens": 2, "cache_creation": final}
    events = mapped(*({"type": "stream_event", "event": event} for event in (start, delta, {"type": "message_stop"})))
    (end,) = of(events, "span.model_request_end")
    assert end["model_usage"]["cache_creation"] == (final if final and any(final.values()) else SPLIT)


def test_the_split_of_unseen_tokens_is_what_the_sums_have_beyond_the_lines() -> None:
    """Told by the CLI in its own words."""
    usage = {**used(1, 1), "cache_creation_input_tokens": 40, "cache_creation": SPLIT}
    sums = {"cacheCreationEphemeral5mInputTokens": 30, "cacheCreationEphemeral1hInputTokens": 25}
    events = mapped(said(OPUS, usage), result(**{OPUS: told(1, 1, 55, **sums)}))
    end = of(events, "span.model_request_end")[-1]
    assert end["model_usage"]["cache_creation_input_tokens"] == 15
    assert end["model_usage"]["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 15}


@pytest.mark.parametrize("split", [None, 7, [], {"ephemeral_1h_input_tokens": "x"}])
def test_a_split_that_makes_no_sense_breaks_nothing(split: Any) -> None:
    """Counts that are none are zero, and what is no split is left out."""
    usage = {**used(1, 1), "cache_creation": split}
    (end,) = of(mapped(said(OPUS, usage), result()), "span.model_request_end")
    assert json.dumps(end["model_usage"].get("cache_creation", {})) in (json.dumps(dict.fromkeys(SPLIT, 0)), "{}")

"""The CLI's lines become events of the API's types: with the real CLI's lines, and with any."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_scripts.drivers.claude.events import Fold, key_of
from sandbox_scripts.drivers.claude.lines import Line, Splitter, Unparsed
from sandbox_scripts.drivers.claude.silence import SILENT, SILENT_BLOCKS, SILENT_USER_BLOCKS
from tests.runner.claude_record import (
    OURS,
    RECORDS,
    allowed,
    assistant,
    fold,
    folded,
    items,
    line,
    mapped,
    of,
    recorded,
    same,
    texts,
    tool_result,
    tool_use,
    validated,
)

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize("name", RECORDS)
def test_recorded_events_are_the_apis(name: str) -> None:
    """Every event of every recording validates as the SDK's model of its type; none is unparsed; no id twice."""
    events = folded(name)
    for event in events:
        validated(event)
    ids = [data["id"] for _, data in events]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"sevt_[A-Za-z0-9_-]+", id) for id in ids)


@pytest.mark.parametrize("name", RECORDS)
def test_a_replay_gives_the_same_events(name: str) -> None:
    """A restarted runner reads from the start, and the spool knows every id."""
    assert folded(name) == folded(name)


@pytest.mark.parametrize("name", RECORDS)
def test_usage_is_what_the_api_said(name: str) -> None:
    """Tokens summed over the ends of requests are the tokens of the whole process, sub-agents and compaction too."""
    results = [
        item.value for item in items(recorded(name)) if isinstance(item, Line) and key_of(item.value) == "result"
    ]
    models = [model for result in results for model in result["model_usage_since_last_result"].values()]
    sums = [data["model_usage"] for data in of(folded(name), "span.model_request_end")]
    for ours, theirs in (
        ("input_tokens", "inputTokens"),
        ("output_tokens", "outputTokens"),
        ("cache_read_input_tokens", "cacheReadInputTokens"),
        ("cache_creation_input_tokens", "cacheCreationInputTokens"),
    ):
        assert sum(usage[ours] for usage in sums) == sum(model[theirs] for model in models)


@pytest.mark.parametrize("name", RECORDS)
def test_every_request_that_starts_ends(name: str) -> None:
    """One start and one end for each, in this order, and nothing of a message after its end."""
    events = folded(name)
    kinds = {data["id"]: number for number, (kind, data) in enumerate(events)}
    starts = [data["id"] for data in of(events, "span.model_request_start")]
    ends = [data["model_request_start_id"] for data in of(events, "span.model_request_end")]
    assert sorted(starts) == sorted(ends)
    for start in starts:
        assert kinds[start] < kinds[start.removesuffix("_start") + "_end"]


def test_a_turn_with_a_tool() -> None:
    """Thinking, text, a tool and its result, and the answer: in the order said, with ids of the model's own."""
    events = folded("tool")
    assert [(kind, data["id"]) for kind, data in events] == [
        ("span.model_request_start", "sevt_msg_main01_start"),
        ("agent.thinking", "sevt_msg_main01_0"),
        ("agent.message", "sevt_msg_main01_1"),
        ("agent.tool_use", "sevt_toolu_main012"),
        ("span.model_request_end", "sevt_msg_main01_end"),
        ("agent.tool_result", "sevt_toolu_main012_result"),
        ("span.model_request_start", "sevt_msg_main02_start"),
        ("agent.message", "sevt_msg_main02_0"),
        ("span.model_request_end", "sevt_msg_main02_end"),
    ]
    data = dict(events)
    assert data["agent.thinking"]["thinking"] == "The user wants hi. "
    assert (data["agent.tool_use"]["name"], data["agent.tool_use"]["evaluated_permission"]) == ("bash", "allow")
    assert data["agent.tool_use"]["input"]["command"] == "echo hi > hi.txt; cat hi.txt"
    assert data["agent.tool_result"] == {
        "id": "sevt_toolu_main012_result",
        "tool_use_id": "sevt_toolu_main012",
        "is_error": False,
        "content": [{"type": "text", "text": "hi"}],
    }


def test_usage_is_not_the_one_repeated_per_block() -> None:
    """The lines of a message say one output token each; the stream's end says how many there were."""
    (first, second) = of(folded("tool"), "span.model_request_end")
    assert first["model_usage"]["output_tokens"] == 43
    assert second["model_usage"]["output_tokens"] == 44
    assert not first["is_error"]


def test_blocks_have_the_streams_numbers() -> None:
    """The CLI leaves out an empty text block; those after it keep the ids that their previews had."""
    said = [data["id"] for data in of(folded("empty_text"), "agent.message")]
    assert said == ["sevt_msg_main01_0", "sevt_msg_main02_1", "sevt_msg_main02_2", "sevt_msg_main03_0"]


def test_without_stream_events_blocks_are_counted() -> None:
    """The ids and events are those of the same turn with stream events; only the usage is the lines' own."""
    plain = [(kind, data["id"]) for kind, data in folded("no_stream") if not data.get("unseen")]
    assert sorted(plain) == sorted((kind, data["id"]) for kind, data in folded("tool"))


def test_mcp_and_custom_tools() -> None:
    """By the server in the name: MCP events say it, custom uses do not, and a custom result is the client's event."""
    events = folded("mcp")
    (used,) = of(events, "agent.mcp_tool_use")
    assert (used["mcp_server_name"], used["name"], used["evaluated_permission"]) == ("lib", "look_up", "allow")
    (custom,) = of(events, "agent.custom_tool_use")
    assert (custom["name"], custom["input"]) == ("look_up", {"q": "y"})
    assert "evaluated_permission" not in custom
    (result,) = of(events, "agent.mcp_tool_result")
    assert result["mcp_tool_use_id"] == used["id"]
    assert [block["type"] for block in result["content"]] == ["text", "image", "text"]
    assert of(events, "agent.tool_result") == []


def test_a_missing_mcp_server_is_told_once() -> None:
    """Each turn begins with the list of servers; the error has the server's name, and the turn goes on."""
    init = {"type": "system", "subtype": "init", "session_id": "s", "mcp_servers": [{"name": "x", "status": "failed"}]}
    needs = {**init, "mcp_servers": [{"name": "y", "status": "needs-auth"}, {"name": "z", "status": "connected"}]}
    events = mapped(init, init, needs)
    errors = [data["error"] for data in of(events, "session.error")]
    assert [(error["type"], error["mcp_server_name"]) for error in errors] == [
        ("mcp_connection_failed_error", "x"),
        ("mcp_authentication_failed_error", "y"),
    ]
    assert [validated(event).error.retry_status.type for event in events] == ["retrying", "retrying"]
    assert of(folded("mcp"), "session.error")[0]["error"]["mcp_server_name"] == "broken"


def test_sub_agents_are_told_apart() -> None:
    """What a sub-agent does names the tool use it works for; its prompt and progress are no events."""
    events = folded("subagent")
    inner = [(kind, data["id"]) for kind, data in events if data.get("parent_tool_use_id") == "sevt_toolu_main011"]
    assert inner == [
        ("span.model_request_start", "sevt_msg_sub02_start"),
        ("agent.tool_use", "sevt_toolu_sub020"),
        ("agent.tool_result", "sevt_toolu_sub020_result"),
        ("span.model_request_end", "sevt_msg_sub02_end"),
    ]
    (unseen,) = [data for data in of(events, "span.model_request_end") if data.get("unseen")]
    assert unseen["model_usage"]["input_tokens"] == 103
    assert texts(events) == ["Delegating. ", "All done. "]


def test_a_sub_agents_failure_is_not_the_sessions() -> None:
    """An API error that a sub-agent meets is its words; the turn goes on."""
    value = assistant({"type": "text", "text": "API Error"}, id="x", error="rate_limit", is_api_error_message=True)
    events = mapped({**value, "parent_tool_use_id": "toolu_9"})
    assert of(events, "session.error") == []
    assert texts(events) == ["API Error"]


def test_what_runs_is_known() -> None:
    """From a tool's use to its result; the turn's end ends all; a request is open until its end."""
    by = fold()
    by.take(line(assistant(tool_use("Bash"), tool_use("Read", id="toolu_2"))))
    assert by.running_tools == {"sevt_toolu_1": "Bash", "sevt_toolu_2": "Read"}
    assert by.requesting
    by.take(line(tool_result("ok")))
    assert by.running_tools == {"sevt_toolu_2": "Read"}
    by.take(line({"type": "result", "subtype": "success"}))
    assert by.running_tools == {}
    assert not by.requesting


def test_the_outcome_is_the_newest_turns() -> None:
    """It is there after a result, and gone when the next turn begins to speak."""
    by, seen = fold(), []
    for item in items(recorded("two_turns")):
        by.take(item)
        seen.append(by.outcome is not None)
    assert by.results == 2
    assert [now for before, now in zip([None, *seen], seen, strict=False) if now != before] == [
        False,
        True,
        False,
        True,
    ]
    assert by.outcome is not None
    assert by.outcome.text == "All done. "


def test_compaction_is_told() -> None:
    """The boundary is an event; the summary that the model gets is none."""
    events = folded("compacted")
    (data,) = of(events, "agent.thread_context_compacted")
    assert (data["trigger"], data["pre_tokens"]) == ("manual", 159)
    assert texts(events) == ["All done. "]


def test_local_commands_are_messages() -> None:
    """What the CLI itself answers is said, and costs no request."""
    events = folded("slash")
    assert [kind for kind, _ in events] == ["agent.message"]
    told = mapped({"type": "system", "subtype": "local_command_output", "content": "Cost: nothing"})
    assert texts(told) == ["Cost: nothing"]


def test_an_interrupted_message_is_kept() -> None:
    """What was said until then, marked; its request ends in error."""
    events = folded("interrupted")
    (said,) = of(events, "agent.message")
    assert (said["content"][0]["text"], said["aborted"]) == ("one ", True)
    assert of(events, "span.model_request_end")[0]["is_error"]
    assert of(events, "session.error") == []


def test_a_stream_that_breaks_off_ends_its_request() -> None:
    """With the next message's start, with a result, and with the output."""
    start = {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "msg_1", "usage": {}}}}
    other = json.loads(json.dumps(start).replace("msg_1", "msg_2"))
    by = fold()
    by.take(line(start))
    assert [data["id"] for _, data in by.take(line(other))] == ["sevt_msg_1_end", "sevt_msg_2_start"]
    ((kind, data),) = by.close()
    assert (kind, data["id"], data["is_error"]) == ("span.model_request_end", "sevt_msg_2_end", True)
    assert by.close() == []


def test_blocks_of_the_model() -> None:
    """Each type of block, in the shape the API has for it."""
    events = mapped(
        assistant(
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "WebSearch", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]},
            {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "find", "server_name": "lib", "input": {}},
            {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": True, "content": "no"},
            {"type": "compaction", "content": "summary"},
            {"type": "fallback"},
        )
    )
    assert [kind for kind, _ in events[1:]] == [
        "agent.thinking",
        "agent.tool_use",
        "agent.tool_result",
        "agent.mcp_tool_use",
        "agent.mcp_tool_result",
        "agent.thread_context_compacted",
    ]
    for event in events:
        validated(event)
    assert events[2][1]["name"] == "web_search"
    assert events[5][1]["is_error"]


def test_what_is_not_known_is_kept() -> None:
    """A line, a block or a stream event of a new type is an event with size, hash and head; the rest is read on."""
    events = mapped(
        {"type": "new_thing", "value": 1},
        {"type": "system", "subtype": "new_subtype"},
        assistant({"type": "new_block"}, {"type": "text", "text": "Hi"}, "odd", {"type": "text"}),
        {"type": "stream_event", "event": {"type": "new_event"}},
        {"type": "user", "message": {"content": [{"type": "new_block"}, {"type": "tool_result"}]}},
        {"type": "assistant"},
        {"type": ["list"]},
        {},
    )
    reasons = [data["reason"] for data in of(events, "agent.unparsed")]
    assert reasons.count("unknown_type") == 5
    assert reasons.count("unknown_block") == 5
    assert reasons.count("malformed") == 1
    assert texts(events) == ["Hi"]
    raw = json.dumps({"type": "new_thing", "value": 1})
    assert events[0][1]["head"] == raw
    assert events[0][1]["bytes"] == len(raw)


def test_bytes_that_are_no_line_are_kept() -> None:
    """With what the reader knows of them; the head is redacted before it is cut."""
    by = Fold("run", lambda text: text.replace(SECRET, "***"), allowed)
    head = "x" * 190 + SECRET + "y" * 100
    ((kind, data),) = by.take(Unparsed(7, 1000, "abc", head, "too_long"))
    assert kind == "agent.unparsed"
    assert data["head"] == ("x" * 190 + "***" + "y" * 100)[:200]
    assert (data["id"], data["bytes"], data["sha256"]) == ("sevt_run_unparsed_7", 1000, "abc")


def test_silence_is_named() -> None:
    """No line is both mapped and silent, and each silence has its reason."""
    assert not set(SILENT) & set(Fold.TABLE)
    assert not set(SILENT_BLOCKS) & set(Fold.BLOCKS)
    assert all([*SILENT.values(), *SILENT_BLOCKS.values(), *SILENT_USER_BLOCKS.values()])
    for key in SILENT:
        kind, _, subtype = key.partition("/")
        assert mapped({"type": kind, "subtype": subtype}) == []


# Values in the place of any other, and as lines of their own.
ODD: list[Any] = [None, True, -1, 2**70, 1.5, float("nan"), "", "m\ud800\0", SECRET, [], {}, [[]], [None, "x"]]
ODD += [{SECRET: f"x{SECRET}x"}, {"type": []}, {"type": "text"}]
ODD += [{"type": "image", "source": {"type": "base64", "data": "x"}}]
ODD += [{"type": kind, "id": "t", "text": "x"} for kind in [*Fold.BLOCKS, *SILENT_BLOCKS, "tool_result", "new"]]
ODD += [{"type": "system", "subtype": key.partition("/")[2]} for key in Fold.TABLE]
EDITS = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 9999), st.sampled_from(ODD)), max_size=8)
ROWS = {name: [json.loads(row) for row in recorded(name).splitlines()] for name in RECORDS}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as its container and key there."""
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    return [(value, key) for key, _ in pairs] + [place for _, inner in pairs for place in places(inner)]


def edited(name: str, edits: list[tuple[int, int, Any]]) -> list[Line]:
    """A recording with something odd in some places of some lines."""
    values = copy.deepcopy(ROWS[name])
    for row, place, odd in edits:
        found = places(values[row % len(values)])
        container, key = found[place % len(found)]
        container[key] = copy.deepcopy(odd)
    return [line(value, number) for number, value in enumerate(values)]


@settings(max_examples=250, deadline=None)
@given(name=st.sampled_from(RECORDS), edits=EDITS)
def test_any_line_maps_or_is_silent_or_is_kept(name: str, edits: list[tuple[int, int, Any]]) -> None:
    """Nothing raises; what is neither mapped nor silent is an event; all are the API's or ours; a replay agrees."""
    by, again = Fold("run", same, allowed), Fold("run", same, allowed)
    for item in edited(name, edits):
        events = by.take(item)
        assert repr(again.take(item)) == repr(events)
        if key_of(item.value) not in SILENT and key_of(item.value) not in Fold.TABLE:
            assert [kind for kind, _ in events] == ["agent.unparsed"]
        for event in events:
            if event[0] not in OURS:
                validated(event)
    assert repr(again.close()) == repr(by.close())


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(RECORDS), edits=EDITS)
def test_a_secret_is_in_no_event(name: str, edits: list[tuple[int, int, Any]]) -> None:
    """Whatever string or key it stands in, of whatever line."""
    by = Fold("run", lambda text: text.replace(SECRET, "***"), allowed)
    for item in [*edited(name, edits), line(assistant(tool_use("Bash", a={SECRET: [f"x{SECRET}x"]})))]:
        # A model does not choose ids: they are letters and digits of the API.
        shown = [{key: part for key, part in data.items() if not key.endswith("id")} for _, data in by.take(item)]
        assert SECRET not in repr(shown)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(RECORDS), cuts=st.lists(st.integers(0, 20_000), max_size=6))
def test_events_do_not_depend_on_the_pieces(name: str, cuts: list[int]) -> None:
    """The same output in other reads gives the same events."""
    raw, by, splitter, at = recorded(name), fold(), Splitter(), 0
    events = []
    for cut in [*sorted(min(cut, len(raw)) for cut in cuts), len(raw)]:
        events += [event for item in splitter.feed(raw[at:cut]) for event in by.take(item)]
        at = cut
    assert events + by.close() == folded(name)

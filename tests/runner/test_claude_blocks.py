"""Contents of tool results in the API's shapes, redacted, and within the room that an event has."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox_scripts.drivers.claude.blocks import (
    IMAGE_BYTES,
    MAX_DEPTH,
    TEXT_BYTES,
    TOO_DEEP,
    Cleaner,
    Content,
    event_id,
    fitted,
)
from sandbox_scripts.drivers.claude.tools import named
from tests.runner.claude_record import assistant, folded, mapped, of, same, texts, tool_result, tool_use, validated

EVENT_BYTES = 256 * 1024
TEXTS = st.builds(lambda text, times: text * times, st.text(max_size=3), st.sampled_from((1, 1, 1, 90_000)))
LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | TEXTS
MEGABYTE = 1024 * 1024
PIXEL = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}


def content(value: Any) -> list[dict[str, Any]]:
    """The content of the event of a result; the event is valid."""
    (event,) = mapped(tool_result(value))
    validated(event)
    found: list[dict[str, Any]] = event[1]["content"]
    return found


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "hi"},
        {"type": "image", "source": PIXEL},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {**PIXEL, "media_type": "application/pdf"}, "title": "A"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}, "context": "B"},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {
            "type": "search_result",
            "source": "https://example.com",
            "title": "A",
            "content": [{"type": "text", "text": "hi"}],
            "citations": {"enabled": True},
        },
    ],
    ids=lambda block: block["type"],
)
def test_blocks_that_the_api_has_stay_as_they_are(block: dict[str, Any]) -> None:
    """Nothing is added, nothing lost."""
    assert content([block]) == [block]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "new_block", "value": [1]},
        {"type": "image"},
        {"type": "image", "source": {"type": "other"}},
        {"type": "image", "source": {"type": "base64", "data": 5}},
        {"type": "document", "source": {"type": "content", "content": []}},
        {"type": "search_result", "title": "A"},
        {"type": "text"},
        {"type": ["text"]},
        {},
        ["list"],
        5,
        None,
    ],
    ids=repr,
)
def test_blocks_that_the_api_has_not_are_shown_as_they_are(block: Any) -> None:
    """As a text of the JSON, so that a result is never without what it says."""
    assert content([block]) == [{"type": "text", "text": json.dumps(block)}]


def test_short_forms_of_content() -> None:
    """A string is one text; no content is none; an error object is its JSON; a tool's reference is its name."""
    assert content("hi") == [{"type": "text", "text": "hi"}]
    assert content(["hi"]) == [{"type": "text", "text": "hi"}]
    assert content([]) == content(None) == []
    assert content({"error_code": "unavailable"}) == [{"type": "text", "text": '{"error_code": "unavailable"}'}]
    assert content([{"type": "tool_reference", "tool_name": "Edit"}]) == [{"type": "text", "text": "Edit"}]


def test_the_real_clis_image_is_an_image() -> None:
    """As `Read` of a picture gives it."""
    (result,) = of(folded("image"), "agent.tool_result")
    assert [block["type"] for block in result["content"]] == ["image"]
    assert result["content"][0]["source"]["media_type"] == "image/png"


@pytest.mark.parametrize("kind", ["image", "document"])
def test_large_images_are_left_out(kind: str) -> None:
    """In their place is what they were: type, size and hash. Small ones stay, also beside a large one."""
    raw = bytes(range(256)) * 600
    large = {"type": kind, "source": {**PIXEL, "data": base64.b64encode(raw).decode()}}
    small = {"type": kind, "source": PIXEL}
    note, kept = content([large, small])
    assert kept == small
    assert note["type"] == "text"
    assert f"{len(raw)} bytes" in note["text"]
    assert hashlib.sha256(raw).hexdigest() in note["text"]


def test_images_share_their_room() -> None:
    """Three that fit alone, but not together: the event stays within its bounds."""
    source = {**PIXEL, "data": "A" * (IMAGE_BYTES // 5 * 2)}
    blocks = content([{"type": "image", "source": source}] * 3 + [{"type": "text", "text": "x" * TEXT_BYTES}])
    assert [block["type"] for block in blocks] == ["image", "image", "text", "text"]
    assert len(json.dumps(blocks)) < EVENT_BYTES


def test_long_texts_are_cut() -> None:
    """To 200 KiB, between characters, with the size they had; the rest of the event is there."""
    text = "ü" * TEXT_BYTES
    for event in (
        *mapped(assistant({"type": "text", "text": text}))[1:2],
        *mapped(assistant({"type": "thinking", "thinking": text}))[1:2],
        *mapped(assistant(tool_use("Write", file_path="a", content=text)))[1:2],
        *mapped(tool_result(text, is_error=True)),
        *mapped(tool_result([{"type": "text", "text": text[: TEXT_BYTES // 2]}] * 3)),
    ):
        validated(event)
        kind, data = event
        assert data["truncated"] is True, kind
        assert 2 * TEXT_BYTES <= data["bytes"] < 4 * TEXT_BYTES, kind
        assert TEXT_BYTES - 1000 < len(json.dumps(data, ensure_ascii=False).encode()) < EVENT_BYTES, kind
    (data,) = of(mapped(tool_result(text, is_error=True)), "agent.tool_result")
    assert (data["tool_use_id"], data["is_error"]) == ("sevt_toolu_1", True)


@st.composite
def grown(draw: st.DrawFn) -> Any:
    """A JSON value of which parts are large: long texts of any characters, many items, many or long keys, deep ones."""
    value = draw(st.recursive(LEAVES, nested, max_leaves=5))
    times = draw(st.sampled_from((1, 3, min(20_000, 2 * MEGABYTE // len(json.dumps(value))))))
    shape = draw(st.sampled_from(("itself", "items", "keys", "long key", "deep")))
    if shape == "items":
        return [value] * times
    if shape == "keys":
        return {f"{number}": value for number in range(times)}
    if shape == "long key":
        return {"k" * times * 10: value, "after": value}
    for _ in range(min(times, MAX_DEPTH * 2) if shape == "deep" else 0):
        value = {"deeper": [value]}
    return value


def nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=grown())
def test_an_event_is_never_too_large_and_never_misshapen(value: Any) -> None:
    """Whatever a tool is called with or answers: within what the log takes, and of the type that it claims."""
    for event in (
        *of_kind(mapped(assistant(tool_use("Bash", value=value, last="here"))), "agent.tool_use"),
        *of_kind(mapped(assistant(tool_use("mcp__lib__look", k=value))), "agent.mcp_tool_use"),
        *mapped(tool_result(value)),
        *mapped(tool_result([{"type": "text", "text": "first"}, value])),
        *mapped(tool_result([{"type": "image", "source": PIXEL}, {"type": "text", "text": value}])),
    ):
        validated(event)
        assert len(json.dumps(event[1], ensure_ascii=False).encode()) < EVENT_BYTES
        assert event[1]["id"].startswith("sevt_")


def of_kind(events: list[Any], kind: str) -> list[Any]:
    """The events of one type."""
    found = [event for event in events if event[0] == kind]
    assert found
    return found


@pytest.mark.parametrize("odd", ["\x01", "\x1b", '"', "\\", "ü", "\U0001f600", "a"])
def test_what_a_text_takes_is_what_it_takes_as_json(odd: str) -> None:
    """Characters that JSON escapes are counted so; the cut is a beginning of the text, as long as there is room for."""
    data = fitted({"id": "x", "content": [{"type": "text", "text": odd * 2 * TEXT_BYTES}]})
    text = data["content"][0]["text"]
    assert (odd * 2 * TEXT_BYTES).startswith(text)
    assert TEXT_BYTES - 200 < len(json.dumps(data, ensure_ascii=False).encode()) < TEXT_BYTES + 200
    assert (data["truncated"], data["bytes"]) == (True, len(odd.encode()) * 2 * TEXT_BYTES + 5)


def test_what_has_no_room_is_left_out_of_an_input_and_said() -> None:
    """Keys after the room is full are gone, those before are whole; `input` itself is always there."""
    (_, used) = mapped(assistant(tool_use("Write", first="whole", large="x" * 2 * TEXT_BYTES, after="gone")))
    assert used[1]["input"].keys() == {"first", "large"}
    assert used[1]["input"]["first"] == "whole"
    assert used[1]["truncated"] is True


def test_what_fits_is_not_marked() -> None:
    """Exactly the room is no cut."""
    data = {"id": "x", "content": [{"type": "text", "text": "a" * 1000}]}
    assert fitted(data) == data
    (said,) = of(mapped(assistant({"type": "text", "text": "x" * (TEXT_BYTES - 200)})), "agent.message")
    assert "truncated" not in said


def test_depth_is_bounded() -> None:
    """What is nested deeper than anyone reads is said to be, and nothing recurses without end."""
    value: Any = "bottom"
    for _ in range(MAX_DEPTH * 15):
        value = [value]
    (_, used) = of([*mapped(assistant(tool_use("Bash", value=value)))], "agent.tool_use") * 2
    assert TOO_DEEP in json.dumps(used)
    assert TOO_DEEP in content([{"type": "new", "value": value}])[0]["text"]


def test_every_string_is_redacted() -> None:
    """In values and keys, in each kind of block, before it is cut; what JSON in the database refuses is replaced."""
    clean = Cleaner(lambda text: text.replace("hunter2", "***"))
    assert clean.value({"hunter2": ["a hunter2", {"b": "hunter2"}], "n": 1}) == {"***": ["a ***", {"b": "***"}], "n": 1}
    assert clean.text("a\0b\ud800") == "a\ufffdb\ufffd"
    blocks = [
        "hunter2",
        {"type": "text", "text": "hunter2"},
        {"type": "document", "source": {"type": "text", "data": "hunter2"}, "title": "hunter2"},
        {"type": "document", "source": {"type": "url", "url": "hunter2"}},
        {
            "type": "search_result",
            "source": "hunter2",
            "title": "hunter2",
            "content": [{"type": "text", "text": "hunter2"}],
        },
        {"type": "other", "hunter2": "hunter2"},
    ]
    found = repr(Content(clean, blocks).blocks)
    assert "hunter2" not in found
    assert found.count("***") == 10


def test_ids_are_plain_and_stable() -> None:
    """The same for the same; readable where Claude's is; of letters and digits in any case."""
    assert event_id("toolu_1") == "sevt_toolu_1"
    odd = [event_id(raw) for raw in ("", "a b", "x" * 500, "\ud800", "ä")]
    assert len(set(odd)) == 5
    assert all(id.isascii() and id.replace("_", "").isalnum() and len(id) < 130 for id in odd)
    assert event_id("a b") == event_id("a b")


@pytest.mark.parametrize(
    ("name", "kind", "fields"),
    [
        ("Bash", "builtin", {"name": "bash"}),
        ("WebFetch", "builtin", {"name": "web_fetch"}),
        ("Agent", "builtin", {"name": "Agent"}),
        ("mcp__lib__look_up", "mcp", {"mcp_server_name": "lib", "name": "look_up"}),
        ("mcp__lib__look__up", "mcp", {"mcp_server_name": "lib", "name": "look__up"}),
        ("mcp__custom__ask", "custom", {"name": "ask"}),
        ("mcp__odd", "builtin", {"name": "mcp__odd"}),
    ],
)
def test_tools_are_named_as_the_api_does(name: str, kind: str, fields: dict[str, str]) -> None:
    """The toolset's own, those of servers, and custom ones."""
    assert named(name) == (kind, fields)


def test_permissions_are_those_of_the_agent() -> None:
    """The driver's answer for the CLI's name of the tool."""
    (_, used) = mapped(assistant(tool_use("Bash")))
    assert used[1]["evaluated_permission"] == "allow"
    assert texts(mapped(assistant({"type": "text", "text": same("x")}))) == ["x"]

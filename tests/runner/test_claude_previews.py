"""Live text: few broadcasts, all of the text, the ids of the messages that will be stored, and no secret cut in two."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event
from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sandbox_scripts.drivers.claude.lines import Line
from sandbox_scripts.drivers.claude.previews import BROADCAST_BYTES, INTERVAL_SECONDS, PATIENCE_SECONDS, Previews
from sandbox_scripts.redact import Redactor, literal_forms
from tests.runner.claude_record import RECORDS, folded, items, of, recorded

STREAMED: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsStreamSessionEvents)
SECRET = "hunter2-hunter2"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def previews(clock: Clock, *secrets: str) -> Previews:
    return Previews(lambda: Redactor(literal_forms(list(secrets))), clock)


def event(kind: str, thread: str | None = None, **fields: Any) -> dict[str, Any]:
    """A stream_event line."""
    return {"type": "stream_event", "event": {"type": kind, **fields}, "parent_tool_use_id": thread}


def start(id: str = "msg_1", thread: str | None = None) -> dict[str, Any]:
    return event("message_start", thread, message={"id": id})


def block(kind: str = "text", index: int = 0, thread: str | None = None) -> dict[str, Any]:
    return event("content_block_start", thread, index=index, content_block={"type": kind, kind: ""})


def delta(text: str, index: int = 0, kind: str = "text", thread: str | None = None) -> dict[str, Any]:
    return event("content_block_delta", thread, index=index, delta={"type": f"{kind}_delta", kind: text})


def stop(index: int = 0) -> dict[str, Any]:
    return event("content_block_stop", index=index)


def drained(source: Previews, clock: Clock) -> list[dict[str, Any]]:
    """All that waits, as the intervals pass."""
    found: list[dict[str, Any]] = []
    while (wait := source.wait()) is not None:
        clock.now += wait
        found += source.due()
    return found


def shown(found: list[dict[str, Any]]) -> dict[str, str]:
    """The text of each event, by its id."""
    text: dict[str, str] = {}
    for item in found:
        if item["type"] == "event_delta":
            text[item["event_id"]] = text.get(item["event_id"], "") + item["delta"]["content"]["text"]
    return text


def played(name: str, pace: float) -> list[dict[str, Any]]:
    """The previews of a recording whose lines come at a pace, in seconds."""
    clock = Clock()
    source, found = previews(clock), []
    for item in items(recorded(name)):
        assert isinstance(item, Line)
        clock.now += pace
        source.take(item.value)
        found += source.due()
    return found + drained(source, clock)


@pytest.mark.parametrize("pace", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("name", RECORDS)
def test_previews_become_the_stored_messages(name: str, pace: float) -> None:
    """Each stored text of the main thread was shown whole under its id; each preview is valid for the SDK."""
    found, events = played(name, pace), folded(name)
    stored = {data["id"]: data["content"][0]["text"] for data in of(events, "agent.message")}
    for id, text in shown(found).items():
        assert stored.get(id, text) == text
    if name not in ("no_stream", "slash"):
        assert {data["id"] for data in of(events, "agent.message")} <= set(shown(found))
    for item in found:
        if item["type"] != "event_thinking_delta":
            STREAMED.validate_python(item)


def test_thinking_starts_and_is_told_apart() -> None:
    """The API's preview of thinking only starts; its text is a type of ours, with the same id."""
    found = played("tool", 0.01)
    starts = [(item["event"]["type"], item["event"]["id"]) for item in found if item["type"] == "event_start"]
    assert starts[0] == ("agent.thinking", "sevt_msg_main01_0")
    thoughts = [item for item in found if item["type"] == "event_thinking_delta"]
    assert "".join(item["thinking"] for item in thoughts) == "The user wants hi. "
    assert {item["event_id"] for item in thoughts} == {"sevt_msg_main01_0"}


@pytest.mark.parametrize("name", ["tool", "empty_text"])
def test_the_sdks_own_accumulator_follows(name: str) -> None:
    """Its snapshot is the message, and it never raises: each delta comes after its start."""
    snapshot: Any = None
    texts: list[Any] = []
    for item in played(name, 0.01):
        if item["type"] == "event_thinking_delta":
            continue
        before = snapshot
        snapshot = accumulate_managed_agents_event(snapshot, STREAMED.validate_python(item))
        if before is not None and snapshot is not None and before.id != snapshot.id:
            texts.append(before.content[0])
    assert snapshot is not None
    assert [part.text for part in [*texts, snapshot.content[0]] if part.type == "text"] == [
        data["content"][0]["text"] for data in of(folded(name), "agent.message")
    ]


def test_at_most_twenty_broadcasts_a_second() -> None:
    """The first at once; then one per interval, however many deltas come."""
    clock = Clock()
    source = previews(clock)
    for line in (start(), block()):
        source.take(line)
    times = []
    for number in range(1000):
        source.take(delta(f"{number} "))
        if source.due():
            times.append(clock.now)
        clock.now += 0.001
    assert times[0] == 100.0
    assert 19 <= len(times) <= 20
    assert all(after - before >= INTERVAL_SECONDS for before, after in itertools.pairwise(times))


@pytest.mark.parametrize("a_second", [50, 80, 200, 1000])
def test_a_thousand_deltas_are_at_most_fifty_broadcasts(a_second: int) -> None:
    """At fifty deltas a second and more; and nobody waits longer than PATIENCE_SECONDS for a word."""
    clock = Clock()
    source, times = previews(clock), []
    for line in (start(), block()):
        source.take(line)
    for _ in range(1000):
        source.take(delta("word "))
        if source.due():
            times.append(clock.now)
        clock.now += 1 / a_second
    source.take(stop())
    assert len(times) + len(drained(source, clock)) <= 52
    assert all(after - before <= PATIENCE_SECONDS + 2 / a_second for before, after in itertools.pairwise(times))


def test_last_words_do_not_wait() -> None:
    """A block's end is shown with the next broadcast that may be."""
    clock = Clock()
    source = previews(clock)
    for line in (start(), block(), delta("first ")):
        source.take(line)
    assert source.due()
    source.take(delta("last"))
    assert source.wait() == pytest.approx(PATIENCE_SECONDS)
    source.take(stop())
    assert source.wait() == pytest.approx(INTERVAL_SECONDS)


def test_waiting_is_known() -> None:
    """Nothing waits before text came and after it is broadcast; else it says for how long."""
    clock = Clock()
    source = previews(clock)
    source.take(start())
    source.take(block())
    assert (source.wait(), source.due()) == (None, [])
    source.take(delta("a "))
    assert source.wait() == 0
    assert len(source.due()) == 2
    assert source.wait() is None
    source.take(delta("b "))
    assert source.due() == []
    assert source.wait() == pytest.approx(PATIENCE_SECONDS)
    clock.now += PATIENCE_SECONDS
    assert [item["delta"]["content"]["text"] for item in source.due()] == ["b "]


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["a ", "größe ", "😀", "\n", "hunter2", "-hunter2", "sk-ant-", "x" * 30]), max_size=20
    ),
    paces=st.lists(st.sampled_from([0.0, 0.02, 0.06]), min_size=20, max_size=20),
)
def test_all_of_the_text_and_no_secret(parts: list[str], paces: list[float]) -> None:
    """Joined, the deltas are the redacted text, wherever the model's deltas cut it and whenever they come."""
    clock = Clock()
    source, found = previews(clock, SECRET), []
    source.take(start())
    source.take(block())
    for part, pace in zip(parts, paces, strict=False):
        source.take(delta(part))
        found += source.due()
        clock.now += pace
    source.take(stop())
    found += drained(source, clock)
    text = "".join(shown(found).values())
    whole = Redactor(literal_forms([SECRET])).cut("".join(parts).encode(), end=True).text.decode()
    assert text == whole
    assert SECRET not in text


@pytest.mark.parametrize("text", ["x" * 200_000, "\0" * 50_000, "😀" * 50_000], ids=["plain", "escaped", "wide"])
def test_a_broadcast_is_never_too_large(text: str) -> None:
    """A flood goes out in as many broadcasts as it takes, in order and whole."""
    clock = Clock()
    source, found, sizes = previews(clock), [], []
    for line in (start(), block(), delta(text), stop(), block("text", 1), delta("end", 1), stop(1)):
        source.take(line)
    while (wait := source.wait()) is not None:
        clock.now += wait
        some = source.due()
        sizes.append(len(json.dumps(some)))
        found += some
    assert max(sizes) <= BROADCAST_BYTES
    assert shown(found) == {"sevt_msg_1_0": text.replace("\0", "\ufffd"), "sevt_msg_1_1": "end"}


def test_a_message_that_breaks_off_shows_what_was_said() -> None:
    """The next message, or the stop, ends its blocks; the next has ids of its own."""
    clock = Clock()
    source = previews(clock)
    for line in (start(), block(), delta("half "), start("msg_2"), block(), delta("new "), event("message_stop")):
        source.take(line)
    assert shown(drained(source, clock)) == {"sevt_msg_1_0": "half ", "sevt_msg_2_0": "new "}


def test_sub_agents_are_told_apart() -> None:
    """Two threads may speak at once; a sub-agent's start names its tool use."""
    clock = Clock()
    source = previews(clock)
    for line in (start(), block(), start("msg_2", "toolu_1"), block(thread="toolu_1"), delta("a "),
                 delta("b ", thread="toolu_1")):  # fmt: skip
        source.take(line)
    found = drained(source, clock)
    assert shown(found) == {"sevt_msg_1_0": "a ", "sevt_msg_2_0": "b "}
    parents = {item["event"]["id"]: item.get("parent_tool_use_id") for item in found if item["type"] == "event_start"}
    assert parents == {"sevt_msg_1_0": None, "sevt_msg_2_0": "sevt_toolu_1"}


def test_an_empty_text_is_not_announced() -> None:
    """No event of its id will ever be stored."""
    assert not any("msg_main02_0" in json.dumps(item) for item in played("empty_text", 0.01))


def test_old_previews_are_forgotten() -> None:
    """After a replay nothing of the past is broadcast, and no block goes on without its beginning."""
    clock = Clock()
    source = previews(clock)
    for line in (start(), block(), delta("old "), stop(), block("text", 1), delta("begun ", 1)):
        source.take(line)
    source.discard()
    assert source.wait() is None
    for line in (delta("more ", 1), stop(1), block("text", 2), delta("new ", 2)):
        source.take(line)
    assert shown(drained(source, clock)) == {"sevt_msg_1_2": "new "}


KINDS = [None, "message_start", "message_stop", "content_block_start", "content_block_delta", "content_block_stop"]
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, 1, "", "x", [], {}, {"type": "text"}, {"type": "text_delta"}, {"id": "m"}, {"type": []}]
)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    [None, "message_start", "content_block_start", "content_block_delta", "content_block_stop"]
                )
            },
            optional={"index": ODD, "message": ODD, "content_block": ODD, "delta": ODD},
        ),
        max_size=8,
    )
)
def test_malformed_stream_events_show_nothing(lines: list[dict[str, Any]]) -> None:
    """Nothing raises; what comes out is valid."""
    clock = Clock()
    source = previews(clock)
    for line in lines:
        source.take({"type": "stream_event", "event": line})
    source.take({"type": "stream_event"})
    source.take({"type": ["assistant"]})
    for item in drained(source, clock):
        STREAMED.validate_python(item)

"""The scripted model on the wire: Anthropic's SDK reads from it what a script says."""

import contextlib
import json
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, TextBlock, ThinkingBlock, ToolUseBlock
from hypothesis import given
from hypothesis import strategies as st

from local.models.answer import Answer
from local.models.stream import as_sse, events, words
from tests.local.models_world import Models, asking, called, said

THOUGHT = {"type": "thinking", "thinking": "First look, then write."}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=80),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=8), values, max_size=4),
)
BLOCKS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=300)),
        st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, st.text(max_size=100)),
        st.builds(
            lambda values: {"type": "tool_use", "id": "toolu_1", "name": "T", "input": values},
            st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4),
        ),
    ),
    max_size=5,
)


async def streamed(models: Models, prompt: str) -> Message:
    async with models.client() as client, client.messages.stream(**asking(prompt)) as stream:
        return await stream.get_final_message()


async def test_the_sdk_puts_a_streamed_message_together(models: Models) -> None:
    """Text, thinking with a signature and a tool call arrive whole, in order, with the stop reason of a tool call."""
    call = called("Write", file_path="/work/a", content="x" * 500, deep={"list": [1, None, "ü ✓"]})
    prompt = models.follow({"content": [THOUGHT, said("I will write it. Now."), call]})
    message = await streamed(models, prompt)
    thought, text, tool = message.content
    assert isinstance(thought, ThinkingBlock)
    assert isinstance(text, TextBlock)
    assert isinstance(tool, ToolUseBlock)
    assert (thought.thinking, text.text) == (THOUGHT["thinking"], "I will write it. Now.")
    assert thought.signature
    assert (tool.name, tool.input) == ("Write", call["input"])
    assert message.stop_reason == "tool_use"


async def test_the_same_message_comes_without_streaming(models: Models) -> None:
    """The two forms differ in their ids only."""
    prompt = models.follow({"content": [THOUGHT, said("Hello there."), called("Bash", command="true")]})
    async with models.client() as client:
        whole = await client.messages.create(**asking(prompt))
    piecewise = await streamed(models, prompt)

    def plain(message: Message) -> dict[str, Any]:
        found = message.model_dump(mode="json", exclude_none=True, exclude={"id"})
        for block in found["content"]:
            block.pop("id", None)
        return found

    assert plain(whole) == plain(piecewise)


async def test_ids_are_never_given_twice(models: Models) -> None:
    """Messages and tool calls of one script have fresh ids each time."""
    prompt = models.follow({"content": [called("Bash", command="true"), called("Bash", command="false")]})
    messages = [await streamed(models, prompt) for _ in range(3)]
    tools = [block.id for message in messages for block in message.content if isinstance(block, ToolUseBlock)]
    assert len({message.id for message in messages}) == 3
    assert len(set(tools)) == 6
    assert all(message.id.startswith("msg_") for message in messages)
    assert all(id.startswith("toolu_") for id in tools)


async def test_events_come_in_anthropics_order(models: Models) -> None:
    """Start, ping, each block with its pieces, the final usage, stop; each line named as its data says."""
    prompt = models.follow({"content": [said("one two"), called("Bash", command="true")]})
    async with models.http() as http:
        answer = await http.post("/v1/messages", json={**asking(prompt), "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [frame.split("\n") for frame in answer.text.strip().split("\n\n")]
    read = [json.loads(data.removeprefix("data: ")) for _, data in frames]
    assert [name for name, _ in frames] == [f"event: {event['type']}" for event in read]
    assert [event["type"].removeprefix("content_block_") for event in read] == [
        "message_start", "start", "ping", "delta", "delta", "stop", "start", "delta", "stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert read[0]["message"]["content"] == []
    assert read[0]["message"]["usage"]["output_tokens"] == 1


async def test_usage_is_counted_from_the_text_and_the_same_each_time(models: Models) -> None:
    """A longer prompt and a longer answer cost more; the same ones cost the same."""
    short, long = models.follow({"content": [said("word")]}), models.follow({"content": [said("word " * 100)]})
    first, again, more = [(await streamed(models, prompt)).usage for prompt in (short, short, long)]
    padded = (await streamed(models, f"{short} {'and more ' * 50}")).usage
    assert first == again
    assert more.output_tokens > first.output_tokens > 0
    assert padded.input_tokens > first.input_tokens > 0


async def test_a_script_says_what_is_charged(models: Models) -> None:
    """Its usage comes out of the stream, cached tokens included, and what it leaves out is counted."""
    usage = {"input_tokens": 3, "cache_read_input_tokens": 20_000, "cache_creation_input_tokens": 500}
    prompt = models.follow({"content": [said("word")], "usage": usage})
    charged = (await streamed(models, prompt)).usage.model_dump()
    assert {name: charged[name] for name in usage} == usage
    assert charged["output_tokens"] > 0


async def test_the_ledger_has_each_answer_once(models: Models) -> None:
    """In the order of time, with the message's id, model, prompt and exactly the usage that the client was told."""
    prompt = models.follow({"content": [said("one")]}, {"content": [said("two")]})
    first = await streamed(models, prompt)
    async with models.client() as client:
        second = await client.messages.create(**asking(prompt, "one", "<system-reminder>go on</system-reminder>"))
    noted = await models.ledger(prompt)
    assert [entry["message_id"] for entry in noted] == [first.id, second.id]
    assert [entry["usage"] for entry in noted] == [each.usage.model_dump(exclude_none=True) for each in (first, second)]
    assert {(entry["model"], entry["outcome"]) for entry in noted} == {("claude-sonnet-5", "complete")}
    assert noted[0]["at"] < noted[1]["at"]


async def test_tokens_are_counted_as_an_answer_would_charge_them(models: Models) -> None:
    """`count_tokens` and the usage's input tokens agree."""
    prompt = models.follow({"content": [said("word")]})
    wanted = {**asking(prompt), "system": "Be brief.", "tools": [{"name": "T", "input_schema": {"type": "object"}}]}
    async with models.client() as client:
        answered = await client.messages.create(**wanted)
        wanted.pop("max_tokens")
        counted = await client.messages.count_tokens(**wanted)
    assert counted.input_tokens == answered.usage.input_tokens


async def test_models_are_listed(models: Models) -> None:
    """Clients that look what there is find the usual names."""
    async with models.client() as client:
        assert "claude-sonnet-5" in [model.id async for model in await client.models.list()]


@pytest.mark.parametrize("key", ["", "another-key"])
async def test_without_the_key_nothing_is_answered(models: Models, key: str) -> None:
    """401 for an absent and for a wrong key, whichever path is asked; the ledger alone is open."""
    async with models.http() as http:
        http.headers["x-api-key"] = key
        answers = [await http.post("/v1/messages", json=asking("x")), await http.get("/v1/nowhere")]
        ledger = await http.get("/scripted/ledger")
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json()["error"]["type"] == "authentication_error"
    assert ledger.status_code == 200


async def test_the_key_is_taken_in_both_headers(models: Models) -> None:
    """The CLI sends `x-api-key`, the SDK a Bearer; a wrong `x-api-key` is not saved by a right Bearer."""
    async with models.http() as http:
        right, wrong = {"authorization": f"Bearer {models.key}"}, {"x-api-key": "another-key"}
        by_key = await http.get("/v1/models")
        del http.headers["x-api-key"]
        by_bearer = await http.get("/v1/models", headers=right)
        both = await http.get("/v1/models", headers=right | wrong)
    assert [answer.status_code for answer in (by_key, by_bearer, both)] == [200, 200, 401]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"{}", "model"),
        (json.dumps({**asking("x"), "max_tokens": 0}).encode(), "max_tokens"),
        (json.dumps({**asking("x"), "messages": []}).encode(), "messages"),
        (json.dumps(asking([{"text": "no type"}])).encode(), "messages.0.content"),
    ],
)
async def test_a_malformed_body_is_refused(models: Models, body: bytes, field: str) -> None:
    """400 `invalid_request_error` whose message names the field."""
    async with models.http() as http:
        answer = await http.post("/v1/messages", content=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(field)


async def test_an_unknown_path_is_not_found(models: Models) -> None:
    """404 in Anthropic's form, and 405 for a method that a path does not know."""
    async with models.http() as http:
        nowhere, wrong = await http.get("/v1/complete"), await http.get("/v1/messages")
    assert (nowhere.status_code, nowhere.json()["error"]["type"]) == (404, "not_found_error")
    assert wrong.status_code == 405


async def test_an_unanswered_tool_use_is_refused(models: Models) -> None:
    """As by the real API: the message after a tool use holds its result, whatever reminders stand between them."""
    call = {"type": "tool_use", "id": "toolu_9", "name": "T", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_9", "content": "fine"}
    async with models.client() as client:
        with pytest.raises(anthropic.BadRequestError, match="toolu_9"):
            await client.messages.create(**asking("x", [call], "and now?"))
        wanted = asking("x", [call], [result])
        wanted["messages"].insert(2, {"role": "system", "content": "<system-reminder>Mind.</system-reminder>"})
        await client.messages.create(**wanted)


async def test_a_changed_thought_is_refused(models: Models) -> None:
    """A thought comes back with its signature as it was, or not at all."""
    prompt = models.follow({"content": [THOUGHT, said("one")]}, {"content": [said("two")]})
    thought, text = [block.model_dump() for block in (await streamed(models, prompt)).content]
    async with models.client() as client:
        await client.messages.create(**asking(prompt, [thought, text], "go on"))
        with pytest.raises(anthropic.BadRequestError, match="signature"):
            await client.messages.create(**asking(prompt, [thought | {"thinking": "else"}, text], "go on"))


@given(st.text())
def test_a_text_is_cut_into_words_that_make_it_up(text: str) -> None:
    """No character is lost, none is added, no piece is empty."""
    assert "".join(words(text)) == text
    assert all(words(text))


@given(BLOCKS)
def test_content_comes_out_of_the_stream_whole(content: list[dict[str, Any]]) -> None:
    """However it is cut into deltas: the pieces of each block make up the block."""
    answer = Answer("msg_1", "m", content, {"input_tokens": 1, "output_tokens": 1}, "end_turn")
    rebuilt: list[dict[str, Any]] = []
    pieces = ""
    for sent in events(answer):
        event = json.loads(as_sse(sent).decode().split("data: ", 1)[1])
        match event["type"]:
            case "content_block_start":
                rebuilt.append(event["content_block"])
                pieces = ""
            case "content_block_delta":
                pieces = _grown(rebuilt[event["index"]], event["delta"], pieces)
    assert rebuilt == content


def _grown(block: dict[str, Any], delta: dict[str, Any], pieces: str) -> str:
    """The block with one more piece; an input is read as soon as its JSON is whole."""
    if delta["type"] != "input_json_delta":
        name = delta["type"].removesuffix("_delta")
        block[name] += delta[name]
        return pieces
    with contextlib.suppress(ValueError):
        block["input"] = json.loads(pieces + delta["partial_json"])
    return pieces + str(delta["partial_json"])

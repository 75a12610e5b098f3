"""A model that says what it is told to, over the Messages stream, and the CLI's way to it."""

import json
from typing import Any

from tests.local.e2b_world import Upstream

KEY = "sk-ant-real-and-never-inside-0123456789"
PLACEHOLDER = "placeholder"
START = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "content": [],
    "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1},
}  # fmt: skip


def says(text: str) -> bytes:
    """One turn of text."""
    return streamed({"type": "text", "text": ""}, {"type": "text_delta", "text": text}, "end_turn")


def calls(tool: str, **arguments: Any) -> bytes:
    """One turn that calls a tool."""
    block = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {}}
    return streamed(block, {"type": "input_json_delta", "partial_json": json.dumps(arguments)}, "tool_use")


def streamed(block: dict[str, Any], delta: dict[str, Any], stop_reason: str) -> bytes:
    """A whole HTTP answer: one content block, as server-sent events."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": START},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def environment(model: Upstream) -> dict[str, str]:
    """What the driver gives the CLI: the model's address, and no key that is worth anything."""
    return {
        "ANTHROPIC_BASE_URL": f"http://{model.netloc}",
        "ANTHROPIC_API_KEY": PLACEHOLDER,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    }


def prompt(text: str) -> str:
    """A human's message as the CLI's stream-json input takes it: one line."""
    return json.dumps({"type": "user", "message": {"role": "user", "content": text}}) + "\n"

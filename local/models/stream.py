"""A message as the events of Anthropic's stream."""

import json
import re
from collections.abc import Iterator
from typing import Any

from local.models.answer import Answer
from local.models.requests import Block

WORD = re.compile(r"\s*\S{1,24}\s*|\s+")
JSON_PIECE_CHARACTERS = 48

Event = dict[str, Any]


def events(answer: Answer) -> Iterator[Event]:
    """All events in their order; the SDKs put the same message together again."""
    started = {**answer.body(), "content": [], "stop_reason": None, "usage": {**answer.usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": started}
    for index, block in enumerate(answer.content):
        yield {"type": "content_block_start", "index": index, "content_block": empty(block)}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": answer.stop_reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": answer.usage}
    yield {"type": "message_stop"}


def empty(block: Block) -> Block:
    """A block as it begins."""
    match block["type"]:
        case "text":
            return {"type": "text", "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case _:
            return {**block, "input": {}}


def deltas(block: Block) -> Iterator[Event]:
    """What fills it: texts by words, a tool's input as JSON in pieces."""
    match block["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": piece} for piece in words(block["text"]))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in words(block["thinking"]))
            yield {"type": "signature_delta", "signature": block["signature"]}
        case _:
            whole = json.dumps(block["input"], ensure_ascii=False)
            for start in range(0, len(whole), JSON_PIECE_CHARACTERS):
                yield {"type": "input_json_delta", "partial_json": whole[start : start + JSON_PIECE_CHARACTERS]}


def words(text: str) -> list[str]:
    """A text cut into words, each with the spaces around it; long words are cut."""
    return WORD.findall(text)


def as_sse(event: Event) -> bytes:
    """One event of the stream."""
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()

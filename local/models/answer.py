"""An answer, made of a script's turn and the request it answers."""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from local.models.conversation import Conversation
from local.models.placeholders import filled, spoken
from local.models.requests import Block, MessagesRequest, counted
from local.models.scripts import Content, Json, Script, Text, Thinking, Turn
from local.models.thinking import signature

EXHAUSTED = Turn(content=[Text(type="text", text="The script has no more turns for this prompt.")])


@dataclass(frozen=True)
class Answer:
    """A whole message, as the API gives it without streaming."""

    id: str
    model: str
    content: list[Block]
    usage: dict[str, Any]
    stop_reason: str

    def body(self) -> dict[str, Any]:
        """The message object."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "usage": self.usage,
        }


def turn_of(script: Script, conversation: Conversation) -> Turn:
    """The turn whose turn it is; past the last one a short text that ends."""
    return script.turns[conversation.turn] if conversation.turn < len(script.turns) else EXHAUSTED


def answer_to(request: MessagesRequest, conversation: Conversation, turn: Turn, kind: type[Answer] = Answer) -> Answer:
    """The turn's content with its placeholders filled, fresh ids, and what it costs."""
    content = [_block(block, conversation) for block in turn.content]
    calls = any(block["type"] == "tool_use" for block in content)
    return kind(
        id=f"msg_{secrets.token_hex(12)}",
        model=request.model,
        content=content,
        usage=_usage(turn, request.tokens(), content),
        stop_reason=turn.stop_reason or ("tool_use" if calls else "end_turn"),
    )


def _usage(turn: Turn, input_tokens: int, content: list[Block]) -> dict[str, Any]:
    said = [{name: block[name] for name in ("text", "thinking", "name", "input") if name in block} for block in content]
    return {
        "input_tokens": input_tokens,
        "output_tokens": counted(said),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
        **turn.usage.model_dump(exclude_none=True),
    }


def _block(block: Content, conversation: Conversation) -> Block:
    said: Block = filled(block.model_dump(), lambda text: spoken(text, conversation))
    if isinstance(block, Json):
        return {"type": "text", "text": json.dumps(said["value"], ensure_ascii=False)}
    if isinstance(block, Thinking):
        return {**said, "signature": signature(said["thinking"])}
    return said if isinstance(block, Text) else {**said, "id": f"toolu_{secrets.token_hex(12)}"}

"""Requests as Anthropic's API takes and refuses them."""

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator

from local.models import schemas
from local.models.errors import ModelError

CHARACTERS_PER_TOKEN = 4

Block = dict[str, Any]


class Message(BaseModel):
    """One message; a plain text counts as one text block. The CLI also sends messages of the role `system`."""

    role: Literal["user", "assistant", "system"]
    content: list[Block]

    @field_validator("content", mode="before")
    @classmethod
    def _as_blocks(cls, content: object) -> object:
        return as_blocks(content)

    @field_validator("content")
    @classmethod
    def _typed(cls, content: list[Block]) -> list[Block]:
        if not all(isinstance(block.get("type"), str) for block in content):
            raise ValueError("each block needs a type")
        return content

    def of_type(self, type: str) -> list[Block]:
        """Its blocks of one type."""
        return [block for block in self.content if block["type"] == type]

    def texts(self) -> list[str]:
        """Its text blocks' texts."""
        return [str(block.get("text", "")) for block in self.of_type("text")]


class CountRequest(BaseModel):
    """What is counted: everything that a model would read."""

    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1)
    system: str | list[Block] = ""
    tools: list[Block] = []

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises ModelError 400 naming the first field that is wrong, or the tool use that was left unanswered."""
        try:
            request = cls.model_validate_json(body)
        except ValidationError as error:
            raise ModelError(400, first_wrong(error)) from None
        check_tool_results(request.messages)
        return request

    @property
    def system_text(self) -> str:
        """The system prompt as one text."""
        if isinstance(self.system, str):
            return self.system
        return "\n".join(str(block.get("text", "")) for block in self.system)

    def tokens(self) -> int:
        """A count that depends on the request's text alone; a real tokenizer counts otherwise."""
        return counted([self.system, self.tools, [message.content for message in self.messages]])


class OutputConfig(BaseModel):
    """How the answer is to look."""

    format: Block | None = None


class MessagesRequest(CountRequest):
    """A request for an answer. Fields that the script need not know are ignored."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    output_config: OutputConfig = OutputConfig()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """The same, and a schema of the answer that the real API would refuse."""
        request = super().parse(body)
        if request.output_config.format is not None:
            schemas.ANTHROPIC.check(request.output_config.format.get("schema"))
        return request


def as_blocks(content: object) -> object:
    """A plain text as one block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def first_wrong(error: ValidationError) -> str:
    """The first field that is wrong, and why."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"


def counted(value: object) -> int:
    """Tokens of a value's JSON, at least 1."""
    return max(1, -(-len(json.dumps(value, ensure_ascii=False)) // CHARACTERS_PER_TOKEN))


def check_tool_results(messages: list[Message]) -> None:
    """Raises ModelError 400 unless the message after a tool use has its result, as the real API demands.

    A transcript that was cut badly before it was resumed is found by this.
    """
    spoken = [message for message in messages if message.role != "system"]
    for index, message in enumerate(spoken):
        asked = {str(block.get("id")) for block in message.of_type("tool_use")}
        following = spoken[index + 1].of_type("tool_result") if index + 1 < len(spoken) else []
        left = asked - {str(block.get("tool_use_id")) for block in following}
        if left:
            unanswered = f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after"
            raise ModelError(400, f"{unanswered}: {', '.join(sorted(left))}")

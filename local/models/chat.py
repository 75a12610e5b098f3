"""OpenAI's chat completions: the same scripts, in another wire."""

import time
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator

from local.models import schemas
from local.models.answer import Answer
from local.models.errors import ModelError
from local.models.requests import Block, MessagesRequest, as_blocks, first_wrong

INSTRUCTIONS = ("system", "developer")
FINISHED = {"max_tokens": "length", "content_filter": "content_filter"}


class ChatMessage(BaseModel):
    """One message; a plain text counts as one part, and an answer that was a refusal has none."""

    role: Literal["system", "developer", "user", "assistant"]
    content: list[Block] = []

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: object) -> object:
        return [] if content is None else as_blocks(content)


class JsonSchema(BaseModel):
    """What an answer has to keep to, and whether to the letter."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    strict: bool | None = None
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """How the answer is to look."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(BaseModel):
    """A request for an answer. Fields that the script need not know are ignored."""

    model: str = Field(min_length=1)
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    response_format: ResponseFormat | None = None

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises ModelError 400: for the first field that is wrong, a schema that OpenAI refuses, or a stream."""
        try:
            request = cls.model_validate_json(body)
        except ValidationError as error:
            raise ModelError(400, first_wrong(error)) from None
        if request.stream:
            raise ModelError(400, "stream: the scripted model answers chat completions only as a whole")
        wanted = request.response_format and request.response_format.json_schema
        if wanted and wanted.strict:
            schemas.OPENAI.check(wanted.schema_)
        return request

    def as_messages(self) -> MessagesRequest:
        """The same in Anthropic's words, which scripts are matched with. Raises ModelError 400 when nothing is said."""
        said = [message.model_dump() for message in self.messages if message.role not in INSTRUCTIONS]
        system = [block for message in self.messages if message.role in INSTRUCTIONS for block in message.content]
        fields = {"model": self.model, "max_tokens": 1, "messages": said, "system": system}
        try:
            return MessagesRequest.model_validate(fields)
        except ValidationError as error:
            raise ModelError(400, first_wrong(error)) from None


@dataclass(frozen=True)
class Completion(Answer):
    """A whole answer, as OpenAI gives it."""

    def __post_init__(self) -> None:
        """Raises ModelError 400 for a script's tool calls, which have another wire."""
        if any(block["type"] == "tool_use" for block in self.content):
            raise ModelError(400, "the script calls tools, which only Anthropic's wire has here")

    def body(self) -> dict[str, Any]:
        """The chat completion object."""
        text = "".join(block["text"] for block in self.content if block["type"] == "text")
        refused = self.stop_reason == "refusal"
        message = {"role": "assistant", "content": None if refused else text, "refusal": text if refused else None}
        choice = {"index": 0, "message": message, "finish_reason": FINISHED.get(self.stop_reason, "stop")}
        return {
            "id": f"chatcmpl-{self.id.removeprefix('msg_')}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [{**choice, "logprobs": None}],
            "usage": openai_usage(self.usage),
        }


def openai_usage(usage: dict[str, int]) -> dict[str, Any]:
    """The same tokens in OpenAI's names: what was read from or written to a cache counts as part of the prompt."""
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    prompt = usage["input_tokens"] + read + written
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage["output_tokens"],
        "total_tokens": prompt + usage["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }

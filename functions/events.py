"""Events at the edge: what a client may send into a conversation, and how a row of the log looks over HTTP.

The names are those of the Managed Agents API (the `beta_managed_agents_*` models of the anthropic SDK). A row keeps an
event's own fields under `data`; over HTTP they stand beside ours.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from pydantic import AfterValidator, Field, ValidationError, model_validator

from functions.errors import InvalidRequest, NotBuilt
from functions.models import Request, Text
from sandstream.events import Event

Row = dict[str, Any]

MAX_EVENTS = 50
MAX_BLOCKS = 100
# What is left for text when the rest of an event's row is counted: the table takes 256 KiB.
MAX_EVENT_BYTES = 240_000
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
DOCUMENTS = ("application/pdf", "text/plain")
# Known to the Managed Agents API, and not built here.
UNBUILT = ("user.define_outcome", "user.tool_result", "system.message", "redacted", "search_result", "file")
# The errors that the SDK's session.error knows; any other is told as unknown_error.
KNOWN_ERRORS = frozenset(
    (
        "unknown_error",
        "model_overloaded_error",
        "model_rate_limited_error",
        "model_request_failed_error",
        "mcp_connection_failed_error",
        "mcp_authentication_failed_error",
        "billing_error",
        "credential_host_unreachable_error",
        "tool_use_limit_reached_error",
        "compaction_limit_reached_error",
        "repository_authentication_error",
        "repository_forbidden_error",
        "repository_not_found_error",
        "repository_checkout_error",
        "repository_clone_error",
    )
)


def encoded(data: str) -> str:
    """Base64 that decodes."""
    try:
        base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None
    return data


Base64 = Annotated[str, Field(min_length=1), AfterValidator(encoded)]
Id = Annotated[Text, Field(min_length=1, max_length=200)]


class UrlSource(Request):
    """Fetched by the model's side."""

    type: Literal["url"]
    url: Annotated[Text, Field(pattern=r"^https?://", max_length=4096)]


class ImageData(Request):
    """The picture itself."""

    type: Literal["base64"]
    media_type: Literal[IMAGES]  # type: ignore[valid-type]
    data: Base64


class DocumentData(Request):
    """The document itself."""

    type: Literal["base64"]
    media_type: Literal[DOCUMENTS]  # type: ignore[valid-type]
    data: Base64


class PlainText(Request):
    """A document that is text; it stays in the event."""

    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: Annotated[Text, Field(min_length=1)]


class TextBlock(Request):
    """Words."""

    type: Literal["text"]
    text: Annotated[Text, Field(min_length=1)]


class ImageBlock(Request):
    """A picture."""

    type: Literal["image"]
    source: Annotated[ImageData | UrlSource, Field(discriminator="type")]


class DocumentBlock(Request):
    """A document, and what the model should know of it."""

    type: Literal["document"]
    source: Annotated[DocumentData | PlainText | UrlSource, Field(discriminator="type")]
    title: Annotated[Text, Field(max_length=500)] | None = None
    context: Text | None = None


Block = Annotated[TextBlock | ImageBlock | DocumentBlock, Field(discriminator="type")]
Blocks = Annotated[tuple[Block, ...], Field(max_length=MAX_BLOCKS, strict=False)]


class UserMessage(Request):
    """What a person says."""

    type: Literal["user.message"]
    content: Annotated[Blocks, Field(min_length=1)]


class UserInterrupt(Request):
    """Stops the turn that is on."""

    type: Literal["user.interrupt"]
    session_thread_id: None = None


class UserToolConfirmation(Request):
    """The answer to a question whether a tool may be used."""

    type: Literal["user.tool_confirmation"]
    tool_use_id: Id
    result: Literal["allow", "deny"]
    deny_message: Annotated[Text, Field(max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _said_with_a_no(self) -> Self:
        if self.deny_message is not None and self.result == "allow":
            raise ValueError("deny_message goes with the result deny only")
        return self


class UserCustomToolResult(Request):
    """What a tool of the client's own gave."""

    type: Literal["user.custom_tool_result"]
    custom_tool_use_id: Id
    content: Blocks | None = None
    is_error: bool | None = None


UserEvent = UserMessage | UserInterrupt | UserToolConfirmation | UserCustomToolResult
MODELS: dict[str, type[UserEvent]] = {
    "user.message": UserMessage,
    "user.interrupt": UserInterrupt,
    "user.tool_confirmation": UserToolConfirmation,
    "user.custom_tool_result": UserCustomToolResult,
}


class SendRequest(Request):
    """The body of a send: the SDK's `events`, and what becomes of a message while a turn is on."""

    events: Annotated[tuple[Row, ...], Field(min_length=1, max_length=MAX_EVENTS, strict=False)]
    on_busy: Literal["queue", "interrupt", "reject"] = "queue"


@dataclass(frozen=True)
class Posted:
    """User events as SQL takes them: `{"type", …}`, and apart from them the files that came in their blocks."""

    events: list[Row]
    attachments: list[Row]


def posted(events: Sequence[Row], *, param: str = "events", only_messages: bool = False) -> Posted:
    """What a client sent, checked, its base64 taken out into attachments that the blocks refer to by `file_id`.

    Raises InvalidRequest with the field's name, NotBuilt for what the Managed Agents API has and this server has not.
    """
    found, attachments = [], []
    for index, event in enumerate(events):
        place = f"{param}.{index}"
        checked = parsed(event, place, only_messages=only_messages).model_dump(mode="json", exclude_none=True)
        for block in checked.get("content", ()):
            attachments += taken_out(block)
        if len(json.dumps(checked, ensure_ascii=False).encode()) > MAX_EVENT_BYTES:
            raise InvalidRequest(f"must have at most {MAX_EVENT_BYTES} bytes without its files", param=place)
        found.append(checked)
    return Posted(found, attachments)


def parsed(event: Row, place: str, *, only_messages: bool) -> UserEvent:
    """One event. Raises InvalidRequest, NotBuilt."""
    kind = event.get("type")
    refuse_unbuilt(event, place)
    if not isinstance(kind, str) or kind not in MODELS or (only_messages and kind != "user.message"):
        known = "user.message" if only_messages else ", ".join(MODELS)
        raise InvalidRequest(f"must be one of {known}", param=f"{place}.type")
    try:
        return MODELS[kind].model_validate(event)
    except ValidationError as error:
        first = error.errors()[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(message, param=".".join((place, *named(first["loc"])))) from error


def refuse_unbuilt(event: Row, place: str) -> None:
    """Raises NotBuilt naming the first part of an event that is not built."""
    content = event.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    sources = [block["source"] for block in blocks if isinstance(block.get("source"), dict)]
    for part in (event, *blocks, *sources):
        if part.get("type") in UNBUILT:
            raise NotBuilt(f"{place}: {part['type']} is not built here")
    if event.get("session_thread_id") is not None:
        raise NotBuilt(f"{place}: session_thread_id is not built here")


def named(location: Iterable[int | str]) -> list[str]:
    """Pydantic's location as the client wrote it: without the tag that stands after a choice between models."""
    kept: list[str] = []
    before: int | str = ""
    for part in location:
        if not isinstance(before, int) and before != "source":
            kept.append(str(part))
        before = part
    return kept


def taken_out(block: Row) -> list[Row]:
    """The file of a block, which from here on only refers to it."""
    source = block.get("source", {})
    if source.get("type") != "base64":
        return []
    id = str(uuid4())
    block["source"] = {"type": "file", "file_id": id}
    return [{"id": id, "media_type": source["media_type"], "data": source["data"], "title": block.get("title")}]


def as_wire(event: Event) -> Row:
    """An event as HTTP shows it: its own fields beside ours, with an id whoever wrote it."""
    at = event.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    data = told(event.data) if event.type == "session.error" else event.data
    return {
        **data,
        "id": event.id,
        "type": event.type,
        "seq": event.seq,
        "session_id": str(event.session_id),
        "run_id": str(event.run_id) if event.run_id else None,
        "created_at": at,
        "processed_at": at,
    }


def told(data: Row) -> Row:
    """An error in the SDK's words. What it does not know keeps its own word as `code`."""
    error = data.get("error")
    error = error if isinstance(error, dict) else {}
    word = error.get("type")
    # A sandbox may write anything for a word, also what has no hash.
    is_known = isinstance(word, str) and word in KNOWN_ERRORS
    known = error if is_known else {**error, "type": "unknown_error", "code": word}
    return {**data, "error": {"message": "", "retry_status": {"type": "exhausted"}, **known}}

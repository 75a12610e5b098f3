"""The Claude CLI's lines as events of the Managed Agents API: a table by type and subtype, and a small fold.

The same lines give the same events with the same ids, so a restarted runner may begin again. A line maps, or is known
as silent, or becomes `agent.unparsed`; none raises. Line types: SDKMessage in @anthropic-ai/claude-agent-sdk 0.3.330.
"""

from __future__ import annotations

import hashlib
import json

from .blocks import (
    Cleaner,
    Content,
    Malformed,
    count_at,
    dict_at,
    event_id,
    fitted,
    text_at,
    text_or_none,
)
from .errors import content_text, error_data, error_of, outcome_of, refusal_of, retry_error
from .lines import Line, Unparsed
from .messages import Message, Spans, parent_of
from .silence import SILENT, SILENT_BLOCKS, SILENT_USER_BLOCKS
from .tools import NAME_CHARS, RESULTS, TOOL_NAMES, USES, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from .errors import Outcome

    Event = tuple[str, dict[str, Any]]

__all__ = ["TOOL_NAMES", "Fold", "key_of"]

HEAD_CHARS = 200
# What is redacted of a line that is not known, before the head is cut from it: a secret is found whole.
READ_BYTES = 16 * 1024

MCP_ERRORS = {
    "failed": ("mcp_connection_failed_error", "could not be reached"),
    "needs-auth": ("mcp_authentication_failed_error", "refused the credentials"),
}


class Fold:
    """What has to be remembered from line to line, of one process of the CLI from its first line on."""

    def __init__(self, prefix: str, redact: Callable[[str], str], permission: Callable[[str], str]) -> None:
        """`prefix` makes ids for what has none of Claude's; `permission`: a tool's name to allow, ask or deny."""
        self.outcome: Outcome | None = None
        self.results = 0
        self.cost_microusd = 0
        self.running_tools: dict[str, str] = {}
        self.claude_session_id: str | None = None
        self._prefix = prefix
        self._clean = Cleaner(redact)
        self._permission = permission
        self._spans = Spans(self._clean)
        self._tools: dict[str, str] = {}
        self._mcp_told: set[str] = set()
        self._api_error: dict[str, Any] | None = None
        self._refusal: dict[str, Any] | None = None

    @property
    def requesting(self) -> bool:
        """A request to the model is open."""
        return self._spans.open

    def take(self, item: Line | Unparsed) -> list[Event]:
        """The events of the next line, in order."""
        if isinstance(item, Unparsed):
            return [self._unparsed(item.offset, item.bytes, item.sha256, item.head, item.reason)]
        key = key_of(item.value)
        if key in SILENT:
            return []
        handler = self.TABLE.get(key)
        try:
            return handler(self, item) if handler else [self._unparsed_line(item, "unknown_type")]
        except Malformed:
            return [self._unparsed_line(item, "malformed")]

    def close(self) -> list[Event]:
        """The output is over: what is still open ends in error, and an error that no `result` told is told."""
        events = self._spans.end_all()
        if self._api_error is not None:
            error, self._api_error = self._api_error["error"], None
            events.append(self._error(error, "error", "closed"))
        return events

    # Lines

    def _init(self, line: Line) -> list[Event]:
        self.claude_session_id = text_or_none(line.value, "session_id") or self.claude_session_id
        servers = line.value.get("mcp_servers")
        events = []
        for number, server in enumerate(servers if isinstance(servers, list) else []):
            if isinstance(server, dict) and text_or_none(server, "status") in MCP_ERRORS:
                events += self._mcp_error(server, f"{line.offset}_{number}")
        return events

    def _mcp_error(self, server: dict[str, Any], place: str) -> list[Event]:
        """The turn goes on without the server, so nothing is over: `retrying`. Told once for each server."""
        name = self._clean.text(text_or_none(server, "name") or "?")
        if name in self._mcp_told:
            return []
        self._mcp_told.add(name)
        kind, words = MCP_ERRORS[server["status"]]
        error = error_data(kind, f"The MCP server {name} {words}; its tools are missing.", "retrying")
        return [self._error({**error, "mcp_server_name": name}, "mcp", place)]

    def _retry(self, line: Line) -> list[Event]:
        return [self._error(retry_error(line.value), "retry", str(line.offset))]

    def _compacted(self, line: Line) -> list[Event]:
        told = line.value.get("compact_metadata")
        data: dict[str, Any] = {"id": self._own_id("compacted", str(line.offset))}
        if isinstance(told, dict):
            data.update({key: told[key] for key in ("trigger", "pre_tokens", "post_tokens") if key in told})
        return [("agent.thread_context_compacted", self._fitted(data))]

    def _local_output(self, line: Line) -> list[Event]:
        data = {"id": self._own_id("output", str(line.offset)), "content": [self._text(text_at(line.value, "content"))]}
        return [("agent.message", fitted(data))]

    def _refused(self, line: Line) -> list[Event]:
        explanation = text_or_none(line.value, "api_refusal_explanation")
        self._refusal = refusal_of(line.value, self._clean.text(explanation) if explanation else None)
        return []

    def _result(self, line: Line) -> list[Event]:
        events = self._spans.end_all()
        events += self._spans.unseen(line.value, self._own_id("unseen", str(line.offset)))
        failure, self._api_error = self._api_error, None
        self.results += 1
        kind = failure["kind"] if failure else None
        self.cost_microusd = self._spans.cost(line.value)
        self.outcome = outcome_of(line.value, self._clean, self.cost_microusd, kind, self._refusal)
        self._refusal = None
        self.running_tools.clear()
        if self.outcome.error is not None:
            events.append(self._error(self.outcome.error, "error", str(line.offset)))
        return events

    def _assistant(self, line: Line) -> list[Event]:
        body = dict_at(line.value, "message")
        thread = text_or_none(line.value, "parent_tool_use_id")
        if line.value.get("error") and thread is None:
            return self._api_failed(line.value, body)
        blocks = _blocks(body)
        self.outcome = None if thread is None else self.outcome
        message, events = self._spans.of_line(body, thread)
        extra: dict[str, Any] = {"aborted": True} if line.value.get("aborted") is True else {}
        for block in blocks:
            events += self._block(block, message, extra)
        return events

    def _api_failed(self, line: dict[str, Any], body: dict[str, Any]) -> list[Event]:
        """The CLI shows an API's error as a message. The `result` that follows tells it: one event for one error."""
        kind = text_or_none(line, "error")
        error = error_of(line, self._clean.text(content_text(body)), kind)
        self._api_error = {"kind": kind, "error": error}
        return []

    def _user(self, line: Line) -> list[Event]:
        """Tool results. All other content is what was sent, a prompt of a sub-agent, or the CLI's word to the model."""
        events: list[Event] = []
        if isinstance(dict_at(line.value, "message").get("content"), str):
            return []
        for number, block in enumerate(_blocks(dict_at(line.value, "message"))):
            kind = text_or_none(block, "type") if isinstance(block, dict) else None
            if kind not in SILENT_USER_BLOCKS:
                events += self._user_block(block, kind, line, number)
        return events

    def _user_block(self, block: Any, kind: str | None, line: Line, number: int) -> list[Event]:
        try:
            if kind == "tool_result":
                return self._tool_result(block, text_or_none(line.value, "parent_tool_use_id"))
        except Malformed:
            pass
        return [self._unparsed_block(block, self._own_id("unparsed", f"{line.offset}_{number}"))]

    # Stream events: they open and close spans; previews are made elsewhere.

    def _stream(self, line: Line) -> list[Event]:
        event = dict_at(line.value, "event")
        thread = text_or_none(line.value, "parent_tool_use_id")
        kind = text_at(event, "type")
        if kind == "message_start":
            self.outcome = None if thread is None else self.outcome
            return self._spans.started(event, thread)
        if kind not in self.STREAM:
            return [self._unparsed_line(line, "unknown_type")]
        message = self._spans.streaming(thread)
        return self.STREAM[kind](self, message, event) if message else []

    def _block_start(self, message: Message, event: dict[str, Any]) -> list[Event]:
        message.block_started(count_at(event, "index"), dict_at(event, "content_block"))
        return []

    def _block_delta(self, message: Message, event: dict[str, Any]) -> list[Event]:
        message.block_grew(count_at(event, "index"))
        return []

    def _nothing(self, _message: Message, _event: dict[str, Any]) -> list[Event]:
        return []

    def _message_delta(self, message: Message, event: dict[str, Any]) -> list[Event]:
        message.used(event)
        return []

    def _message_stop(self, message: Message, _event: dict[str, Any]) -> list[Event]:
        return self._spans.ended([message])

    # Blocks

    def _block(self, block: Any, message: Message, extra: dict[str, Any]) -> list[Event]:
        place = message.place(block if isinstance(block, dict) else {})
        id = f"{event_id(message.id)}_{place}"
        kind = (text_or_none(block, "type") if isinstance(block, dict) else None) or ""
        if kind in SILENT_BLOCKS:
            return []
        try:
            if kind.endswith("_tool_result"):
                return self._tool_result(block, message.thread)
            shape = self.BLOCKS.get(kind)
            if shape is None:
                return [self._unparsed_block(block, id)]
            return [shape(self, block, {"id": id, **parent_of(message.thread), **extra})]
        except Malformed:
            return [self._unparsed_block(block, id)]

    def _message_text(self, block: dict[str, Any], data: dict[str, Any]) -> Event:
        return "agent.message", fitted({**data, "content": [self._text(text_at(block, "text"))]})

    def _thinking(self, block: dict[str, Any], data: dict[str, Any]) -> Event:
        return "agent.thinking", fitted({**data, "thinking": self._clean.text(text_at(block, "thinking"))})

    def _redacted_thinking(self, _block: dict[str, Any], data: dict[str, Any]) -> Event:
        return "agent.thinking", {**data, "redacted": True}

    def _compaction(self, _block: dict[str, Any], data: dict[str, Any]) -> Event:
        return "agent.thread_context_compacted", data

    def _tool_use(self, block: dict[str, Any], data: dict[str, Any]) -> Event:
        name, raw_id = text_at(block, "name"), text_at(block, "id")
        kind, names = named(name, text_or_none(block, "server_name"))
        data = {**data, "id": event_id(raw_id)}
        data.update({key: self._clean.text(value)[:NAME_CHARS] for key, value in names.items()})
        if kind != "custom":
            data["evaluated_permission"] = self._permission(name)
        used = dict_at(block, "input")
        self._tools[raw_id] = kind
        self.running_tools[data["id"]] = name
        return USES[kind], fitted({**data, "input": self._clean.value(used)})

    def _tool_result(self, block: dict[str, Any], thread: str | None) -> list[Event]:
        raw_id = text_at(block, "tool_use_id")
        kind = self._tools.get(raw_id, "mcp" if block["type"] == "mcp_tool_result" else "builtin")
        self.running_tools.pop(event_id(raw_id), None)
        # A sub-agent's answer: its last message is over.
        events = self._spans.end_thread(raw_id)
        if kind == "custom":
            return events
        content = Content(self._clean, block.get("content"))
        data = {
            "id": event_id(raw_id) + "_result",
            RESULTS[kind][1]: event_id(raw_id),
            "is_error": block.get("is_error") is True,
            **parent_of(thread),
            "content": content.blocks,
        }
        return [*events, (RESULTS[kind][0], fitted(data, content.image_bytes))]

    # Shapes

    def _text(self, text: str) -> dict[str, Any]:
        return {"type": "text", "text": self._clean.text(text)}

    def _fitted(self, data: dict[str, Any]) -> dict[str, Any]:
        return fitted({key: value if key == "id" else self._clean.value(value) for key, value in data.items()})

    def _own_id(self, name: str, place: str) -> str:
        return f"sevt_{self._prefix}_{name}_{place}"

    def _error(self, error: dict[str, Any], name: str, place: str) -> Event:
        return "session.error", fitted({"id": self._own_id(name, place), "error": error})

    def _unparsed_line(self, line: Line, reason: str) -> Event:
        head = line.raw[:READ_BYTES].decode("utf-8", "replace")
        return self._unparsed(line.offset, len(line.raw), hashlib.sha256(line.raw).hexdigest(), head, reason)

    def _unparsed(self, offset: int, size: int, digest: str, head: str, reason: str) -> Event:
        return self._unknown(self._own_id("unparsed", str(offset)), size, digest, head, reason)

    def _unparsed_block(self, block: Any, id: str) -> Event:
        raw = json.dumps(self._clean.value(block)).encode()
        return self._unknown(id, len(raw), hashlib.sha256(raw).hexdigest(), raw.decode(), "unknown_block")

    def _unknown(self, id: str, size: int, digest: str, head: str, reason: str) -> Event:
        shown = self._clean.text(head)[:HEAD_CHARS]
        return "agent.unparsed", {"id": id, "bytes": size, "sha256": digest, "head": shown, "reason": reason}

    # Tables

    TABLE: ClassVar[dict[str, Callable[[Fold, Line], list[Event]]]] = {
        "assistant": _assistant,
        "user": _user,
        "result": _result,
        "stream_event": _stream,
        "system/init": _init,
        "system/api_retry": _retry,
        "system/compact_boundary": _compacted,
        "system/local_command_output": _local_output,
        "system/model_refusal_no_fallback": _refused,
    }

    STREAM: ClassVar[dict[str, Callable[[Fold, Message, dict[str, Any]], list[Event]]]] = {
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _nothing,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "ping": _nothing,
        "error": _nothing,
    }

    BLOCKS: ClassVar[dict[str, Callable[[Fold, dict[str, Any], dict[str, Any]], Event]]] = {
        "text": _message_text,
        "thinking": _thinking,
        "redacted_thinking": _redacted_thinking,
        "compaction": _compaction,
        "tool_use": _tool_use,
        "server_tool_use": _tool_use,
        "mcp_tool_use": _tool_use,
    }


def key_of(value: dict[str, Any]) -> str:
    """What the tables know a line by: its type, with the subtype for `system`."""
    kind = value.get("type")
    return f"system/{value.get('subtype')}" if kind == "system" else str(kind)


def _blocks(body: dict[str, Any]) -> list[Any]:
    content = body.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Malformed("content")
    return content

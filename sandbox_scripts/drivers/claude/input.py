"""What the user says while the run lives: taken from the log, and turned into prompts for the CLI."""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid

from ...errors import CallFailed, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ...log import Functions

RETRY_SECONDS = 0.5
TRIES = 8
RECALLED = "Your work was cut off. Before that, the user had said this to you:"
RECALLED_UNTIL = "What was done about it may be lost. What follows is what the user says now."
UNKNOWN = "attachment_not_found"


class Inbox:
    """The user's events, in the order of the log, each once."""

    def __init__(self, functions: Functions, after: int) -> None:
        self._functions = functions
        self.after = after

    def take(self) -> list[dict[str, Any]]:
        """What is new: {"seq", "type", "data"}. Raise what Functions.call raises; nothing counts as taken then."""
        events: list[dict[str, Any]] = []
        after = self.after
        # A page ends after so many events or so many bytes: only an empty one tells that it was the last.
        while page := self._page(after):
            events += page
            after = int(page[-1]["seq"])
        self.after = after
        return events

    def _page(self, after: int) -> list[dict[str, Any]]:
        """The first events after that seq, by their seq."""
        said = self._functions.call("take_input_v1", b'{"after":%d}' % after)
        page = [event for event in said["events"] if int(event["seq"]) > after] if isinstance(said, dict) else []
        return sorted(page, key=lambda event: int(event["seq"]))

    def attachment(self, identity: str) -> dict[str, Any] | None:
        """{"media_type", "data", "title"}; None when the log has none of that id or does not give it."""
        body = json.dumps({"id": identity}).encode()
        for _ in range(TRIES):
            try:
                said = self._functions.call("read_attachment_v1", body)
            except Unavailable as error:
                if UNKNOWN in str(error):
                    return None
                time.sleep(RETRY_SECONDS)
            except CallFailed:
                return None
            else:
                return said if isinstance(said, dict) else None
        return None


def message_uuid(session_id: str, seq: int) -> str:
    """The name under which a message of the user reaches the CLI; tells after a restart that it did."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"sandstream:{session_id}:{seq}"))


def prompt(
    event: dict[str, Any], session_id: str, inbox: Inbox, recalled: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The line of stdin for a user.message; before it those that Claude was told and does not know any more.

    Blocking: attachments are fetched.
    """
    blocks = [*_recollection(recalled), *(event["data"].get("content") or [])]
    content = [made for block in blocks for made in _block(block, inbox)]
    return {
        "type": "user",
        "message": {"role": "user", "content": content or [_text("(an empty message)")]},
        "parent_tool_use_id": None,
        "session_id": "default",
        "uuid": message_uuid(session_id, int(event["seq"])),
    }


def _recollection(recalled: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not recalled:
        return []
    said = [block for event in recalled for block in event["data"].get("content") or []]
    return [_text(f"<system-reminder>{RECALLED}"), *said, _text(f"{RECALLED_UNTIL}</system-reminder>")]


def _block(block: dict[str, Any], inbox: Inbox) -> list[dict[str, Any]]:
    kind = block.get("type")
    if kind == "text":
        return [_text(str(block.get("text", "")))]
    if kind not in ("image", "document"):
        return [_text(f"({kind}: this kind of content is not supported)")]
    source = block.get("source") or {}
    if source.get("type") == "file":
        return _attached(block, inbox.attachment(str(source.get("file_id", ""))))
    names = ("type", "source", "title", "context")
    return [{name: block[name] for name in names if block.get(name) is not None}]


def _attached(block: dict[str, Any], attachment: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A stored attachment as the block it stands for."""
    if attachment is None:
        return [_text("(an attachment that could not be read)")]
    media_type, data = str(attachment["media_type"]), str(attachment["data"])
    title = block.get("title") or attachment.get("title")
    source = {"type": "base64", "media_type": media_type, "data": data}
    if media_type.startswith("image/"):
        return [{"type": "image", "source": source}]
    if media_type != "application/pdf":
        source = {"type": "text", "media_type": "text/plain", "data": _decoded(data)}
    made = {"type": "document", "source": source, "title": title, "context": block.get("context")}
    return [{name: value for name, value in made.items() if value is not None}]


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except binascii.Error:
        return data


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}

"""Content of Claude's messages in the shapes of the Managed Agents API (`anthropic/types/beta/sessions`).

Foreign strings are redacted and cut here: an event's texts may have 200 KiB together, and images 150 KiB of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

TEXT_BYTES = 200 * 1024
IMAGE_BYTES = 150 * 1024
# What JSON needs around a value, roughly; many tiny values are large too.
NODE_BYTES = 8
# Keys of a dict are kept past the end of the room by this much, so that small shapes stay whole.
OVERDRAFT_BYTES = 20 * 1024
MAX_DEPTH = 50
TOO_DEEP = "[left out: nested too deeply]"
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,120}\Z")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")


class Malformed(ValueError):
    """A line or block that has not the shape its type promises."""


def event_id(raw: str) -> str:
    """The event's id for an id of Claude's; the same for the same, whatever it contains."""
    if _PLAIN_ID.match(raw):
        return "sevt_" + raw
    return "sevt_" + hashlib.sha256(raw.encode("utf-8", "replace")).hexdigest()[:32]


def text_at(value: dict[str, Any], key: str) -> str:
    """The string there. Raise Malformed."""
    found = value.get(key)
    if not isinstance(found, str):
        raise Malformed(key)
    return found


def dict_at(value: dict[str, Any], key: str) -> dict[str, Any]:
    """The object there. Raise Malformed."""
    found = value.get(key)
    if not isinstance(found, dict):
        raise Malformed(key)
    return found


def text_or_none(value: dict[str, Any], key: str) -> str | None:
    """The string there, if it is one and not empty."""
    found = value.get(key)
    return found if isinstance(found, str) and found else None


def count_at(value: Any, key: str) -> int:
    """The whole number there; 0 for anything else."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 53 else 0


class Cleaner:
    """Foreign values with every string and key redacted, and what jsonb refuses replaced."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact

    def text(self, value: str) -> str:
        """One string."""
        # Before redaction: a secret is found in what is stored.
        return self._redact(_UNREADABLE.sub("\ufffd", value))

    def value(self, value: Any, depth: int = 0) -> Any:
        """A JSON value of any depth."""
        if isinstance(value, str):
            return self.text(value)
        if depth >= MAX_DEPTH and isinstance(value, (dict, list)):
            return TOO_DEEP
        if isinstance(value, dict):
            return {self.text(key): self.value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        return value


class Content:
    """The blocks of one tool result. `image_bytes`: what its base64 data takes."""

    def __init__(self, clean: Cleaner, content: Any) -> None:
        self._clean = clean
        self.image_bytes = 0
        blocks = content if isinstance(content, list) else [] if content is None else [content]
        self.blocks = [self._block(block) for block in blocks]

    def _block(self, block: Any) -> dict[str, Any]:
        """Never raises: what has no shape of its own in the API is shown as the JSON it is."""
        if isinstance(block, str):
            return self._text(block)
        shape = self.SHAPES.get(str(block.get("type"))) if isinstance(block, dict) else None
        try:
            return shape(self, block) if shape else self._as_json(block)
        except Malformed:
            return self._as_json(block)

    def _as_json(self, block: Any) -> dict[str, Any]:
        return {"type": "text", "text": json.dumps(self._clean.value(block), ensure_ascii=False)}

    def _text(self, text: str) -> dict[str, Any]:
        return {"type": "text", "text": self._clean.text(text)}

    def _text_block(self, block: dict[str, Any]) -> dict[str, Any]:
        return self._text(text_at(block, "text"))

    def _tool_reference(self, block: dict[str, Any]) -> dict[str, Any]:
        return self._text(text_at(block, "tool_name"))

    def _image(self, block: dict[str, Any]) -> dict[str, Any]:
        source = dict_at(block, "source")
        if source.get("type") == "base64":
            return self._carried("image", source, {})
        return {"type": "image", "source": self._reference(source)}

    def _document(self, block: dict[str, Any]) -> dict[str, Any]:
        source = dict_at(block, "source")
        named = {key: self._clean.text(block[key]) for key in ("title", "context") if text_or_none(block, key)}
        if source.get("type") == "base64":
            return self._carried("document", source, named)
        if source.get("type") == "text":
            plain = {"type": "text", "media_type": "text/plain", "data": self._clean.text(text_at(source, "data"))}
            return {"type": "document", "source": plain, **named}
        return {"type": "document", "source": self._reference(source), **named}

    def _reference(self, source: dict[str, Any]) -> dict[str, Any]:
        key = {"url": "url", "file": "file_id"}.get(str(source.get("type")))
        if key is None:
            raise Malformed("source")
        return {"type": source["type"], key: self._clean.text(text_at(source, key))}

    def _carried(self, kind: str, source: dict[str, Any], named: dict[str, str]) -> dict[str, Any]:
        """Base64 data as it is, or a note where it takes too much room."""
        data, media_type = self._clean.text(text_at(source, "data")), self._clean.text(text_at(source, "media_type"))
        if self.image_bytes + len(data.encode()) > IMAGE_BYTES:
            raw = _decoded(data)
            digest = hashlib.sha256(raw).hexdigest()
            return self._text(f"[{kind} left out: {media_type[:100]}, {len(raw)} bytes, sha256 {digest}]")
        self.image_bytes += len(data.encode())
        return {"type": kind, "source": {"type": "base64", "media_type": media_type[:200], "data": data}, **named}

    def _search_result(self, block: dict[str, Any]) -> dict[str, Any]:
        content = block.get("content")
        texts = [self._text_block(one) for one in content if isinstance(one, dict)] if isinstance(content, list) else []
        enabled = bool(dict_at(block, "citations").get("enabled")) if "citations" in block else False
        return {
            "type": "search_result",
            "source": self._clean.text(text_at(block, "source")),
            "title": self._clean.text(text_at(block, "title")),
            "content": texts,
            "citations": {"enabled": enabled},
        }

    SHAPES: ClassVar[dict[str, Callable[[Content, dict[str, Any]], dict[str, Any]]]] = {
        "text": _text_block,
        "image": _image,
        "document": _document,
        "search_result": _search_result,
        "tool_reference": _tool_reference,
    }


def fitted(data: dict[str, Any], carried: int = 0) -> dict[str, Any]:
    """The data with its texts cut to the room there is, and then `truncated` and the `bytes` they had together.

    `carried`: bytes of base64 data in it, which is never cut.
    """
    room = _Room(TEXT_BYTES - carried)
    # Our own keys stay, whatever is cut below them: an event without its `input` is no event.
    fit = {key: room.fit(item) for key, item in data.items()}
    if room.cut:
        fit.update(truncated=True, bytes=room.total)
    return dict(fit)


class _Room:
    def __init__(self, left: int) -> None:
        self.left = left
        self.total = 0
        self.cut = False

    def fit(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return value if value.get("type") == "base64" and "media_type" in value else self._dict(value)
        if isinstance(value, list):
            return self._list(value)
        self.left -= value.bit_length() // 3 if isinstance(value, int) else 0
        return value

    def _text(self, text: str) -> str:
        raw = text.encode()
        self.total += len(raw)
        if len(raw) > self.left:
            self.cut = True
            text = raw[: max(0, self.left)].decode("utf-8", "ignore")
        # No deeper than empty: small values after a large text are kept.
        self.left -= min(len(raw), max(0, self.left))
        return text

    def _dict(self, value: dict[str, Any]) -> dict[str, Any]:
        fit = {}
        for key, item in value.items():
            self.left -= NODE_BYTES + len(key.encode())
            kept = self.fit(item)
            if self.left > -OVERDRAFT_BYTES:
                fit[key] = kept
            else:
                self.cut = True
        return fit

    def _list(self, value: list[Any]) -> list[Any]:
        fit = []
        for item in value:
            room, self.left = self.left > 0, self.left - NODE_BYTES
            kept = self.fit(item)
            self.cut = self.cut or not room
            if room:
                fit.append(kept)
        return fit


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return data.encode()

"""Content of Claude's messages in the shapes of the Managed Agents API (`anthropic/types/beta/sessions`).

Foreign strings are redacted and cut here: an event's texts may have 200 KiB together, and images 150 KiB of them.
"""

from __future__ import annotations

import base64
import contextlib
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
# A text of an object of known shape that is no longer is never cut.
WORD_CHARS = 40
# What in our events has keys of its own.
OPEN = {"input"}
ESCAPE_BYTES = len("\\u0000")
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
    """The data cut to the room there is as JSON, and then `truncated` and the `bytes` that its texts had together.

    Texts are shortened, what does not fit of lists and of a tool's input is left out, and all else keeps its shape.
    `carried`: bytes of base64 data in it, which is never cut.
    """
    room = _Room(TEXT_BYTES - carried)
    fit = {key: room.fit(item, is_open=key in OPEN) for key, item in data.items()}
    if room.cut:
        fit.update(truncated=True, bytes=room.total)
    return fit


class _Room:
    """What is left, in bytes of JSON; below zero only by small values that an object's shape needs."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.total = 0
        self.cut = False

    def fit(self, value: Any, *, is_open: bool = False) -> Any:
        """The value, or what there is room for. `is_open`: an object whose keys are anybody's, and may be left out."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            carries = value.get("type") == "base64" and "media_type" in value and not is_open
            return value if carries else self._dict(value, is_open)
        if isinstance(value, list):
            return self._list(value, is_open)
        self.left -= len(json.dumps(value))
        return value

    def _text(self, text: str) -> str:
        self.total += len(text.encode())
        size = _size(text)
        if size > self.left:
            self.cut = True
            text = _shortened(text, max(0, self.left))
        # No deeper than empty: small values after a large text are kept.
        self.left -= min(size, max(0, self.left))
        return text

    def _dict(self, value: dict[str, Any], is_open: bool) -> dict[str, Any]:
        fit = {}
        for key, item in value.items():
            if is_open and not self._holds(key, item):
                continue
            self.left -= NODE_BYTES + _size(key)
            is_word = not is_open and isinstance(item, str) and len(item) <= WORD_CHARS
            fit[key] = self._word(item) if is_word else self.fit(item, is_open=is_open)
        return fit

    def _word(self, word: str) -> str:
        """A type, an id, a name: without it the shape is none."""
        self.total += len(word.encode())
        self.left -= _size(word)
        return word

    def _list(self, value: list[Any], is_open: bool) -> list[Any]:
        fit = []
        for item in value:
            if self._holds("", item):
                self.left -= NODE_BYTES
                fit.append(self.fit(item, is_open=is_open))
        return fit

    def _holds(self, key: str, item: Any) -> bool:
        """Whether there is room for the item's beginning; what it takes does not matter, since texts are cut."""
        held = self.left > NODE_BYTES + _size(key) + (0 if isinstance(item, (str, dict, list)) else _size(item))
        if not held:
            self.cut = True
            self.total += _text_bytes(item)
        return held


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_text_bytes, items))


def _size(value: Any) -> int:
    """Bytes of a value as JSON, in which control characters take six."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def _shortened(text: str, room: int) -> str:
    """The longest beginning that takes so many bytes as JSON, give or take an escape."""
    raw = json.dumps(text, ensure_ascii=False).encode()[1 : room + 1]
    for end in range(len(raw), max(-1, len(raw) - ESCAPE_BYTES), -1):
        with contextlib.suppress(ValueError):
            return str(json.loads('"' + raw[:end].decode("utf-8", "ignore") + '"'))
    return ""


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return data.encode()

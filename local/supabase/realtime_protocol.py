"""The two wire formats of Phoenix channels that Supabase's SDKs speak. Pure: bytes and values, no sockets.

vsn 1.0.0 is a JSON object per message. vsn 2.0.0 is a JSON array `[join_ref, ref, topic, event, payload]`, and for user
broadcasts the binary frames of realtime-js (`src/lib/serializer.ts`): kind 3 from the client, kind 4 from the server.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field, ValidationError

PUSH_KIND = 3
BROADCAST_KIND = 4
FIELD_BYTES_MAX = 255

Frame = str | bytes


class ProtocolError(ValueError):
    """A frame that no SDK would send."""


class Version(enum.StrEnum):
    """The protocol versions, as the query parameter `vsn` names them."""

    V1 = "1.0.0"
    V2 = "2.0.0"


class Encoding(enum.IntEnum):
    """How a user's payload is written in a binary frame; the values are the wire's."""

    BINARY = 0
    JSON = 1


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sent, in whichever version. `payload` is an object in both."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Push:
    """A user broadcast that came as a binary frame. A JSON `payload` was checked, and is kept as it was written."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: bytes
    encoding: Encoding


class _Fields(BaseModel, strict=True):
    join_ref: str | None = Field(default=None)
    ref: str | None = Field(default=None)
    topic: str
    event: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Broadcast:
    """One user message on its way to any number of subscribers: each version's frame is encoded once.

    `topic` is the wire's (`realtime:<topic>`), `payload` is JSON text or raw bytes by `encoding`. With `framed`, vsn
    2.0.0 gets a binary frame, as hosted Supabase does for what clients send; without, a JSON array, as it does for what
    the database sends.
    """

    topic: str
    event: str
    payload: bytes
    encoding: Encoding = Encoding.JSON
    meta: Mapping[str, Any] | None = None
    framed: bool = True

    def frame(self, version: Version) -> Frame | None:
        """The frame to send, or None where the version cannot express it (bytes in vsn 1.0.0)."""
        return self._v1 if version is Version.V1 else self._v2

    @cached_property
    def _v1(self) -> str | None:
        if self.encoding is Encoding.BINARY:
            return None
        return f'{{"ref":null,"topic":{json.dumps(self.topic)},"event":"broadcast","payload":{self._object()}}}'

    @cached_property
    def _v2(self) -> Frame | None:
        header = _header(self) if self.framed or self.encoding is Encoding.BINARY else None
        if header is not None:
            return header + self.payload
        if self.encoding is Encoding.BINARY:
            return None
        return f'[null,null,{json.dumps(self.topic)},"broadcast",{self._object()}]'

    def _object(self) -> str:
        meta = "" if self.meta is None else f',"meta":{json.dumps(self.meta)}'
        return f'{{"type":"broadcast","event":{json.dumps(self.event)},"payload":{self.payload.decode()}{meta}}}'


def decode(frame: Frame, version: Version) -> Message | Push:
    """Read a client's frame. Raises ProtocolError."""
    if isinstance(frame, bytes):
        return _decode_push(frame)
    value = loads(frame)
    if version is Version.V2:
        if not isinstance(value, list) or len(value) != 5:
            raise ProtocolError("a message is an array of five")
        value = dict(zip(("join_ref", "ref", "topic", "event", "payload"), value, strict=True))
    return _message(value)


def encode(
    version: Version, topic: str, event: str, payload: Any, ref: str | None = None, join_ref: str | None = None
) -> str:
    """Write a server's message. Raises ValueError for a payload that is not JSON."""
    if version is Version.V1:
        return dumps({"ref": ref, "topic": topic, "event": event, "payload": payload})
    return dumps([join_ref, ref, topic, event, payload])


def splice(version: Version, topic: str, event: str, payload: str) -> str:
    """`encode` for a push whose payload is JSON text already."""
    if version is Version.V1:
        return f'{{"ref":null,"topic":{json.dumps(topic)},"event":{json.dumps(event)},"payload":{payload}}}'
    return f"[null,null,{json.dumps(topic)},{json.dumps(event)},{payload}]"


def loads(text: str) -> Any:
    """JSON, strictly: what `dumps` can write again, so no NaN and no number beyond a float. Raises ProtocolError."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error
    return value


def dumps(value: Any) -> str:
    """Compact JSON, ASCII only. Raises ValueError for what JSON cannot express."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _refuse_constant(name: str) -> None:
    raise ProtocolError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ProtocolError(f"{digits} is out of range")
    return number


def _message(value: Any) -> Message:
    try:
        fields = _Fields.model_validate(value)
    except ValidationError as error:
        raise ProtocolError(f"malformed message: {error.error_count()} invalid fields") from error
    _refuse_unwritable(fields.topic, fields.event)
    return Message(fields.join_ref, fields.ref, fields.topic, fields.event, fields.payload)


def _refuse_unwritable(*names: str) -> None:
    """Names go to Postgres and into frames: half a surrogate pair or a NUL would break either, for everybody."""
    for name in names:
        if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
            raise ProtocolError("a name holds characters that cannot be written")


def _decode_push(frame: bytes) -> Push:
    """kind, five lengths, encoding; then join_ref, ref, topic, event, metadata (nothing here reads it), payload."""
    if len(frame) < 7 or frame[0] != PUSH_KIND:
        raise ProtocolError("not a broadcast frame")
    position, fields = 7, []
    for length in frame[1:6]:
        fields.append(frame[position : position + length])
        position += length
    if position > len(frame) or frame[6] not in tuple(Encoding):
        raise ProtocolError("a broadcast frame is cut short or of an unknown encoding")
    join_ref, ref, topic, event, _ = (_text(field) for field in fields)
    _refuse_unwritable(topic, event)
    payload, encoding = frame[position:], Encoding(frame[6])
    if encoding is Encoding.JSON:
        loads(_text(payload))
    return Push(join_ref or None, ref or None, topic, event, payload, encoding)


def _text(field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("not UTF-8") from error


def _header(broadcast: Broadcast) -> bytes | None:
    """Everything before the payload of a kind 4 frame; None when a field does not fit its length byte."""
    meta = b"" if broadcast.meta is None else dumps(broadcast.meta).encode()
    fields = (broadcast.topic.encode(), broadcast.event.encode(), meta)
    if any(len(field) > FIELD_BYTES_MAX for field in fields):
        return None
    return bytes((BROADCAST_KIND, *map(len, fields), broadcast.encoding)) + b"".join(fields)

"""The codecs: what any client can send is read back or refused, and what we write is what the SDKs read."""

from __future__ import annotations

import itertools
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realtime.message import BroadcastMessage, ServerMessageAdapter

from local.supabase.realtime_protocol import (
    Broadcast,
    Encoding,
    Message,
    ProtocolError,
    Push,
    Version,
    decode,
    dumps,
    encode,
    loads,
    splice,
)

NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
REF = st.none() | st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=10)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
OBJECT = st.dictionaries(st.text(max_size=8), JSON, max_size=4)


def push_frame(join_ref: str, ref: str, topic: str, event: str, metadata: str, encoding: int, payload: bytes) -> bytes:
    """A kind 3 frame, as realtime-js's serializer writes it."""
    fields = [field.encode() for field in (join_ref, ref, topic, event, metadata)]
    return bytes([3, *map(len, fields), encoding]) + b"".join(fields) + payload


def read_broadcast_frame(frame: bytes) -> tuple[str, str, str, int, bytes]:
    """A kind 4 frame, as realtime-js's serializer reads it."""
    kind, topic, event, meta, encoding = struct.unpack_from("5B", frame)
    assert kind == 4
    ends = [5, 5 + topic, 5 + topic + event, 5 + topic + event + meta]
    texts = [frame[start:end].decode() for start, end in itertools.pairwise(ends)]
    return texts[0], texts[1], texts[2], encoding, frame[ends[-1] :]


@given(REF, REF, NAME, NAME, OBJECT)
def test_text_messages_survive_both_versions(
    join_ref: str | None, ref: str | None, topic: str, event: str, payload: dict[str, Any]
) -> None:
    """What an SDK writes as JSON is read as it was meant, whichever version wrote it."""
    wanted = Message(join_ref, ref, topic, event, payload)
    v1 = {"join_ref": join_ref, "ref": ref, "topic": topic, "event": event, "payload": payload}
    assert decode(json.dumps(v1), Version.V1) == wanted
    assert decode(json.dumps([join_ref, ref, topic, event, payload]), Version.V2) == wanted


@given(NAME, NAME, JSON)
def test_binary_pushes_keep_their_payload_as_written(topic: str, event: str, payload: Any) -> None:
    """A JSON push is passed on byte for byte; only its validity is checked."""
    body = json.dumps(payload, indent=1).encode()
    frame = push_frame("1", "", topic, event, '{"persist":true}', Encoding.JSON, body)
    assert decode(frame, Version.V2) == Push("1", None, topic, event, body, Encoding.JSON)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(frame: bytes) -> None:
    """Any binary frame is either a push or a ProtocolError."""
    for candidate in (frame, b"\3" + frame):
        try:
            assert isinstance(decode(candidate, Version.V2), Push)
        except ProtocolError:
            continue


@given(st.text(max_size=200) | JSON.map(json.dumps) | st.lists(JSON, min_size=5, max_size=5).map(json.dumps))
def test_no_text_crashes_the_decoder(frame: str) -> None:
    """Any text frame is either a message or a ProtocolError, and a message can be written again."""
    for version in Version:
        try:
            message = decode(frame, version)
        except ProtocolError:
            continue
        assert isinstance(message, Message)
        message.topic.encode()
        dumps(message.payload)


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "", "{", "[" * 100_000, "9" * 5000, "\ufeff{}", "{} {}"],
)
def test_json_that_javascript_cannot_read_is_refused(text: str) -> None:
    """One sender's lax JSON must not break the parser of everybody else on the topic."""
    with pytest.raises(ProtocolError):
        loads(text)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x\udfff"])
def test_names_that_postgres_cannot_hold_are_refused(name: str) -> None:
    """A NUL or half a surrogate pair in a topic or event ends in a refusal, not in an encoding error later."""
    for topic, event in ((name, "e"), ("t", name)):
        with pytest.raises(ProtocolError):
            decode(json.dumps([None, None, topic, event, {}]), Version.V2)


@given(NAME, NAME, JSON, st.none() | OBJECT)
def test_broadcasts_are_what_each_sdk_reads(topic: str, event: str, payload: Any, meta: dict[str, Any] | None) -> None:
    """The object of vsn 1.0.0, the array and the binary frame of vsn 2.0.0 all say the same."""
    said = {"type": "broadcast", "event": event, "payload": payload} | ({} if meta is None else {"meta": meta})
    body = json.dumps(payload).encode()
    framed, plain = (Broadcast(topic, event, body, meta=meta, framed=choice) for choice in (True, False))
    v1 = framed.frame(Version.V1)
    assert isinstance(v1, str)
    assert json.loads(v1) == {"ref": None, "topic": topic, "event": "broadcast", "payload": said}
    v2 = plain.frame(Version.V2)
    assert isinstance(v2, str)
    assert json.loads(v2) == [None, None, topic, "broadcast", said]
    binary = framed.frame(Version.V2)
    if isinstance(binary, bytes):
        heard = read_broadcast_frame(binary)
        assert heard == (topic, event, "" if meta is None else dumps(meta), Encoding.JSON, body)
    else:
        assert any(len(field.encode()) > 255 for field in (topic, event, dumps(meta)))


def test_frames_are_written_once() -> None:
    """A thousand subscribers share one frame: asking again gives the very same object."""
    broadcast = Broadcast("realtime:a", "b", b"{}")
    for version in Version:
        assert broadcast.frame(version) is broadcast.frame(version)


def test_bytes_reach_only_those_who_can_read_them() -> None:
    """vsn 1.0.0 has no way to say bytes; vsn 2.0.0 gets them untouched."""
    broadcast = Broadcast("realtime:a", "b", b"\0\xff", Encoding.BINARY, framed=False)
    assert broadcast.frame(Version.V1) is None
    frame = broadcast.frame(Version.V2)
    assert isinstance(frame, bytes)
    assert read_broadcast_frame(frame) == ("realtime:a", "b", "", Encoding.BINARY, b"\0\xff")
    assert Broadcast("t" * 256, "b", b"", Encoding.BINARY).frame(Version.V2) is None


def test_the_python_sdk_reads_our_broadcast() -> None:
    """realtime-py's own model accepts what vsn 1.0.0 gets."""
    frame = Broadcast("realtime:a", "b", b'{"n": 1}', meta={"id": "x"}).frame(Version.V1)
    assert frame is not None
    message = ServerMessageAdapter.validate_json(frame)
    assert isinstance(message, BroadcastMessage)
    assert message.payload == {"event": "b", "payload": {"n": 1}, "meta": {"id": "x"}}


@given(NAME, NAME, OBJECT, REF)
def test_server_messages_are_json_in_both_versions(
    topic: str, event: str, payload: dict[str, Any], ref: str | None
) -> None:
    """`encode` and `splice` write the same message."""
    assert json.loads(encode(Version.V1, topic, event, payload, ref, "9")) == {
        "ref": ref, "topic": topic, "event": event, "payload": payload,
    }  # fmt: skip
    assert json.loads(encode(Version.V2, topic, event, payload, ref, "9")) == ["9", ref, topic, event, payload]
    for version in Version:
        spliced = splice(version, topic, event, dumps(payload))
        assert json.loads(spliced) == json.loads(encode(version, topic, event, payload))

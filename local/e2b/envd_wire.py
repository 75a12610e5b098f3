"""Frames between the E2B server and the envd of a sandbox, over one unix stream socket per operation.

A frame is one byte of kind, four bytes of length (big endian) and the payload. An operation begins with one JSON frame
`{"op": …}`; what follows is the operation's own. A failure is a JSON frame `{"error": <Connect code>, "message": …}`.
This file runs on both sides: inside the sandbox with nothing but the standard library (Python 3.9+).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JSON = 0
# Bytes of a file, of a process's standard output, or of input for it. An empty one ends an upload.
DATA = 1
STDERR = 2
PTY = 3

HEADER = struct.Struct(">BI")
CHUNK_BYTES = 64 * 1024
# A directory listing is one JSON frame; nothing legitimate is larger than this.
MAX_FRAME_BYTES = 64 * 1024 * 1024


class WireError(Exception):
    """The peer closed in the middle of a frame, or sent one that is too large."""


def pack(kind: int, payload: bytes) -> bytes:
    """One frame, ready to be sent."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_json(message: dict[str, Any]) -> bytes:
    """A JSON frame, ready to be sent."""
    return pack(JSON, json.dumps(message).encode())


class Connection:
    """The inside's end of one operation. Sending is safe from several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._sending = threading.Lock()

    def send(self, kind: int, payload: bytes) -> None:
        """Blocks until the kernel took it all. Raises OSError when the peer is gone."""
        with self._sending:
            self.socket.sendall(pack(kind, payload))

    def send_json(self, message: dict[str, Any]) -> None:
        """Raises OSError when the peer is gone."""
        self.send(JSON, json.dumps(message).encode())

    def receive(self) -> tuple[int, bytes]:
        """The next frame. Raises WireError at the end of the stream."""
        kind, length = HEADER.unpack(self._exactly(HEADER.size))
        if length > MAX_FRAME_BYTES:
            raise WireError("frame too large")
        return kind, self._exactly(length)

    def receive_json(self) -> dict[str, Any]:
        """The next frame, which must be JSON. Raises WireError."""
        kind, payload = self.receive()
        message = json.loads(payload) if kind == JSON else None
        if not isinstance(message, dict):
            raise WireError("a JSON object was expected")
        return message

    def wait_closed(self) -> None:
        """Return when the peer has closed; whatever it still sends is dropped."""
        try:
            while self.socket.recv(4096):
                pass
        except OSError:
            return

    def close(self) -> None:
        """Ends the stream for every thread that reads or writes it."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            chunk = self.socket.recv(min(size - len(parts), CHUNK_BYTES))
            if not chunk:
                raise WireError("closed by the peer")
            parts += chunk
        return bytes(parts)

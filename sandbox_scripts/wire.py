"""A small HTTP/1.1 client: keep-alive, http and https, and one deadline for the whole of a request.

http.client would do but for two things: its timeout is per read, so a server that dribbles holds a request for
ever, and importing it (with email and ssl) takes longer than everything else before the first event.
RFC 9112 is the reference; bodies come by Content-Length, chunked, or until the connection closes.
"""

from __future__ import annotations

import _socket  # socket without its enums and selectors, which take a tenth of the time to the first event
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Union

    Socket = Union[_socket.socket, ssl.SSLSocket]

USER_AGENT = "sandstream-runner/1"
# For one of the host's addresses, so that a dead one leaves time for the next.
CONNECT_SECONDS = 3.0
_HEAD_LIMIT_BYTES = 1 << 16
_BODY_LIMIT_BYTES = 1 << 22


class WireError(OSError):
    """The connection failed, the deadline passed, or the answer is not HTTP."""


class Answer:
    """One response; header names are lower case."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Wire:
    """One kept connection to the host of `base_url`. Not for use by two threads."""

    def __init__(self, base_url: str, headers: dict[str, str], body_limit: int = _BODY_LIMIT_BYTES) -> None:
        scheme, _, rest = base_url.partition("://")
        self._secure = scheme == "https"
        self._body_limit = body_limit
        netloc, slash, path = rest.partition("/")
        self._base_path = (slash + path).rstrip("/")
        self._host, self._port = _host_and_port(netloc, 443 if self._secure else 80)
        fields = {"Host": netloc, "User-Agent": USER_AGENT, "Content-Type": "application/json", **headers}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._context: ssl.SSLContext | None = None
        self._socket: Socket | None = None
        self._buffer = b""
        self._ends_at = 0.0

    def post(self, path: str, body: bytes, seconds: float) -> Answer:
        """Send and read the whole answer within `seconds`. Raise WireError.

        A kept connection that the server had closed in the meantime is replaced once: every call of ours may be
        repeated, so it does not matter whether the server saw the first.
        """
        self._ends_at = time.monotonic() + seconds
        head = f"POST {self._base_path}{path} HTTP/1.1\r\n{self._fields}Content-Length: {len(body)}\r\n\r\n"
        message = head.encode("latin-1") + body
        reused = self._socket is not None
        try:
            return self._exchange(message)
        except WireError:
            if not reused or time.monotonic() >= self._ends_at:
                raise
            return self._exchange(message)

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _exchange(self, message: bytes) -> Answer:
        try:
            self._connected().sendall(message)
            return self._read_answer()
        except WireError:
            self.close()
            raise
        except (OSError, ValueError) as error:
            self.close()
            raise WireError(f"{type(error).__name__}: {error}") from error

    def _connected(self) -> Socket:
        if self._socket is None:
            plain = self._connect()
            plain.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._socket = self._secured(plain) if self._secure else plain
        self._socket.settimeout(self._left())
        return self._socket

    def _connect(self) -> _socket.socket:
        """The first of the host's addresses that answers."""
        failure: OSError = WireError(f"{self._host} has no address")
        host = _encoded(self._host)
        for family, kind, protocol, _, address in _socket.getaddrinfo(host, self._port, 0, _socket.SOCK_STREAM):
            plain = _socket.socket(family, kind, protocol)
            try:
                plain.settimeout(min(CONNECT_SECONDS, self._left()))
                plain.connect(address)
            except OSError as error:
                plain.close()
                failure = error
            else:
                return plain
        raise failure

    def _secured(self, plain: _socket.socket) -> ssl.SSLSocket:
        import socket  # only https pays for these
        import ssl

        whole = socket.socket(fileno=plain.detach())
        try:
            if self._context is None:
                self._context = ssl.create_default_context()
            whole.settimeout(self._left())
            return self._context.wrap_socket(whole, server_hostname=self._host)
        except BaseException:
            whole.close()
            raise

    def _left(self) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise WireError("no answer in time")
        return left

    def _read_answer(self) -> Answer:
        status, headers = self._read_head()
        while 100 <= status < 200:
            status, headers = self._read_head()
        length = headers.get("content-length")
        if status in (204, 304):
            body = b""
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            body = self._read_chunks()
        elif length is not None:
            body = self._take(int(length))
        else:
            body = self._read_to_the_end()
            headers["connection"] = "close"
        if "close" in headers.get("connection", "").lower():
            self.close()
        return Answer(status, headers, body)

    def _read_head(self) -> tuple[int, dict[str, str]]:
        lines = self._until(b"\r\n\r\n", _HEAD_LIMIT_BYTES).decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise WireError("the answer is not HTTP/1")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(rest[:3]), headers

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n", 1024).partition(b";")[0], 16):
            body += self._take(size)
            self._take(2)
            if len(body) > self._body_limit:
                raise WireError("the answer is too long")
        while self._until(b"\r\n", _HEAD_LIMIT_BYTES):
            pass
        return body

    def _read_to_the_end(self) -> bytes:
        while self._receive():
            pass
        body, self._buffer = self._buffer, b""
        return body

    def _until(self, border: bytes, limit: int) -> bytes:
        while border not in self._buffer:
            if len(self._buffer) > limit or not self._receive():
                raise WireError("the answer ended early")
        part, _, self._buffer = self._buffer.partition(border)
        return part

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= self._body_limit:
            raise WireError("the answer is too long")
        while len(self._buffer) < size:
            if not self._receive():
                raise WireError("the answer ended early")
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        return part

    def _receive(self) -> bool:
        """More bytes into the buffer; false at the end of the stream."""
        if self._socket is None or len(self._buffer) > self._body_limit:
            raise WireError("the answer is too long")
        self._socket.settimeout(self._left())
        block = self._socket.recv(1 << 16)
        self._buffer += block
        return bool(block)


def _encoded(host: str) -> bytes:
    """A name as the resolver takes it. Given a str, Python loads IDNA first, ASCII or not: with it `re` and `enum`."""
    return host.encode("ascii" if host.isascii() else "idna")


def _host_and_port(netloc: str, default: int) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port`."""
    if netloc.startswith("["):
        host, _, rest = netloc[1:].partition("]")
        return host, int(rest[1:] or default) if rest else default
    host, _, port = netloc.partition(":")
    return host, int(port) if port else default

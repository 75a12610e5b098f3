"""The HTTP client, against a server that writes exactly the bytes a test wants."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from sandbox_scripts.wire import Wire, WireError
from tests.runner.conftest import ROOT

# Prints which name is looked up, and what the caller hears of it. The resolver is not asked.
LOOKS_UP = """
import sys
from sandbox_scripts.wire import Wire, WireError
def stop(event, arguments):
    if event == "socket.getaddrinfo":
        print(arguments[0])
        raise OSError("nobody looks it up")
sys.addaudithook(stop)
try:
    Wire(f"http://{sys.argv[1]}", {}).post("/", b"", 5)
except WireError as error:
    print(f"WireError: {str(error).partition(': ')[2]}")
"""
Script = Callable[[socket.socket, int], None]


Open = Callable[..., Wire]


@pytest.fixture
def connect() -> Iterator[Open]:
    """Clients that are closed afterwards."""
    with ExitStack() as stack:
        yield lambda url, headers=None: stack.enter_context(closing(Wire(url, headers or {})))


def request(connection: socket.socket) -> bytes:
    """One request, head and body."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        block = connection.recv(65536)
        if not block:
            return raw
        raw += block
    head, _, body = raw.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(script: Script, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that hands each connection, with its number, to the script and then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=serve, args=(connection, number), daemon=True).start()

    def serve(connection: socket.socket, number: int) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) if context else connection as stream:
                script(stream, number)
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http{'s' if context else ''}://localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def answers(*replies: bytes) -> Script:
    """Each request of a connection gets the next reply."""

    def script(connection: socket.socket, _number: int) -> None:
        for reply in replies:
            request(connection)
            connection.sendall(reply)

    return script


@pytest.mark.parametrize(
    "reply",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n{"a\r\n5\r\n": 1}\r\n0\r\nTrailer: x\r\n\r\n',
        b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 8\r\n\r\n{"a": 1}',
    ],
    ids=["length", "chunked", "until closed", "after 100"],
)
def test_bodies_come_in_every_form_of_rfc_9112(connect: Open, reply: bytes) -> None:
    """By length, chunked, until the connection closes; 1xx is passed over."""
    with serving(answers(reply)) as url:
        answer = connect(url).post("/x", b"{}", 5)
        assert (answer.status, answer.body) == (200, b'{"a": 1}')


def test_no_content_has_no_body(connect: Open) -> None:
    """204 ends with its head, and the connection can be used again."""
    with serving(answers(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")) as url:
        wire = connect(url)
        assert wire.post("/x", b"", 5).body == b""
        assert wire.post("/x", b"", 5).body == b"x"


def test_the_connection_is_kept_and_the_request_is_whole(connect: Open) -> None:
    """One connection for all requests; path, host, headers and body as given."""
    seen = []

    def script(connection: socket.socket, number: int) -> None:
        for _ in range(3):
            seen.append((number, request(connection)))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(script) as url:
        wire = connect(url + "/base/", {"Authorization": "Bearer t"})
        for _ in range(3):
            wire.post("/x", b"body", 5)
    assert [number for number, _ in seen] == [1, 1, 1]
    head = seen[0][1].decode()
    assert head.startswith("POST /base/x HTTP/1.1\r\n")
    assert f"Host: {url[7:]}\r\n" in head
    assert "Authorization: Bearer t\r\n" in head
    assert head.endswith("Content-Length: 4\r\n\r\nbody")


def test_a_kept_connection_that_was_closed_is_replaced_at_once(connect: Open) -> None:
    """A server may close an idle connection; the request goes over a new one."""
    with serving(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as url:
        wire = connect(url)
        assert [wire.post("/x", b"", 5).body for _ in range(4)] == [b"ok"] * 4


def test_the_deadline_is_for_the_whole_request(connect: Open) -> None:
    """A server that sends a byte now and then does not hold the client past its deadline."""

    def dribble(connection: socket.socket, _number: int) -> None:
        request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    with serving(dribble) as url, pytest.raises(WireError):
        connect(url).post("/x", b"", 0.2)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"x" * 200_000,
    ],
)
def test_what_is_no_whole_answer_is_a_wire_error(connect: Open, reply: bytes) -> None:
    """Cut, malformed or endless answers: one kind of error, and the next request starts afresh."""

    def script(connection: socket.socket, number: int) -> None:
        request(connection)
        connection.sendall(reply if number == 1 else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(script) as url:
        wire = connect(url)
        with pytest.raises(WireError):
            wire.post("/x", b"", 5)
        assert wire.post("/x", b"", 5).status == 200


def test_nobody_listening_is_a_wire_error(connect: Open) -> None:
    """Refused connections and unknown hosts are told as every other fault of the wire."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://host.invalid"):
        with pytest.raises(WireError):
            connect(url).post("/x", b"", 5)


@pytest.mark.parametrize(
    ("host", "name"), [("log.invalid", b"log.invalid"), ("b\u00fccher.invalid", b"xn--bcher-kva.invalid")]
)
def test_names_are_looked_up_as_the_resolver_takes_them(host: str, name: bytes) -> None:
    """ASCII as it stands, anything else by IDNA; a name that is not found is a wire error."""
    ran = subprocess.run([sys.executable, "-c", LOOKS_UP, host], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{name!r}\nWireError: nobody looks it up\n"


def test_https_checks_the_certificate(connect: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody vouches for is refused; one that the system trusts is taken."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), context) as url:
        with pytest.raises(WireError, match="CERTIFICATE_VERIFY_FAILED"):
            connect(url).post("/x", b"", 5)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert connect(url).post("/x", b"", 5).body == b"ok"

"""The ways in and out of a sandbox that has only a loopback device. Runs inside; standard library only (3.9+)."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from local.e2b.envd_wire import CHUNK_BYTES

LOOPBACK = "127.0.0.1"


class Tunnels:
    """Listeners on the sandbox's loopback; what connects to one is carried to the gate's unix socket."""

    def __init__(self, gate: str) -> None:
        self._gate = gate
        self._listeners: dict[int, socket.socket] = {}

    def open_proxy(self, port: int) -> None:
        """Listen as an HTTP proxy. Raises OSError when the port is taken."""
        self._listen(port, b"proxy\n")

    def set_ports(self, ports: list[int], keep: int) -> list[int]:
        """Listen on exactly these loopback ports (and `keep`); answers those that are taken by somebody inside."""
        for port in set(self._listeners) - set(ports) - {keep}:
            _stop(self._listeners.pop(port))
        return [port for port in ports if port not in self._listeners and not self._try(port)]

    def _try(self, port: int) -> bool:
        try:
            self._listen(port, b"loopback %d\n" % port)
        except OSError:
            return False
        return True

    def _listen(self, port: int, preface: bytes) -> None:
        listener = socket.create_server((LOOPBACK, port), backlog=128)
        self._listeners[port] = listener
        threading.Thread(target=self._accept, args=(listener, preface), daemon=True).start()

    def _accept(self, listener: socket.socket, preface: bytes) -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return  # the listener was closed
            threading.Thread(target=self._carry, args=(inside, preface), daemon=True).start()

    def _carry(self, inside: socket.socket, preface: bytes) -> None:
        gate = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            gate.connect(self._gate)
            gate.sendall(preface)
        except OSError:
            inside.close()
            gate.close()
            return
        inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        splice(inside, gate)


def dial(port: int) -> socket.socket:
    """Connect to a server inside, whichever loopback address it listens on. Raises OSError."""
    try:
        return socket.create_connection((LOOPBACK, port), timeout=5)
    except OSError:
        return socket.create_connection(("::1", port), timeout=5)


def splice(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until both directions have ended; closes both sockets."""
    one.settimeout(None)
    other.settimeout(None)
    back = threading.Thread(target=_copy, args=(other, one), daemon=True)
    back.start()
    _copy(one, other)
    back.join()
    one.close()
    other.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        _break(source)
        _break(target)


def _stop(listener: socket.socket) -> None:
    # Closing alone would leave the thread in accept().
    _break(listener)
    listener.close()


def _break(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)

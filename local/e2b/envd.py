"""The program in the sandbox that acts for the E2B server: E2B's envd, behind our own frames instead of HTTP.

It is started with a listening unix socket as an inherited descriptor, and trusts whoever connects: the socket's path
is outside the sandbox, and tokens are checked before anything comes here. Standard library only (Python 3.9+), and few
imports: the time to start it is part of every sandbox's.
"""

# pathlib would be a good part of every sandbox's start.
# ruff: noqa: PTH118

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
import threading
from contextlib import suppress

from local.e2b.envd_files import Files
from local.e2b.envd_process import NoSuchProcessError, Processes
from local.e2b.envd_tunnels import Tunnels, dial, splice
from local.e2b.envd_wire import Connection, WireError

# Not imported from typing, which would be a tenth of the start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Operation = Callable[["Envd", Connection, dict[str, Any]], None]


class Envd:
    """What one sandbox holds: its processes, files and tunnels. The first operation must be `init`."""

    def __init__(self) -> None:
        self.processes = Processes({})
        self.files = Files("/home/user", "")
        self.tunnels: Tunnels | None = None
        self.proxy_port = 0

    def serve(self, listener: socket.socket) -> None:
        """Accept operations for ever, each in a thread of its own."""
        while True:
            connection = Connection(listener.accept()[0])
            try:
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()
            except RuntimeError:
                # The sandbox's processes are used up, and a thread counts as one. What is quick is done right here.
                self.answer(connection, QUICK)

    def answer(self, connection: Connection, allowed: frozenset[str] | None = None) -> None:
        """Carry out one operation, if it is `allowed`; what goes wrong is told to the caller."""
        try:
            request = connection.receive_json()
            operation = OPERATIONS[request["op"]]
            if allowed is not None and request["op"] not in allowed:
                operation = refuse
            operation(self, connection, request)
        except WireError:
            pass  # the caller left
        except Exception as error:  # noqa: BLE001 the edge of an operation: its caller is told, the program lives on
            _tell(connection, error)
        finally:
            connection.close()
            connection.socket.close()


def refuse(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:  # noqa: ARG001 an operation
    """What takes a thread of its own when there is none to be had."""
    raise BlockingIOError(errno.EAGAIN, "the sandbox has reached its limit of processes")


def init(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """Environment, home, gate and limits; answered when all is ready."""
    for name, value in request["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    envd.processes.environment = request["environment"]
    envd.files = Files(request["home"], request["root"])
    if request["gate"]:
        envd.tunnels = Tunnels(request["gate"])
        envd.proxy_port = request["proxy_port"]
        envd.tunnels.open_proxy(envd.proxy_port)
        envd.tunnels.set_ports(request["ports"], envd.proxy_port)
    connection.send_json({"pid": os.getpid()})


def set_ports(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """The loopback ports that lead to the gate from now on."""
    taken = envd.tunnels.set_ports(request["ports"], envd.proxy_port) if envd.tunnels else []
    connection.send_json({"taken": taken})


def start(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """Start a command and follow it; it outlives the connection."""
    config = request["process"]
    config["cwd"] = envd.files.resolve(config["cwd"] or envd.files.home)
    if envd.files.root:
        config["args"] = [a.replace("/home/user", envd.files.root + "/home/user") for a in config["args"]]
    process = envd.processes.start(config)
    try:
        # Before the output is read, so that nothing of it is missed.
        process.attach(connection)
    finally:
        threading.Thread(target=process.run, daemon=True).start()
    process.listen(connection)


def connect(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """Follow a command that runs already, from here on."""
    process = envd.processes.find(request["selector"])
    process.attach(connection)
    process.listen(connection)


def list_processes(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:  # noqa: ARG001 an operation
    """What runs now."""
    connection.send_json({"processes": envd.processes.listing()})


def send_signal(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """To one process."""
    envd.processes.find(request["selector"]).signal(request["signal"])
    connection.send_json({})


def send_input(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """Chunks for standard input, each acknowledged, until the caller closes."""
    process = envd.processes.find(request["selector"])
    connection.send_json({})
    while True:
        _, data = connection.receive()
        process.write(data)
        connection.send_json({})


def close_stdin(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """End of file for one process."""
    envd.processes.find(request["selector"]).close_stdin()
    connection.send_json({})


def resize(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """The size of one process's terminal."""
    envd.processes.find(request["selector"]).resize(request["rows"], request["cols"])
    connection.send_json({})


def stat(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """One entry."""
    connection.send_json({"entry": envd.files.stat(request["path"])})


def make_dir(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """A directory and its parents."""
    connection.send_json({"entry": envd.files.make_dir(request["path"])})


def move(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """A file or a tree."""
    connection.send_json({"entry": envd.files.move(request["source"], request["destination"])})


def remove(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """A file or a tree."""
    envd.files.remove(request["path"])
    connection.send_json({})


def list_dir(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """The entries of a directory."""
    connection.send_json({"entries": envd.files.list_dir(request["path"], request["depth"])})


def read(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """A file's content."""
    envd.files.read(request["path"], connection)


def write(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """A file's content, from the caller."""
    envd.files.write(request["path"], request["metadata"], connection)


def watch(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:
    """Changes below a directory, until the caller closes."""
    # Imported when first used: ctypes is a good part of a start.
    from local.e2b.envd_watch import Watch

    watching = Watch(envd.files.resolve(request["path"]), request["recursive"])
    connection.send_json({"watching": True})
    follower = threading.Thread(target=_watch, args=(envd, watching, connection, request), daemon=True)
    follower.start()
    connection.wait_closed()
    watching.close()


def tunnel(envd: Envd, connection: Connection, request: dict[str, Any]) -> None:  # noqa: ARG001 an operation
    """A stream to a server on a port inside."""
    server = dial(request["port"])
    connection.send_json({})
    splice(connection.socket, server)


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        init, set_ports, start, connect, list_processes, send_signal, send_input, close_stdin, resize,
        stat, make_dir, move, remove, list_dir, read, write, watch, tunnel,
    )
}  # fmt: skip

QUICK = frozenset({
    "set_ports", "list_processes", "send_signal", "stat", "make_dir", "move", "remove", "list_dir", "read", "write",
})  # fmt: skip

CODES: tuple[tuple[type[Exception], str], ...] = (
    (NoSuchProcessError, "not_found"),
    (FileNotFoundError, "not_found"),
    (FileExistsError, "already_exists"),
    (PermissionError, "permission_denied"),
    (NotADirectoryError, "invalid_argument"),
    (IsADirectoryError, "invalid_argument"),
    (ValueError, "invalid_argument"),
    (ConnectionRefusedError, "unavailable"),
    (BlockingIOError, "resource_exhausted"),
)


def _tell(connection: Connection, error: Exception) -> None:
    code = next((code for kind, code in CODES if isinstance(error, kind)), "internal")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        code = "resource_exhausted"
    with suppress(OSError):
        connection.send_json({"error": code, "message": str(error) or type(error).__name__})


def _watch(envd: Envd, watching: Any, connection: Connection, request: dict[str, Any]) -> None:
    top = envd.files.resolve(request["path"])
    try:
        for name, kind in watching.events():
            entry = _entry(envd, os.path.join(top, name)) if request["include_entry"] else None
            connection.send_json({"name": name, "type": kind, "entry": entry})
    except OSError:
        connection.close()


def _entry(envd: Envd, path: str) -> dict[str, Any] | None:
    try:
        return envd.files.entry(path)
    except OSError:
        return None  # the change was its removal


def drop_privileges(uid: int) -> None:
    """Become the sandbox's user for good: root set the sandbox up, and has no business in it."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def main() -> None:
    """`envd DESCRIPTOR [UID]`: serve on the listening socket, as that user when one is given.

    A UID of -1 stands for a sandbox that is only a directory.
    """
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    if sys.argv[2:] == ["-1"]:
        from local.e2b.envd_unisolated import keep_together

        keep_together()
    elif len(sys.argv) > 2:
        drop_privileges(int(sys.argv[2]))
    os.umask(0o022)
    envd = Envd()
    listener = socket.socket(fileno=descriptor)
    threading.Thread(target=envd.serve, args=(listener,), daemon=True).start()
    envd.processes.reap_for_ever()

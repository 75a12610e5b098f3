"""One sandbox: its processes behind bubblewrap, its directory, its limits, its clock, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from local.e2b import boot, jail
from local.e2b.boot import StartError
from local.e2b.egress import Network, Policy
from local.e2b.envd_client import EnvdClient, EnvdError
from local.e2b.gate import Gate
from local.e2b.limits import Cage, Limits, Usage
from local.e2b.templates import Template

log = logging.getLogger(__name__)

START_SECONDS = 20.0
END_SECONDS = 10.0
PORTS_SECONDS = 5.0


class State(StrEnum):
    """Where a sandbox is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


# Each state and those that may follow it.
MOVES = {
    State.STARTING: {State.RUNNING, State.ENDED},
    State.RUNNING: {State.PAUSED, State.ENDED},
    State.PAUSED: {State.RUNNING, State.ENDED},
    State.ENDED: set[State](),
}


class IllegalMoveError(Exception):
    """The sandbox is not in a state from which that can be done."""


@dataclass
class Order:
    """What was asked for at its creation."""

    template: str
    metadata: dict[str, str]
    environment: dict[str, str]
    network: Network
    timeout: float
    pause_at_end: bool = False
    resume_on_traffic: bool = False


@dataclass
class House:
    """What the sandboxes of one server share. `isolated` is False for SANDBOX_ISOLATION=none."""

    root: Path
    limits: Limits
    assets: jail.Assets
    isolated: bool
    templates: dict[str, Template] = field(default_factory=dict)

    def template(self, name: str) -> Template:
        """What a name, with or without a tag, stands for; one that nobody prepared adds nothing."""
        return self.templates.get(name.partition(":")[0], Template())


@dataclass
class Sandbox:
    """A sandbox from the moment its id is given. `start()` once, then any of the others; `kill()` in any state."""

    house: House
    order: Order
    id: str = field(default_factory=lambda: secrets.token_hex(10))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    state: State = State.STARTING
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ends_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.directory = self.house.root / self.id
        self.ended = asyncio.Event()
        self.network = self.order.network
        self._template = self.house.template(self.order.template)
        self._on_end: list[Callable[[Sandbox], None]] = []
        self._gate = Gate(Policy.of(self.network))
        self._cage: Cage | None = None
        self._client: EnvdClient | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._init: int | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._sockets: int | None = None
        self._gone = asyncio.Event()

    @property
    def envd(self) -> EnvdClient:
        """Operations inside. Raises IllegalMoveError before the start."""
        if self._client is None:
            raise IllegalMoveError("the sandbox has not started")
        return self._client

    def on_end(self, tell: Callable[[Sandbox], None]) -> None:
        """Call this once, when the sandbox has ended."""
        self._on_end.append(tell)

    async def start(self) -> None:
        """Return when commands can be run. Raises StartError; nothing is left behind then."""
        try:
            await self._start()
        except (OSError, EnvdError, TimeoutError, StartError) as error:
            said = self._last_words()
            await self.kill()
            raise StartError(f"the sandbox did not start: {error} {said}".strip()) from error
        self._move(State.RUNNING)
        self.set_timeout(self.order.timeout)

    async def pause(self) -> None:
        """Stop every process where it is. Raises IllegalMoveError unless it runs."""
        async with self._turn:
            await self._freeze()

    async def _freeze(self) -> None:
        self._move(State.PAUSED)
        self._stop_clock()
        self.envd.abort()
        self._gate.abort()
        if self._cage is not None:
            await self._cage.freeze()

    async def wake(self, timeout: float) -> bool:
        """Let a paused sandbox run on, for `timeout` seconds: True. Leave a running one at least that long: False.

        Raises IllegalMoveError when it has ended.
        """
        async with self._turn:
            resumed = self.state is State.PAUSED
            if resumed:
                if self._cage is not None:
                    self._cage.thaw()
                self._move(State.RUNNING)
            if resumed or not self._lives_until(datetime.now(UTC) + timedelta(seconds=timeout)):
                self.set_timeout(timeout)
            return resumed

    def _lives_until(self, moment: datetime) -> bool:
        return self.state is State.RUNNING and self.ends_at >= moment

    def set_timeout(self, seconds: float) -> None:
        """Count the sandbox's time anew, from now. Raises IllegalMoveError unless it runs."""
        if self.state is not State.RUNNING:
            raise IllegalMoveError("the sandbox is not running")
        self._stop_clock()
        self.ends_at = datetime.now(UTC) + timedelta(seconds=seconds)
        self._clock = asyncio.get_running_loop().call_later(seconds, self._time_is_up)

    async def set_network(self, network: Network) -> None:
        """Replace what it may reach; connections that are open are cut.

        Raises ValueError, EnvdError, and IllegalMoveError unless it runs.
        """
        policy = Policy.of(network)
        async with self._turn:
            if self.state is not State.RUNNING:
                raise IllegalMoveError("the sandbox is not running")
            self.network = network
            self._gate.set_policy(policy)
            if self.house.isolated:
                await self._open_ports(policy)

    def usage(self) -> Usage:
        """What its processes have used together."""
        return Usage(0.0, 0, 0) if self._cage is None else self._cage.usage()

    async def _open_ports(self, policy: Policy) -> None:
        try:
            async with asyncio.timeout(PORTS_SECONDS):
                await self.envd.call("set_ports", ports=policy.loopback_ports())
        except TimeoutError as error:
            raise EnvdError("unavailable", "the sandbox does not answer") from error

    async def kill(self) -> None:
        """End it in whatever state it is. Returns when no process of it lives; may be called again."""
        if self.state is not State.ENDED:
            self._move(State.ENDED)
            self._stop_clock()
            await asyncio.shield(self._keep(self._end()))
        await self.ended.wait()

    async def _start(self) -> None:
        await asyncio.to_thread(self._make_directory)
        self._cage = self.house.limits.cage(self.id)
        self._sockets = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Through the descriptor the path of a socket is short wherever the directory is.
        place = Path(f"/proc/self/fd/{self._sockets}")
        if self.house.isolated:
            await self._gate.listen(place / "gate" / "gate.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place / "envd.sock"))
            listener.listen(128)
            self._process = self._spawn(listener.fileno())
        self._watch_process(self._process)
        self._client = EnvdClient(place / "envd.sock")
        async with asyncio.timeout(START_SECONDS):
            await self._client.call("init", **self._initial())

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o711)
        (self.directory / "gate").mkdir()
        jail.make_directories(self.directory)
        if not self.house.isolated and self._template.path:
            # The machine's own /etc/profile, which login shells read first, may set PATH anew.
            profile = self.directory / "files" / "home" / "user" / ".profile"
            profile.write_text(f"PATH={shlex.quote(self._template.path)}:$PATH\n")

    def _spawn(self, listener: int) -> subprocess.Popen[bytes]:
        attach = self._cage.attach if self._cage is not None else None
        with (self.directory / "log").open("wb") as log_file:
            output = log_file.fileno()
            if not self.house.isolated:
                return boot.unisolated(self.directory, self.house.assets.library, listener, output, attach)
            process, self._init = boot.isolated(
                lambda fds: jail.arguments(self.directory, self.house.assets, self._template, fds),
                listener, output, attach,
            )  # fmt: skip
            return process

    def _initial(self) -> dict[str, Any]:
        isolated = self.house.isolated
        files = self.directory / "files"
        return {
            "environment": self._environment(),
            "home": jail.HOME if isolated else str(files / "home" / "user"),
            "root": "" if isolated else str(files),
            "gate": jail.GATE if isolated else "",
            "proxy_port": jail.PROXY_PORT,
            "ports": self._gate.policy.loopback_ports(),
            "rlimits": self.house.limits.rlimits(),
        }

    def _environment(self) -> dict[str, str]:
        home = jail.HOME if self.house.isolated else str(self.directory / "files" / "home" / "user")
        path = jail.search_path(self._template, self.house.isolated)
        base = {"PATH": path, "HOME": home, "USER": "user", "LOGNAME": "user", "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
        base |= {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": self.id, "E2B_TEMPLATE_ID": self.order.template}
        return base | (jail.proxy_variables() if self.house.isolated else {}) | self.order.environment

    def _watch_process(self, process: subprocess.Popen[bytes]) -> None:
        """A sandbox whose processes end by themselves has ended; the exit is collected either way."""
        loop = asyncio.get_running_loop()
        watched = os.pidfd_open(process.pid)

        def left() -> None:
            loop.remove_reader(watched)
            os.close(watched)
            process.wait()
            self._gone.set()
            if self.state in (State.RUNNING, State.PAUSED):
                self._keep(self.kill())

        loop.add_reader(watched, left)

    def _time_is_up(self) -> None:
        self._keep(self._stop_at(self.ends_at))

    async def _stop_at(self, due: datetime) -> None:
        async with self._turn:
            # Whoever asked for more time just now was promised it.
            if self.state is not State.RUNNING or self.ends_at != due:
                return
            if self.order.pause_at_end:
                await self._freeze()
                return
        await self.kill()

    async def _end(self) -> None:
        try:
            if self._client is not None:
                self._client.abort()
            await self._gate.close()
            if self._process is not None:
                self._kill_processes()
                async with asyncio.timeout(END_SECONDS):
                    await self._gone.wait()
            if self._cage is not None:
                await self._cage.remove()
        except (OSError, TimeoutError):
            log.exception("sandbox %s did not end cleanly", self.id)
        finally:
            self._release()
            self.ended.set()
            for tell in self._on_end:
                tell(self)
        await asyncio.to_thread(jail.remove_tree, self.directory)

    def _kill_processes(self) -> None:
        if self._process is None:
            return
        if self._init is not None:
            # Killing a namespace's first process kills all of it, however they hid.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
        else:
            # It ends what is below it first.
            self._process.terminate()
        if self._cage is not None:
            # A frozen process takes its SIGKILL when it is thawed.
            with contextlib.suppress(OSError):
                self._cage.thaw()

    def _release(self) -> None:
        for fd in (self._init, self._sockets):
            if fd is not None:
                os.close(fd)
        self._init = self._sockets = None

    def _move(self, state: State) -> None:
        if state not in MOVES[self.state]:
            raise IllegalMoveError(f"the sandbox is {self.state}")
        self.state = state

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()

    def _keep(self, work: Any) -> asyncio.Task[None]:
        """Run in the background; the loop itself holds tasks only weakly."""
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "log").read_text(errors="replace")[-2000:]
        return ""

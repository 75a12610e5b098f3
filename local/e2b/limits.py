"""What a sandbox may use: cgroups (version 1 or 2) where they can be written, resource limits where they cannot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import psutil

log = logging.getLogger(__name__)

CGROUPS = Path("/sys/fs/cgroup")
PREFIX = "sandstream"
WAIT_SECONDS = 5.0
V1_CONTROLLERS = ("memory", "pids", "freezer", "cpuacct")


@dataclass(frozen=True)
class Usage:
    """What a sandbox has used: seconds of CPU since its start, bytes of memory now, bytes of it that are page cache."""

    cpu_seconds: float
    memory: int
    cache: int


class Cage(Protocol):
    """The limits of one sandbox."""

    def attach(self, pid: int) -> None:
        """Take in this process and all that it will start. Called once, before it starts anything."""

    async def freeze(self) -> None:
        """Return when no process of the sandbox runs any more."""

    def thaw(self) -> None:
        """Let them run on."""

    def usage(self) -> Usage:
        """Of all processes together."""

    async def remove(self) -> None:
        """Leave nothing behind; every process must be dead."""


class Limits:
    """Makes the cages of one server; says once what it cannot limit."""

    def __init__(self, memory_bytes: int, processes: int) -> None:
        self.memory_bytes = memory_bytes
        self.processes = processes
        self._sweep()
        self._kind = self._best()

    def cage(self, name: str) -> Cage:
        """A new cage. Raises OSError only where cgroups could be written a moment ago."""
        return self._kind(f"{PREFIX}-{os.getpid()}-{name}", self)

    def rlimits(self) -> dict[str, int]:
        """Resource limits for every process inside. No core files; more only where there are no cgroups.

        RLIMIT_DATA and not RLIMIT_AS, because runtimes like V8 reserve far more addresses than they use.
        RLIMIT_NPROC counts per user of the host, so it is a bound for all sandboxes of that user together.
        """
        if self._kind is not Uncaged:
            return {"RLIMIT_CORE": 0}
        return {"RLIMIT_CORE": 0, "RLIMIT_DATA": 4 * self.memory_bytes, "RLIMIT_NPROC": 8 * self.processes}

    def _best(self) -> type[CgroupV1 | CgroupV2 | Uncaged]:
        for kind in (CgroupV1, CgroupV2):
            with contextlib.suppress(OSError):
                probe = kind(f"{PREFIX}-{os.getpid()}-probe", self)
                for directory in probe.directories.values():
                    directory.rmdir()
                return kind
        log.warning("cgroups cannot be written: sandboxes have resource limits per process only, pause stops by signal")
        return Uncaged

    def _sweep(self) -> None:
        """Remove the groups of servers that were killed; those of a living one hold processes or belong to its pid."""
        for directory in _leftovers():
            owner = directory.name.split("-")[1]
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                with contextlib.suppress(OSError):
                    directory.rmdir()


@dataclass
class CgroupV1:
    """One group in each of version 1's hierarchies."""

    name: str
    limits: Limits
    directories: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for controller in V1_CONTROLLERS:
            directory = CGROUPS / controller / self.name
            directory.mkdir()
            self.directories[controller] = directory
        (self.directories["memory"] / "memory.limit_in_bytes").write_text(str(self.limits.memory_bytes))
        (self.directories["pids"] / "pids.max").write_text(str(self.limits.processes))

    def attach(self, pid: int) -> None:
        """Into every hierarchy."""
        for directory in self.directories.values():
            (directory / "cgroup.procs").write_text(str(pid))

    async def freeze(self) -> None:
        """The freezer works while one waits."""
        state = self.directories["freezer"] / "freezer.state"
        state.write_text("FROZEN")
        await _until(lambda: state.read_text().strip() == "FROZEN")

    def thaw(self) -> None:
        """At once."""
        (self.directories["freezer"] / "freezer.state").write_text("THAWED")

    def usage(self) -> Usage:
        """From cpuacct and memory."""
        memory = self.directories["memory"]
        nanoseconds = int((self.directories["cpuacct"] / "cpuacct.usage").read_text())
        cache = _field(memory / "memory.stat", "total_cache")
        return Usage(nanoseconds / 1e9, int((memory / "memory.usage_in_bytes").read_text()), cache)

    async def remove(self) -> None:
        """All four."""
        await _remove(self.directories.values())


@dataclass
class CgroupV2:
    """A group below our own in version 2's single hierarchy."""

    name: str
    limits: Limits
    directories: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        directory = _own_v2() / self.name
        directory.mkdir()
        self.directories["unified"] = directory
        try:
            (directory / "memory.max").write_text(str(self.limits.memory_bytes))
            (directory / "pids.max").write_text(str(self.limits.processes))
        except OSError:
            directory.rmdir()
            raise

    def attach(self, pid: int) -> None:
        """One write."""
        (self.directories["unified"] / "cgroup.procs").write_text(str(pid))

    async def freeze(self) -> None:
        """The kernel tells when the last has stopped."""
        (self.directories["unified"] / "cgroup.freeze").write_text("1")
        await _until(lambda: _field(self.directories["unified"] / "cgroup.events", "frozen") == 1)

    def thaw(self) -> None:
        """At once."""
        (self.directories["unified"] / "cgroup.freeze").write_text("0")

    def usage(self) -> Usage:
        """From cpu.stat and memory."""
        directory = self.directories["unified"]
        seconds = _field(directory / "cpu.stat", "usage_usec") / 1e6
        memory = int((directory / "memory.current").read_text())
        return Usage(seconds, memory, _field(directory / "memory.stat", "file"))

    async def remove(self) -> None:
        """The one."""
        await _remove(self.directories.values())


@dataclass
class Uncaged:
    """Without cgroups: processes are found by descent, and stopped by signal."""

    name: str
    limits: Limits
    pid: int = 0

    def attach(self, pid: int) -> None:
        """Remembered: what it starts is found by descent."""
        self.pid = pid

    async def freeze(self) -> None:
        """By SIGSTOP."""
        # Again until all are stopped: one may have forked before its own signal came.
        await _until(self._stop_all)

    def thaw(self) -> None:
        """By SIGCONT."""
        for process in descendants(self.pid):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    def usage(self) -> Usage:
        """The sum over living processes."""
        cpu, memory = 0.0, 0
        for process in descendants(self.pid):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_info().rss
        return Usage(cpu, memory, 0)

    async def remove(self) -> None:
        """There is nothing."""
        return

    def _stop_all(self) -> bool:
        # The first is the namespace's init, which ignores the signal and does nothing but wait.
        running = [p for p in descendants(self.pid)[1:] if _status(p) not in (psutil.STATUS_STOPPED, *_DEAD)]
        for process in running:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)
        return not running


_DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def descendants(pid: int) -> list[psutil.Process]:
    """The process and all below it; empty when it is gone."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.Error:
        return []


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return psutil.STATUS_DEAD


def _own_v2() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            own = CGROUPS / line[3:].lstrip("/")
            with contextlib.suppress(OSError):
                (own / "cgroup.subtree_control").write_text("+memory +pids")
            return own
    raise FileNotFoundError("no cgroup of version 2")


def _leftovers() -> Iterator[Path]:
    for controller in V1_CONTROLLERS:
        yield from (CGROUPS / controller).glob(f"{PREFIX}-*-*")
    with contextlib.suppress(OSError):
        yield from _own_v2().glob(f"{PREFIX}-*-*")


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


async def _until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError("the sandbox's processes did not stop")
        await asyncio.sleep(0.002)


async def _remove(directories: Iterable[Path]) -> None:
    for directory in directories:
        await _until(partial(_gone, directory))


def _gone(directory: Path) -> bool:
    """A group can be removed a moment after its last process has ended, not before."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True

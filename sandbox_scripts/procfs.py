"""Processes as /proc tells them; proc(5) is the reference. Where /proc is closed, a pid is all that is known."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DEAD_STATES = "ZXx"


class Stat:
    """A line of /proc/<pid>/stat. `start` (clock ticks since boot) tells a process from a later one of the same pid."""

    __slots__ = ("pgrp", "pid", "ppid", "session", "start", "state")

    def __init__(self, pid: int, state: str, ppid: int, pgrp: int, session: int, start: int) -> None:
        self.pid = pid
        self.state = state
        self.ppid = ppid
        self.pgrp = pgrp
        self.session = session
        self.start = start


def parse_stat(line: str) -> Stat | None:
    """A stat line; the command's name may hold spaces and parentheses. Just a pid when the line ends there."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    pid = head.partition(" ")[0]
    if not pid.isdigit():
        return None
    if len(fields) < 20:
        return Stat(int(pid), "", 0, int(pid), int(pid), 0)
    return Stat(int(pid), fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def read_stat(pid: int) -> Stat | None:
    """The process now; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except OSError:
        return None


def is_alive(known: Stat) -> bool:
    """Whether that very process still runs. A zombie is dead: who should reap it may never do so."""
    if not known.start:
        return _answers(known.pid)
    now = read_stat(known.pid)
    return now is not None and now.start == known.start and now.state not in DEAD_STATES


def all_processes() -> list[Stat]:
    """Every live process that may be seen."""
    return [stat for stat in _walk() if stat.state not in DEAD_STATES]


def read_environ(pid: int) -> bytes:
    """The environment a process started with; empty when it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def read_pipes(pid: int) -> set[str]:
    """The pipes a process holds an end of, by the kernel's names; empty when they may not be read."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            links = {os.readlink(entry.path) for entry in entries}
    except OSError:
        return set()
    return {link for link in links if link.startswith("pipe:")}


def _walk() -> Iterator[Stat]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None:
                yield stat


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

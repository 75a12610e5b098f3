"""What a namespace does elsewhere, for a sandbox without one: its processes stay together and end with the server.

Runs in envd's process; standard library only (Python 3.9+).
"""

# pathlib would be a good part of every sandbox's start.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def keep_together() -> None:
    """Adopt every orphan below us, and take all of them along when the server dies."""
    signal.signal(signal.SIGTERM, lambda *_: _end())
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _end() -> None:
    # Once more after the first: a process may have forked while the list was made.
    while found := _descendants(os.getpid()):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass
    os._exit(0)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                children.setdefault(_parent(name), []).append(int(name))
    found, seen = list(children.get(pid, [])), 0
    while seen < len(found):
        found += children.get(found[seen], [])
        seen += 1
    return found


def _parent(pid: str) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        # After the name, which may hold anything, even a closing parenthesis: state, then parent.
        return int(file.read().rpartition(b")")[2].split()[1])

"""Ties a process to the one that started it: Linux tells the child when its parent is gone, however it went."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, how: signal.Signals = signal.SIGTERM) -> None:
    """From here on, `how` arrives when the process `parent` dies. Raises SystemExit when it is dead already.

    The kernel watches the thread that forked, so parents must start children from a thread that lasts. Does nothing
    where there is no prctl.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, how.value, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit("the process that started this one is gone")

"""Two settings of this process that Python has no call for: prctl(2), by number, through ctypes."""

from __future__ import annotations

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Become the parent of orphaned descendants; false where that fails.

    Then even a daemon that emptied its environment stays findable, as long as this runner lives.
    """
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def conceal() -> bool:
    """Close /proc/self/environ and memory to other processes of this user; false where that fails."""
    return _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> bool:
    try:
        import ctypes  # some milliseconds, and not in every interpreter

        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False

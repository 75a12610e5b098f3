"""One driver per kind of run: a module with `drive(run) -> Ending`, imported when its kind is asked for."""

from __future__ import annotations

from importlib import import_module

from ..errors import JobInvalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..control import Control
    from ..job import Ending, Job
    from ..spool import Spool

KINDS = ("commands", "claude", "research")


class Run:
    """What a driver works with."""

    def __init__(self, job: Job, spool: Spool, control: Control) -> None:
        self.job = job
        self.spool = spool
        self.control = control


def load(kind: str) -> Callable[[Run], Ending]:
    """The driver of a kind. Raise JobInvalid for one this runner does not know."""
    if kind not in KINDS:
        raise JobInvalid(f"this runner has no driver {kind}")
    drive: Callable[[Run], Ending] = import_module(f"{__name__}.{kind}").drive
    return drive

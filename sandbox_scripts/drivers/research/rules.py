"""All rules in one place: which of them one command breaks."""

from __future__ import annotations

from . import deletion, lasting, machine, secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .simple import Simple

FORK_BOMB, DOWNLOAD, UNREADABLE, UNKNOWN_COMMAND = "fork-bomb", "download-pipe-shell", "unreadable", "unknown-command"
NAMES = (
    *(deletion.RULE, machine.PRIVILEGE, machine.DEVICES, machine.DISKS, machine.PERMISSIONS, machine.STOPS),
    *(lasting.BACKGROUND, lasting.ENDLESS, secrets.CREDENTIALS, secrets.LOGS, secrets.REVERSE),
    *(FORK_BOMB, DOWNLOAD, UNREADABLE, UNKNOWN_COMMAND),
)
_TABLES = (deletion.RULES, machine.RULES, lasting.BACKGROUND_RULES, secrets.RULES)
KNOWN = frozenset().union(*_TABLES, lasting.ENDLESS_RULES)


def broken(simple: Simple) -> Iterator[str]:
    """The names of the rules that the command breaks by itself."""
    name = "mkfs" if simple.name.startswith("mkfs.") else simple.name
    if name == "mkfs":
        yield machine.DISKS
    for table in _TABLES:
        if (rule := table.get(name)) is not None:
            yield from rule(simple)
    if not simple.limited and (rule := lasting.ENDLESS_RULES.get(name)) is not None:
        yield from rule(simple)
    yield from secrets.touches(simple)


def broken_by_writing(path: str, standing: str) -> Iterator[str]:
    """The rules that `> path` breaks."""
    yield from machine.writes(path, standing)
    yield from secrets.written(path, standing)


def broken_by_reading(path: str, standing: str) -> Iterator[str]:
    """The rules that `< path` breaks."""
    yield from secrets.read(path, standing)

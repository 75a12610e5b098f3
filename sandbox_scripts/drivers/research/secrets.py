"""Rules on what the sandbox holds of ours: credentials, the record of what was done, and doors to the outside."""

from __future__ import annotations

import re

from . import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .simple import Simple

    Rule = Callable[[Simple], Iterator[str]]

CREDENTIALS, LOGS, REVERSE = "reads-credentials", "tampers-with-logs", "reverse-shell"
_CHANGING = ("rm", "mv", "truncate", "shred", "tee", "unlink", "chmod", "chown", "ln", "cp", "rsync", "wipe")
_RUNNER = re.compile(r"sandstream|sandbox_scripts|runner-|\.pyz")


def touches(simple: Simple) -> Iterator[str]:
    """Any argument that is a path of ours: read, or changed."""
    for word in simple.arguments:
        path = word.split("=", 1)[-1].lstrip("@")
        changing = simple.name in _CHANGING
        if places.is_network(path):
            yield REVERSE
        elif places.is_log(path, simple.standing) and (changing or "-delete" in simple.arguments):
            yield LOGS
        elif places.is_credential(path, simple.standing):
            yield CREDENTIALS


def written(path: str, standing: str) -> Iterator[str]:
    """The rules broken by writing to this path."""
    if places.is_network(path):
        yield REVERSE
    if places.is_log(path, standing):
        yield LOGS


def read(path: str, standing: str) -> Iterator[str]:
    """The rules broken by reading this path."""
    if places.is_network(path):
        yield REVERSE
    if places.is_credential(path, standing):
        yield CREDENTIALS


def forgets(simple: Simple) -> Iterator[str]:
    """`history -c`."""
    if simple.has("-c", "-d", "-w"):
        yield LOGS


def settles(simple: Simple) -> Iterator[str]:
    """`set +o history`."""
    if simple.arguments[:2] == ("+o", "history"):
        yield LOGS


def unsets(simple: Simple) -> Iterator[str]:
    """`unset HISTFILE`."""
    if any(word.startswith("HIST") for word in simple.arguments):
        yield LOGS


def vacuums(simple: Simple) -> Iterator[str]:
    """`journalctl --vacuum-size`, `dmesg -C`."""
    if any(word.startswith(("--vacuum", "--rotate", "--clear")) or word in ("-C", "-c") for word in simple.arguments):
        yield LOGS


def ends_us(simple: Simple) -> Iterator[str]:
    """`pkill` of the runner."""
    if any(_RUNNER.search(word) for word in simple.operands()):
        yield LOGS


def connects(simple: Simple) -> Iterator[str]:
    """`nc -e`, `socat EXEC:`."""
    if simple.name == "socat":
        if any(re.match(r"(?i)(exec|system|shell):", word) for word in simple.arguments):
            yield REVERSE
    elif simple.has("-e", "-c", "--exec", "--sh-exec", "--lua-exec"):
        yield REVERSE


def looks_into(simple: Simple) -> Iterator[str]:
    """`gdb -p`, `strace -p`, `ps e`: into the memory and the environment of others."""
    words = simple.arguments
    if simple.name == "ps":
        if any(re.fullmatch("[a-z]*e[a-z]*", word) for word in words[:1]):
            yield CREDENTIALS
    elif simple.has("-p", "--pid"):
        yield CREDENTIALS


RULES: dict[str, Rule] = {
    **dict.fromkeys(("journalctl", "dmesg"), vacuums),
    **dict.fromkeys(("pkill", "killall"), ends_us),
    **dict.fromkeys(("nc", "ncat", "netcat", "nc.traditional", "nc.openbsd", "socat"), connects),
    **dict.fromkeys(("gdb", "strace", "ltrace", "ps", "gcore"), looks_into),
    "history": forgets,
    "set": settles,
    "unset": unsets,
}

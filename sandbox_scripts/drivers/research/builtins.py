"""Builtins that change what the shell knows, or run text: `cd`, `read`, `eval`, `source`, `trap`."""

from __future__ import annotations

import re

from . import outputs, places
from .values import NEXT, UNKNOWN, either, marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .simple import Simple
    from .walk import Walk

    Printed = tuple[str, ...]

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_READ_VALUED = ("-d", "-n", "-N", "-p", "-t", "-u", "-i", "-a")


class Builtins:
    """The builtins of one walk."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._table: dict[str, Callable[[Simple], Printed | None]] = {
            "cd": self._cd,
            "pushd": self._cd,
            "read": self._reads,
            "mapfile": self._fills,
            "readarray": self._fills,
            "set": self._arguments,
            "shift": self._shifts,
            "trap": self._traps,
            "printf": self._prints,
            "export": self._declares,
            "declare": self._declares,
            "alias": self._aliases,
        }

    def run(self, simple: Simple, piece: str) -> Printed | None:
        """What the builtin prints; None when it is none of these."""
        handler = self._table.get(simple.name)
        if simple.name == "eval":
            return self._walk.executes(" ".join(simple.arguments), simple.stdin, piece)
        return handler(simple) if handler else None

    def sets(self, words: tuple[str, ...]) -> None:
        """Assignments that are words."""
        for word in words:
            if (match := _ASSIGNMENT.fullmatch(word)) is not None:
                self._walk.scope.assign(match[1], (match[2],))

    def _cd(self, simple: Simple) -> Printed:
        target = next(iter(simple.operands()), "") or self._walk.scope.values("HOME")[0]
        scope = self._walk.scope
        if target == "-":
            scope.assign("PWD", scope.values("OLDPWD"))
        else:
            scope.assign("OLDPWD", scope.standing())
            scope.assign("PWD", (places.absolute(target, simple.standing),))
        return ("",)

    def _reads(self, simple: Simple) -> Printed:
        """Each line that is there may be the one; each word of it may be anywhere."""
        given = UNKNOWN if simple.stdin is None else simple.stdin
        lines = tuple(line for line in given.split("\n") if line) or ("",)
        names = simple.operands(_READ_VALUED) or ["REPLY"]
        names += [name] if (name := simple.value("-a")) else []
        values = lines if len(names) == 1 else either(lines, (word for line in lines for word in line.split()))
        for name in names:
            self._walk.scope.assign(name, either(values))
        return ("",)

    def _fills(self, simple: Simple) -> Printed:
        given = UNKNOWN if simple.stdin is None else simple.stdin
        name = next(iter(simple.operands(("-d", "-n", "-O", "-s", "-u"))), "MAPFILE")
        self._walk.scope.assign(name, (given.strip().replace("\n", NEXT),))
        return ("",)

    def _arguments(self, simple: Simple) -> Printed:
        if "--" in simple.arguments:
            self._walk.scope.arguments(list(simple.arguments[simple.arguments.index("--") + 1 :]))
        elif simple.arguments and not simple.arguments[0].startswith(("-", "+")):
            self._walk.scope.arguments(list(simple.arguments))
        return ("",)

    def _shifts(self, _simple: Simple) -> Printed:
        words = self._walk.scope.values("@")[0].split(NEXT)
        self._walk.scope.arguments(words[1:])
        return ("",)

    def _traps(self, simple: Simple) -> Printed:
        action = next(iter(simple.operands()), "-")
        if action not in ("", "-") and not action.isdigit():
            self._walk.apart(action)
        return ("",)

    def _prints(self, simple: Simple) -> Printed | None:
        if simple.arguments[:1] != ("-v",):
            return None
        self._walk.scope.assign(simple.arguments[1], (outputs.formatted(simple.arguments[2:]),))
        return ("",)

    def _declares(self, simple: Simple) -> Printed:
        self.sets(simple.arguments)
        return ("",)

    def _aliases(self, simple: Simple) -> Printed:
        """An alias may be used by a shell that expands them: what it stands for counts at once."""
        for word in simple.arguments:
            text = word.partition("=")[2]
            if text and not marked(text):
                self._walk.apart(text)
        return ("",)

"""What a shell knows at one point of a command: variables, functions, files it has written, where it stands."""

from __future__ import annotations

from .values import NEXT, UNKNOWN, either, joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tree_sitter import Node

HOME = "/home/user"
_KNOWN = {
    "HOME": (HOME,),
    "PWD": (HOME,),
    "OLDPWD": (HOME,),
    "IFS": (" \t\n",),
    "PATH": ("/usr/local/bin:/usr/bin:/bin",),
    "SHELL": ("/bin/bash",),
    "BASH": ("/bin/bash",),
    "USER": ("user",),
    "LOGNAME": ("user",),
    "TMPDIR": ("/tmp",),  # noqa: S108  what it is, not where we write
    "PPID": ("1",),  # the runner, which is as little to be killed as the first process
    "0": ("bash",),
    "#": (UNKNOWN,),
    "?": (UNKNOWN,),
    "$": (UNKNOWN,),
    "!": (UNKNOWN,),
    "-": (UNKNOWN,),
    "_": (UNKNOWN,),
    "@": ("",),
    "*": ("",),
    **dict.fromkeys(("RANDOM", "SECONDS", "LINENO", "BASHPID", "UID", "EUID", "HOSTNAME"), (UNKNOWN,)),
}
# Never set by anybody here, so it is either empty or whatever the sandbox's environment says.
UNSET = ("", UNKNOWN)


class Scope:
    """The variables' values in all ways they may have come out, and what else a later command can use."""

    def __init__(self) -> None:
        self.variables: dict[str, tuple[str, ...]] = dict(_KNOWN)
        self.functions: dict[str, Node] = {}
        self.files: dict[str, tuple[str, ...]] = {}
        self.sinks: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether the command has set it, or every shell does."""
        return name in self.variables

    def values(self, name: str) -> tuple[str, ...]:
        """In all the ways it may have come out; an argument of a script that has none is empty."""
        if name.isdigit() and name not in self.variables:
            return ("",)
        return self.variables.get(name, UNSET)

    def assign(self, name: str, values: Iterable[str]) -> None:
        """Set it."""
        self.variables[name] = tuple(values)

    def append(self, name: str, values: tuple[str, ...], array: bool) -> None:
        """`name+=…`."""
        before = self.variables.get(name, ("",))
        between = (NEXT,) if array and before != ("",) else ("",)
        self.variables[name] = joined([before, between, values])

    def arguments(self, words: list[str]) -> None:
        """The positional parameters."""
        for number in [name for name in self.variables if name.isdigit() and name != "0"]:
            del self.variables[number]
        self.variables.update({str(place): (word,) for place, word in enumerate(words, 1)})
        self.variables["@"] = self.variables["*"] = (NEXT.join(words),)

    def standing(self) -> tuple[str, ...]:
        """The directories we may be in."""
        return self.values("PWD")

    def copy(self) -> dict[str, tuple[str, ...]]:
        """The variables as they are now."""
        return dict(self.variables)

    def merge(self, *ways: Mapping[str, tuple[str, ...]]) -> None:
        """Be in any of these states."""
        names = dict.fromkeys(name for way in ways for name in way)
        self.variables = {name: either(*(way.get(name, ("",)) for way in ways)) for name in names}

"""One command as it would be executed: its words, what it reads, where it stands."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


@dataclass(frozen=True)
class Simple:
    """`stdin` is None where nothing was given to read. `limited` says that something ends it in time."""

    words: tuple[str, ...]
    stdin: str | None
    standing: str
    limited: bool = False

    @property
    def name(self) -> str:
        """The program, without its folder."""
        return posixpath.basename(self.words[0])

    @property
    def arguments(self) -> tuple[str, ...]:
        """All words but the name."""
        return self.words[1:]

    def has(self, *options: str) -> bool:
        """Whether one of the options is there: `-r` also within `-fr`, `--all` also as `--all=…`."""
        return any(_is(word, option) for word in self.arguments for option in options)

    def operands(self, valued: Container[str] = ()) -> list[str]:
        """The arguments that are no options, nor the values of these."""
        found: list[str] = []
        rest = iter(self.arguments)
        for word in rest:
            if word == "--":
                return found + list(rest)
            if word in valued:
                next(rest, None)
            elif not word.startswith("-") or word == "-":
                found.append(word)
        return found

    def value(self, *options: str) -> str | None:
        """What follows one of the options, or stands in the same word."""
        for place, word in enumerate(self.arguments):
            for option in options:
                if word == option:
                    return "".join(self.arguments[place + 1 : place + 2])
                if word.startswith(option + "=") or (len(option) == 2 and word.startswith(option)):
                    return word[len(option) :].lstrip("=")
        return None


def _is(word: str, option: str) -> bool:
    if option.startswith("--"):
        return word == option or word.startswith(option + "=")
    if len(option) == 2:
        return word[:1] == "-" and word[:2] != "--" and option[1] in word
    return word == option

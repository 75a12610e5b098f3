"""Where quotes and brackets of shell text end."""

from __future__ import annotations

import re

from .values import Unreadable

_COMMENT_AFTER = " \t\n;|&("
_SKIPPED = re.compile(r"[^\\'\"`$(){}#<>]+")
_ANSI = re.compile(r"\$'(?:[^\\']|\\.)*'", re.DOTALL)


class Nesting:
    """A walk through the text, token by token, with what is open on a stack: each by what closes it."""

    def __init__(self, text: str, *opened: str) -> None:
        self.text = text
        self.open = list(opened)

    def quoted(self) -> bool:
        """Whether we stand in double quotes."""
        return bool(self.open) and self.open[-1] == '"'

    def step(self, at: int) -> int:
        """Past the token here. Raise Unreadable for a quote without an end."""
        text = self.text
        if text[at] == "\\":
            return at + 2
        if self.open and text.startswith(self.open[-1], at):
            return at + len(self.open.pop())
        if (opened := self._opened(at)) is not None:
            return opened
        if self.quoted():
            return at + 1
        return self._plain(at)

    def _opened(self, at: int) -> int | None:
        """Past what opens something, also within double quotes."""
        text = self.text
        for start, end in (("$((", "))"), ("$(", ")"), ("${", "}"), ("`", "`")):
            if text.startswith(start, at):
                self.open.append(end)
                return at + len(start)
        return None

    def _plain(self, at: int) -> int:
        text, here = self.text, self.text[at]
        if here == '"':
            self.open.append('"')
        elif here == "'":
            return self._found("'", at + 1)
        elif text.startswith("$'", at) and (ansi := _ANSI.match(text, at)):
            return ansi.end()
        elif here == "(":
            doubled = text.startswith("((", at) and text.find("))", at) > 0
            self.open.append("))" if doubled else ")")
            return at + 1 + doubled
        elif here == "#" and (at == 0 or text[at - 1] in _COMMENT_AFTER) and self.open[-1:] != ["}"]:
            return text.find("\n", at) % (len(text) + 1)  # -1 becomes the end
        return at + 1

    def _found(self, end: str, at: int) -> int:
        found = self.text.find(end, at)
        if found < 0:
            raise Unreadable(f"no end of {end}")
        return found + 1


def is_one_word(raw: str) -> bool:
    """Whether no blank in it is outside of quotes and brackets."""
    nesting, at = Nesting(raw), 0
    while at < len(raw):
        if not nesting.open and raw[at] in " \t\n":
            return False
        at = nesting.step(at)
    return True


def closing(text: str, at: int, end: str) -> int:
    """Where `end` stands that closes what was opened before `at`. Raise Unreadable when nothing does."""
    nesting = Nesting(text, end)
    while at < len(text):
        last, at = at, nesting.step(at)
        if not nesting.open:
            return last
    raise Unreadable(f"no end of {end}")

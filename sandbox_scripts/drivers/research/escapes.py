"""Backslash escapes, as `$'…'`, `printf` and `echo -e` read them."""

from __future__ import annotations

import re

from .values import Unreadable

_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|(0?[0-7]{1,3})|c(.)|(.))", re.DOTALL
)
_SINGLE = {"a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def decoded(text: str) -> str:
    """The text with its escapes read."""
    return _ESCAPE.sub(_character, text)


def end_of_ansi(raw: str, at: int) -> int:
    """Where the quote closes that `$'` at this place opens. Raise Unreadable when none does."""
    at += 2
    while at < len(raw):
        if raw[at] == "'":
            return at
        at += 2 if raw[at] == "\\" else 1
    raise Unreadable("no end of $'")


def _character(match: re.Match[str]) -> str:
    for group in (1, 2, 3):
        if match[group]:
            return chr(min(int(match[group], 16), 0x10FFFF))
    if match[4]:
        return chr(int(match[4], 8) & 0xFF)
    if match[5]:
        return chr(ord(match[5]) & 0x1F)
    return _SINGLE.get(match[6], match[6] if match[6] in "\\'\"?" else match[0])

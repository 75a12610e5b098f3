"""`${…}`: what is between the braces, in all ways it may come out."""

from __future__ import annotations

import fnmatch
import re

from . import escapes
from .values import NEXT, UNKNOWN, either, marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .scope import Scope

_BODY = re.compile(r"(!?)(#?)([A-Za-z_]\w*|\d+|[@*#?$!-])(?:\[([^\]]*)\])?(.*)", re.DOTALL)
LONGEST_EDITED = 1000
_DEFAULTS = (":-", ":=", ":+", ":?", "-", "=", "+", "?")
_OPERATIONS = ("##", "#", "%%", "%", "//", "/", "^^", "^", ",,", ",", "@", ":")
_SLICE = re.compile(r"\s*(-?\d+)\s*(?::\s*(-?\d+)\s*)?")


class Parameters:
    """Expansion of parameters in one scope; `text` expands a word within the braces."""

    def __init__(self, scope: Scope, text: Callable[[str], tuple[str, ...]]) -> None:
        self._scope, self._text = scope, text

    def values(self, body: str) -> tuple[str, ...]:
        """All values of `${body}`."""
        match = _BODY.fullmatch(body)
        if match is None:
            return (UNKNOWN,)
        indirect, length, name, index, rest = match.groups()
        if length or index:
            self._text(index or "")  # for the commands in it
        if length:
            return (UNKNOWN,)
        names = self._scope.values(name) if indirect else (name,)
        if any(marked(one) for one in names):
            return (UNKNOWN,)
        return either(*(self._of(one, index, rest) for one in names))

    def _of(self, name: str, index: str | None, rest: str) -> tuple[str, ...]:
        values = self._elements(name, index)
        for operator in _DEFAULTS:
            if rest.startswith(operator):
                return self._default(name, values, operator[-1], rest[len(operator) :])
        for operator in _OPERATIONS:
            if rest.startswith(operator):
                return either(*(self._operated(value, operator, rest[len(operator) :]) for value in values))
        return values

    def _elements(self, name: str, index: str | None) -> tuple[str, ...]:
        values = self._scope.values(name)
        if name in "@*" or index in ("@", "*"):
            return values
        if index is None or index == "0":
            return tuple(value.split(NEXT)[0] for value in values)
        if index.isdigit():
            return tuple((value.split(NEXT) + [""] * int(index))[int(index)] for value in values)
        return either(*(value.split(NEXT) for value in values))

    def _default(self, name: str, values: tuple[str, ...], operator: str, word: str) -> tuple[str, ...]:
        if operator == "?":
            return values
        other = self._text(word)
        if operator == "+":
            return either(other if any(values) else (), () if all(values) and self._scope.has(name) else ("",))
        given = [value for value in values if value] if self._scope.has(name) else []
        result = either(given, other if len(given) < len(values) else ())
        if operator == "=":
            self._scope.assign(name, result)
        return result

    def _operated(self, value: str, operator: str, rest: str) -> tuple[str, ...]:
        if operator == ":":
            self._text(rest)
            return (_sliced(value, rest),)
        if operator in ("^^", "^", ",,", ","):
            return (_cased(value, operator),)
        if operator == "@":
            return (escapes.decoded(value) if rest == "E" else value,)
        pattern, replacement = _halves(rest) if operator in ("/", "//") else (rest, "")
        return either(
            _edited(value, operator, one, other) for one in self._text(pattern) for other in self._text(replacement)
        )


def _halves(rest: str) -> tuple[str, str]:
    """What `/` parts, unless it is escaped."""
    match = re.fullmatch(r"((?:\\.|[^\\/])*)(?:/(.*))?", rest, re.DOTALL)
    return (match[1], match[2] or "") if match else (rest, "")


def _sliced(value: str, rest: str) -> str:
    match = _SLICE.fullmatch(rest)
    if match is None or marked(value):
        return UNKNOWN
    parts = value.split(NEXT)
    start, length = int(match[1]), match[2] and int(match[2])
    if len(parts) > 1:
        return NEXT.join(parts[max(start - 1, 0) :])  # longer than it may be, never shorter
    return value[start:][: length or None] if length != 0 else ""


def _cased(value: str, operator: str) -> str:
    changed = value.upper() if operator[0] == "^" else value.lower()
    return changed if len(operator) == 2 else changed[:1] + value[1:]


def _edited(value: str, operator: str, pattern: str, replacement: str) -> str:
    if len(value) > LONGEST_EDITED:
        return UNKNOWN
    if marked(value) or marked(pattern):
        return UNKNOWN if not value.endswith(UNKNOWN) or operator[0] != "%" else value
    anchor = pattern[:1] if operator == "/" and pattern[:1] in ("#", "%") else ""
    glob = fnmatch.translate(pattern[len(anchor) :]).replace(r"\Z", "").replace(r"\z", "")
    if operator[0] in "#%":
        return _trimmed(value, operator, glob)
    glob = {"#": r"\A" + glob, "%": glob + r"\Z"}.get(anchor, glob)
    return re.sub(glob, lambda _: replacement, value, count=0 if operator == "//" else 1) if pattern else value


def _trimmed(value: str, operator: str, glob: str) -> str:
    """Without the shortest or longest piece at the start or the end that matches."""
    places = range(len(value) + 1)
    if operator[0] == "#":
        fits = [place for place in places if re.fullmatch(glob, value[:place])]
        return value[(max if len(operator) == 2 else min)(fits) :] if fits else value
    fits = [place for place in places if re.fullmatch(glob, value[place:])]
    return value[: (min if len(operator) == 2 else max)(fits)] if fits else value

"""Brace expansion, on the text of a word as it is written: `r{m,mdir}`, `{1..3}`."""

from __future__ import annotations

import re

from .nesting import Nesting
from .values import Unreadable

MOST_WORDS = 2000
# Of one word: each reads all that is behind it once more.
MOST_GROUPS = 100
_RANGE = re.compile(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.(-?\d+))?")


def expand(raw: str) -> list[str]:
    """The words it stands for, still quoted as they were. Raise Unreadable when they are too many."""
    if "{" not in raw:
        return [raw]
    groups = _groups(raw)
    if len(groups) > MOST_GROUPS:
        raise Unreadable("too many braces in a word")
    for start, end, commas in groups:
        inner = raw[start + 1 : end]
        parts = _range(inner) if not commas else _split(inner, [comma - start - 1 for comma in commas])
        if parts:
            return _around(raw[:start], parts, raw[end + 1 :])
    return [raw]


def _around(before: str, parts: list[str], after: str) -> list[str]:
    tails = expand(after)
    words = [before + middle + tail for part in parts for middle in expand(part) for tail in tails]
    if len(words) > MOST_WORDS:
        raise Unreadable("too many words in braces")
    return words


def _groups(raw: str) -> list[tuple[int, int, list[int]]]:
    """Every pair of unquoted braces, from the left: where it starts, where it ends, its own commas."""
    nesting, at = Nesting(raw), 0
    opened: list[tuple[int, list[int]]] = []
    found: list[tuple[int, int, list[int]]] = []
    while at < len(raw):
        if not nesting.open and raw[at] == "{":
            opened.append((at, []))
        elif not nesting.open and raw[at] == "}" and opened:
            start, commas = opened.pop()
            found.append((start, at, commas))
        elif not nesting.open and raw[at] == "," and opened:
            opened[-1][1].append(at)
        at = nesting.step(at)
    return sorted(found)


def _split(inner: str, commas: list[int]) -> list[str]:
    edges = [-1, *commas, len(inner)]
    return [inner[start + 1 : end] for start, end in zip(edges, edges[1:])]


def _range(inner: str) -> list[str]:
    match = _RANGE.fullmatch(inner)
    if match is None or match[1].isalpha() != match[2].isalpha():
        return []
    first, last = (ord(end) if end.isalpha() else int(end) for end in (match[1], match[2]))
    step = abs(int(match[3] or 1)) or 1
    if abs(last - first) // step > MOST_WORDS:
        raise Unreadable("too many words in braces")
    numbers = range(first, last + 1, step) if last >= first else range(first, last - 1, -step)
    return [chr(number) if match[1].isalpha() else str(number) for number in numbers]

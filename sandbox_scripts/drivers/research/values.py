"""What is known of a text before it is made: a string in which marks stand for what only the run itself would show.

A word may come out in several ways, as after `if …; then x=a; else x=b; fi`. Each way is one alternative.
"""

from __future__ import annotations

import itertools
from typing import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")

# Characters for private use. A command that holds one itself is taken to hold what it stands for.
UNKNOWN = "\ue000"
DOWNLOADED = "\ue001"  # from a host that is not on the list
TRUSTED = "\ue002"  # from one that is
NEXT = "\ue003"  # between the elements of an array
MARKS = (DOWNLOADED, UNKNOWN, TRUSTED)
MOST_ALTERNATIVES = 32
MOST_COMBINATIONS = 512
MOST_CHARACTERS = 200_000


class Unreadable(Exception):
    """The command cannot be followed: it does not parse, or it is more than a plan's step should be."""


def either(*groups: Iterable[str]) -> tuple[str, ...]:
    """All ways of the groups, each once. Too many numbers become an unknown one. Raise Unreadable."""
    found = tuple(dict.fromkeys(itertools.chain(*groups)))
    if sum(map(len, found)) > MOST_CHARACTERS:
        raise Unreadable("too long a word")
    if len(found) <= MOST_ALTERNATIVES:
        return found
    if all(value.isdigit() for value in found):
        return (UNKNOWN,)
    raise Unreadable("too many ways a word may come out")


def combinations(parts: Sequence[Sequence[T]]) -> Iterator[tuple[T, ...]]:
    """One of each part, in every way. Raise Unreadable when there are too many ways."""
    count = 1
    for part in parts:
        count *= len(part)
        if count > MOST_COMBINATIONS:
            raise Unreadable("too many ways a command may come out")
    return itertools.product(*parts)


def joined(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The parts one after the other, in every way."""
    return either("".join(ways) for ways in combinations(parts))


def marked(text: str) -> bool:
    """Whether the text holds what is not known."""
    return any(mark in text for mark in MARKS)


def made_of(*sources: str) -> str:
    """The mark for what some program makes of these."""
    text = "".join(sources)
    return next((mark for mark in (DOWNLOADED, TRUSTED) if mark in text), UNKNOWN)

"""Is a command safe to run? Advice within a sandbox that is closed anyway: see docs/research.md.

The command is followed as bash would: words are expanded as far as they are known, what is built is read again when it
is executed, and each command that comes out is held against the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from .rules import UNREADABLE
from .values import Unreadable
from .walk import Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_PIECE = 200


@dataclass(frozen=True)
class Refusal:
    """The rule that a piece of the command breaks."""

    rule: str
    text: str


def refusals(command: str, hosts: Sequence[str] | None) -> list[Refusal]:
    """Every rule that the command breaks, with the piece that does, in the order of the command; none when it is safe.

    `hosts` are those that may be reached, `*.name` for all below; None is any. What they answer may be executed.
    Raise ImportError when the parser is not installed.
    """
    walk = Walk(hosts)
    try:
        walk.script(command)
    except (Unreadable, RecursionError):
        walk.refuse(UNREADABLE, command)
    return [Refusal(rule, _short(text)) for rule, text in walk.found]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_PIECE else line[: LONGEST_PIECE - 1] + "…"

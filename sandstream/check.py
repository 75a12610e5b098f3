"""What the demo promises, and whether it held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from sandstream.events import Event


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and whether it did."""

    promise: str
    holds: bool
    found: str


def contiguous(what: str, events: Sequence[Event]) -> Check:
    """That the events are 1, 2, 3 …, in order."""
    seqs = [event.seq for event in events]
    holds = bool(seqs) and seqs == list(range(1, len(seqs) + 1))
    return Check(
        f"{what}: each event once", holds, f"seq 1..{len(seqs)}, no gap, no repeat" if holds else f"seq {seqs}"
    )


def table(checks: Sequence[Check], measures: Sequence[tuple[str, str]]) -> Table:
    """The table at the end: what held, and what was measured."""
    made = Table(show_header=False, box=None, padding=(0, 2), title_justify="left")
    made.add_column(no_wrap=True)
    made.add_column()
    made.add_column(overflow="fold")
    for check in checks:
        mark = Text("ok", style="green") if check.holds else Text("FAILED", style="bold red")
        made.add_row(mark, check.promise, Text(check.found))
    for name, value in measures:
        made.add_row("", name, Text(value))
    return made

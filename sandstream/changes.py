"""What a turn did to files, as its tool calls say it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from sandstream import tools
from sandstream.events import Event


@dataclass
class Change:
    """One file: the lines that were added and removed, in order."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    @property
    def counts(self) -> str:
        """As version control counts them."""
        return f"+{len(self.added)}" + (f" -{len(self.removed)}" if self.removed else "")


def changes(events: Iterable[Event]) -> dict[str, Change]:
    """By file, in the order of the first call; a call that failed changed nothing."""
    found: dict[str, Change] = {}
    calls: dict[str, Event] = {}
    for event in events:
        if event.type == "agent.tool_use":
            calls[event.id] = event
        elif event.type == "agent.tool_result" and not event.data.get("is_error"):
            use = calls.get(str(event.data.get("tool_use_id")))
            path = tools.file_path(use) if use else None
            if use and path:
                _apply(use, found.setdefault(path, Change()))
    return found


def _apply(use: Event, change: Change) -> None:
    given = use.data.get("input") or {}
    before = str(given.get("old_string") or "").splitlines()
    after = str(given.get("new_string") or given.get("content") or "").splitlines()
    for line in difflib.ndiff(before, after):
        if line.startswith("+ "):
            change.added.append(line[2:])
        elif line.startswith("- "):
            change.removed.append(line[2:])

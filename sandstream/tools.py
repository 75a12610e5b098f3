"""Tool calls and their results in a line each. Pure; nothing of what they hold is taken for markup or obeyed."""

from __future__ import annotations

import re
from typing import Any

from sandstream.conversation import text
from sandstream.events import Event
from sandstream.render import printable

WORKSPACE = "/workspace/"
# The way to the workspace, before a path in it.
_INSIDE = re.compile(r"(?<!\S)/\S*?/workspace/(?=\S)")
# What a call is about, by the tool's name; other tools are shown with the first of their inputs that is a text.
_SUBJECTS = {
    "bash": ("command",),
    "write": ("file_path", "path"),
    "edit": ("file_path", "path"),
    "read": ("file_path", "path"),
    "glob": ("pattern",),
    "grep": ("pattern",),
    "web_fetch": ("url",),
    "web_search": ("query",),
}
# What the CLI tells the model about a file's state: nothing to whom it is shown.
_ASIDE = re.compile(r" \(file state is current[^)\n]*\)?")
# A line of a file as `read` numbers it.
_NUMBERED = re.compile(r"^\s*\d+[\t→]", re.MULTILINE)
FILE_TOOLS = ("write", "edit")


def name(use: Event) -> str:
    """The tool's name as people say it: `write`, `github: create_issue`."""
    own = str(use.data.get("name") or "tool")
    server = use.data.get("mcp_server_name")
    return printable(f"{server}: {own}" if server else own.lower() if own.lower() in _SUBJECTS else own)


def subject(use: Event) -> str:
    """What it is called for: a file, with how many lines; a command; a pattern."""
    given: dict[str, Any] = use.data.get("input") or {}
    own = name(use)
    found = [given[key] for key in _SUBJECTS.get(own, ()) if isinstance(given.get(key), str)]
    words = first_line(str((found or [value for value in given.values() if isinstance(value, str)] or [""])[0]))
    if own in ("write", "edit", "read"):
        words = short_path(words)
    written = given.get("content") if own == "write" else None
    return f"{words} ({lines(len(written.splitlines()))})" if isinstance(written, str) else words


def label(use: Event) -> str:
    """Which call it is, in a few words."""
    return f"{name(use)} {file_path(use) or subject(use)}".strip()


def file_path(use: Event) -> str | None:
    """The file that the call writes, or None for one that writes none."""
    given = use.data.get("input") or {}
    path = given.get("file_path") or given.get("path")
    return short_path(str(path)) if name(use) in FILE_TOOLS and path else None


def outcome(result: Event, use: Event | None) -> str:
    """A result's first line; `done` for one that says nothing, and how much it was of a file that was read."""
    words = text(result.data.get("content")).strip("\n")
    if use is not None and name(use) == "read" and not result.data.get("is_error"):
        return lines(len(_NUMBERED.findall(words)) or len(words.splitlines()))
    words = _ASIDE.sub("", words)
    return _INSIDE.sub("", first_line(words)).strip() or "done"


def short_path(path: str) -> str:
    """The path within the workspace, where it is in there."""
    return printable(path.partition(WORKSPACE)[2] or path)


def lines(count: int) -> str:
    """How many."""
    return f"{count} line{'' if count == 1 else 's'}"


def first_line(words: str) -> str:
    """The first line, and how many there are after it."""
    head, *rest = words.splitlines() or [""]
    return printable(head) + (f"  (+{lines(len(rest))})" if rest else "")

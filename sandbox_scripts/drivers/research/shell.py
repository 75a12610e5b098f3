"""Shell text as tree-sitter's tree of bash.

Here-documents are taken out first: the grammar cannot read all that bash allows behind their start. In the tree each
is a redirection from the key of what was taken out, and a here-string is one from a word that begins with a mark. `<>`
is read as `>`, and backticks as `$(…)`, for the same reason.
"""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass

from ..packages import add_site_packages
from .nesting import Nesting, closing
from .values import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tree_sitter import Node, Parser

LONGEST = 32_000
MOST_REPAIRS = 100
_LINES = ("command", "declaration_command", "unset_command", "redirected_statement", "file_redirect")
TEXT = "\ue012"  # before the word of a here-string
KEY = re.compile("\ue010(\\d+)\ue011")
_START = re.compile(r"<<(-?)[ \t]*((?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s;|&<>()'\"\\])+)")
_BLANKS = tuple(" \t\v\f")
_BRACKETS = ("))", "}")


@dataclass(frozen=True)
class Heredoc:
    """A here-document's text; `literal` when nothing in it is expanded."""

    text: str
    literal: bool


def parse(text: str, heredocs: list[Heredoc]) -> Node:
    """The tree. Appends the here-documents, whose places in the list are their keys. Raise Unreadable, ImportError."""
    if len(text) > LONGEST or "\0" in text:
        raise Unreadable("too long, or no text")
    data = _Lift(text, heredocs).lifted().encode("utf-8", "replace")
    for _ in range(MOST_REPAIRS):
        root = _parser().parse(data).root_node
        if root.has_error:
            break
        if (at := _swallowed(root, data)) is None:
            return root
        data = data[:at] + b";" + data[at:]
    raise Unreadable("this is not read as shell")


def _swallowed(node: Node, data: bytes) -> int | None:
    """Where the grammar took the end of a line for a blank within a command, as it does behind `a= | b`."""
    last: Node | None = None
    for child in node.children:
        if last is not None and node.type in _LINES and b"\n" in data[last.end_byte : child.start_byte]:
            return last.end_byte
        if (found := _swallowed(child, data)) is not None:
            return found
        last = child if child.type != "comment" else last
    return None


def text_of(node: Node) -> str:
    """The node's piece of the command."""
    return (node.text or b"").decode("utf-8", "replace")


def _parser() -> Parser:
    """One for each thread: a check that was given up may still read."""
    return _parser_of(threading.get_ident())


@functools.cache
def _parser_of(_thread: int) -> Parser:
    add_site_packages()
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


class _Lift:
    """Text without its here-documents."""

    def __init__(self, text: str, heredocs: list[Heredoc]) -> None:
        self._text, self._heredocs = text, heredocs
        self._nesting = Nesting(text)
        self._waiting: list[tuple[int, str, bool, bool]] = []
        self._kept: list[str] = []

    def lifted(self) -> str:
        at = 0
        while at < len(self._text):
            at = self._step(at)
        if self._waiting:
            self._bodies(len(self._text))
        return "".join(self._kept)

    def _step(self, at: int) -> int:
        text, nesting = self._text, self._nesting
        if text.startswith("\\\n", at):
            return at + 2
        if text[at] == "`":
            return self._renewed(at)
        if not nesting.quoted():
            if text[at] == "\n" and self._waiting:
                return self._bodies(at + 1)
            if text.startswith("<<<", at):
                return self._keep(f"< {TEXT}", len(text) - len(text[at + 3 :].lstrip(" \t")))
            if text.startswith("<>", at):
                return self._keep(">", at + 2)
            if text[at] == "\\" and text[at + 1 : at + 2] in _BLANKS and '"' not in nesting.open:
                return self._keep(f"'{text[at + 1]}'", at + 2)  # the grammar takes it for no part of a word
            if nesting.open[-1:] not in [[end] for end in _BRACKETS] and (start := _START.match(text, at)):
                return self._start(start)
        end = nesting.step(at)
        return self._keep(text[at:end], end)

    def _renewed(self, at: int) -> int:
        """Backticks in the newer form: the grammar stumbles over several of them."""
        text, end = self._text, closing(self._text, at + 1, "`")
        escaped = r'\\([\\`$"])' if self._nesting.quoted() else r"\\([\\`$])"
        inner = re.sub(escaped, r"\1", text[at + 1 : end])
        after = "\n" if "#" in inner else ""
        self._text = self._nesting.text = f"{text[:at]}$({inner.strip() or ':'}{after}){text[end + 1 :]}"
        return at

    def _keep(self, kept: str, end: int) -> int:
        self._kept.append(kept)
        return end

    def _start(self, start: re.Match[str]) -> int:
        key, word = len(self._heredocs), start[2]
        literal = any(quote in word for quote in "'\"\\")
        self._waiting.append((key, re.sub(r"['\"\\]", "", word), literal, bool(start[1])))
        self._heredocs.append(Heredoc("", literal))
        return self._keep(f"< \ue010{key}\ue011", start.end())

    def _bodies(self, at: int) -> int:
        for key, word, literal, dedented in self._waiting:
            lines: list[str] = []
            while at < len(self._text):
                line, at = self._line(at)
                line = line.lstrip("\t") if dedented else line
                if line == word:
                    break
                lines.append(line + "\n")
            self._heredocs[key] = Heredoc("".join(lines), literal)
        self._waiting = []
        return self._keep("\n", at)

    def _line(self, at: int) -> tuple[str, int]:
        end = self._text.find("\n", at)
        end = len(self._text) if end < 0 else end
        return self._text[at:end], end + 1

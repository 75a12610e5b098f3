"""`<`, `>`, here-documents: what a statement is given to read, and where what it prints is kept."""

from __future__ import annotations

from . import places, rules
from .shell import KEY, TEXT, text_of
from .values import UNKNOWN, either

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tree_sitter import Node

    from .walk import Walk

_READING = ("<", "<&")
_TO_ANOTHER = (">&", "<&")


class Redirects:
    """The redirections of one walk."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def given(self, nodes: Iterable[Node], stdin: str | None) -> Sequence[str | None]:
        """What the statement reads, in all ways; `stdin` as it was when nothing is said of it."""
        given: Sequence[str | None] = (stdin,)
        for node in nodes:
            if _sign(node) in _READING and (word := self._word(node)) is not None and not word.isdigit():
                given = self._read(node, word)
        return given

    def kept(self, nodes: Iterable[Node], printed: tuple[str, ...]) -> tuple[str, ...]:
        """What is still printed, once the files that are written have theirs."""
        for node in nodes:
            word = self._word(node)
            if word is None or _sign(node) in _READING:
                continue
            if not (_sign(node) in _TO_ANOTHER and (word.isdigit() or word == "-")):
                printed = self._written(node, word, printed)
        return printed

    def contents(self, word: str) -> tuple[str, ...]:
        """A file's text, where the command has written it."""
        found = []
        for path in self._walk.words.text(word):
            for standing in self._walk.scope.standing():
                for rule in rules.broken_by_reading(path, standing):
                    self._walk.refuse(rule, path)
                found.append(self._walk.scope.files.get(places.absolute(path, standing), (UNKNOWN,)))
        return either(*found)

    def _read(self, node: Node, word: str) -> tuple[str, ...]:
        if word.startswith(TEXT):
            return tuple(text + "\n" for text in self._walk.words.text(word[len(TEXT) :]))
        if (key := KEY.fullmatch(word)) is not None:
            heredoc = self._walk.heredocs[int(key[1])]
            return (heredoc.text,) if heredoc.literal else self._walk.words.text(heredoc.text, quoted=True)
        for path in self._walk.words.text(word):
            for standing in self._walk.scope.standing():
                for rule in rules.broken_by_reading(path, standing):
                    self._walk.refuse(rule, text_of(node))
        return self.contents(word)

    def _written(self, node: Node, word: str, printed: tuple[str, ...]) -> tuple[str, ...]:
        walk = self._walk
        for path in walk.words.text(word):
            for text in printed:
                walk.feeds(path, text)
            for standing in walk.scope.standing():
                for rule in rules.broken_by_writing(path, standing):
                    walk.refuse(rule, text_of(node))
                place = places.absolute(path, standing)
                before = walk.scope.files.get(place, ()) if ">>" in _sign(node) else ()
                walk.scope.files[place] = either(*([(a + b for a in before for b in printed)] if before else [printed]))
        is_output = text_of(node)[:1] in (">", "1", "&")
        return ("",) if is_output else printed

    def _word(self, node: Node) -> str | None:
        target = node.child_by_field_name("destination")
        return text_of(target) if target is not None else None


def _sign(node: Node) -> str:
    return next((child.type for child in node.children if child.type[:1] in "<>&"), "")

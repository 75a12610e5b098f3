"""From a word as it is written to the fields a command gets, in all ways they may come out.

https://www.gnu.org/software/bash/manual/html_node/Shell-Expansions.html; file names are not expanded, globs stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain

from . import braces, escapes
from .nesting import closing
from .parameters import Parameters
from .scope import HOME, Scope
from .shell import KEY
from .values import NEXT, UNKNOWN, combinations, either

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME = re.compile(r"\$([A-Za-z_]\w*|[0-9@*#?$!_-])")
_PLAIN = re.compile(r"[^\\'\"$`<>]+")
_ESCAPED_IN_QUOTES = '$`"\\'


@dataclass
class Piece:
    """A part of a word: its values, whether they are split into fields, whether they make a field even when empty."""

    values: tuple[str, ...]
    splits: bool = False
    quoted: bool = False


class Words:
    """Expansion in one scope. `run` answers what a command substitution prints, and `place` names a process's file."""

    def __init__(self, scope: Scope, run: Callable[[str], tuple[str, ...]], place: Callable[[str, str], str]) -> None:
        self._scope, self._run, self._place = scope, run, place
        self._parameters = Parameters(scope, self.text)

    def fields(self, raw: str) -> tuple[tuple[str, ...], ...]:
        """The fields of a word, one tuple for each way. Raise Unreadable."""
        words = [self._split(list(self._pieces(self._tilde(one), quoted=False))) for one in braces.expand(raw)]
        if len(words) == 1:
            return words[0]
        return tuple(dict.fromkeys(tuple(chain.from_iterable(ways)) for ways in combinations(words)))

    def text(self, raw: str, quoted: bool = False) -> tuple[str, ...]:
        """The text of a word that is not split: a value, a target, a here-document. Raise Unreadable."""
        raw = raw if quoted else self._tilde(raw)
        pieces = [piece.values for piece in self._pieces(raw, quoted)]
        return either("".join(ways) for ways in combinations(pieces))

    def _tilde(self, raw: str) -> str:
        if not raw.startswith("~"):
            return raw
        user, slash, rest = raw[1:].partition("/")
        if user in ("", "+", "-"):
            return HOME + slash + rest
        return (f"/{user}" if user == "root" else f"/home/{user}") + slash + rest if user.isalnum() else raw

    def _pieces(self, raw: str, quoted: bool) -> Iterator[Piece]:
        at = 0
        while at < len(raw):
            if (key := KEY.match(raw, at)) is not None:
                at = key.end()
                continue
            piece, at = self._piece(raw, at, quoted)
            yield piece

    def _piece(self, raw: str, at: int, quoted: bool) -> tuple[Piece, int]:
        here = raw[at]
        if here == "\\":
            return self._escaped(raw, at, quoted)
        if here in "$`":
            return self._expansion(raw, at, quoted)
        if not quoted and here in "'\"":
            return self._quote(raw, at)
        if not quoted and raw[at : at + 2] in ("<(", ">("):
            end = closing(raw, at + 2, ")")
            return Piece((self._place(here, raw[at + 2 : end]),)), end + 1
        plain = _PLAIN.match(raw, at)
        end = plain.end() if plain else at + 1
        return Piece((raw[at:end],), quoted=quoted), end

    def _escaped(self, raw: str, at: int, quoted: bool) -> tuple[Piece, int]:
        following = raw[at + 1 : at + 2]
        if following == "\n":
            return Piece(("",)), at + 2
        kept = "\\" if quoted and following not in _ESCAPED_IN_QUOTES else ""
        return Piece((kept + following,), quoted=True), at + 2

    def _quote(self, raw: str, at: int) -> tuple[Piece, int]:
        if raw[at] == "'":
            end = raw.index("'", at + 1)
            return Piece((raw[at + 1 : end],), quoted=True), end + 1
        end = closing(raw, at + 1, '"')
        return self._quoted(raw[at + 1 : end]), end + 1

    def _quoted(self, inner: str) -> Piece:
        pieces = list(self._pieces(inner, quoted=True))
        # "$@" without arguments is no field at all.
        is_field = not (len(pieces) == 1 and inner in ("$@", "${@}") and pieces[0].values == ("",))
        return Piece(either("".join(ways) for ways in combinations([p.values for p in pieces])), quoted=is_field)

    def _expansion(self, raw: str, at: int, quoted: bool) -> tuple[Piece, int]:
        if not quoted and raw[at : at + 2] in ("$'", '$"'):
            return self._dollar_quote(raw, at)
        values, end = self._values(raw, at)
        return Piece(values, splits=not quoted, quoted=quoted), end

    def _values(self, raw: str, at: int) -> tuple[tuple[str, ...], int]:
        if raw[at] == "`":
            end = closing(raw, at + 1, "`")
            return self._run(re.sub(r"\\([\\`$])", r"\1", raw[at + 1 : end])), end + 1
        if raw.startswith("$((", at) and raw.find("))", at) > 0:
            end = closing(raw, at + 3, "))")
            self.text(raw[at + 3 : end], quoted=True)  # for the commands in it
            return (UNKNOWN,), end + 2
        if raw.startswith("$(", at):
            end = closing(raw, at + 2, ")")
            return self._run(raw[at + 2 : end]), end + 1
        if raw.startswith("${", at):
            end = closing(raw, at + 2, "}")
            return self._parameters.values(raw[at + 2 : end]), end + 1
        return self._named(raw, at)

    def _dollar_quote(self, raw: str, at: int) -> tuple[Piece, int]:
        if raw.startswith("$'", at):
            end = escapes.end_of_ansi(raw, at)
            return Piece((escapes.decoded(raw[at + 2 : end]),), quoted=True), end + 1
        end = closing(raw, at + 2, '"')
        return self._quoted(raw[at + 2 : end]), end + 1

    def _named(self, raw: str, at: int) -> tuple[tuple[str, ...], int]:
        """`$name`, or a lone dollar."""
        name = _NAME.match(raw, at)
        if name is None:
            return ("$",), at + 1
        values = self._scope.values(name[1])
        return (values if name[1] in "@*" else tuple(value.split(NEXT)[0] for value in values)), name.end()

    def _split(self, pieces: list[Piece]) -> tuple[tuple[str, ...], ...]:
        ways = dict.fromkeys(
            self._fields_of(pieces, values) for values in combinations([piece.values for piece in pieces])
        )
        return tuple(ways)

    def _fields_of(self, pieces: list[Piece], values: tuple[str, ...]) -> tuple[str, ...]:
        fields: list[str] = []
        current, is_field = "", False
        for piece, value in zip(pieces, values):
            parts = self._parts(value) if piece.splits else value.split(NEXT)
            for number, part in enumerate(parts):
                if number:
                    fields += [current] if current or is_field else []
                    current, is_field = "", False
                current += part
            is_field = is_field or piece.quoted
        return (*fields, current) if current or is_field else tuple(fields)

    def _parts(self, value: str) -> list[str]:
        separators = NEXT + "".join(self._scope.values("IFS")).replace(UNKNOWN, "")
        return re.split(f"[{re.escape(separators)}]+", value)

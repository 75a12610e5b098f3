"""The filters of postgres_changes, `column=operator.value,…`: read here, evaluated by Postgres.

The grammar is what realtime-js's `RealtimePostgresFilterBuilder` writes: commas mean AND, `not.` negates, values
with reserved characters stand in double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

COMPARISONS = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "isdistinct": "is distinct from",
}
PATTERNS = {"like": "like", "ilike": "ilike", "match": "~", "imatch": "~*"}
TRUTHS = ("null", "true", "false", "unknown")
IN_VALUES_MAX = 100

_CONDITION = re.compile(
    r'(?P<column>"(?:[^"]|"")+"|[^=,"]+)=(?P<negated>not\.)?(?P<operator>[a-z]+)\.(?P<value>.*)', re.DOTALL
)
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[^,()"]+|[,()"]', re.DOTALL)


class FilterError(ValueError):
    """A filter that says nothing we understand; the message is for the client."""


@dataclass(frozen=True)
class Condition:
    """One comparison. `values` has one element except for `in`."""

    column: str
    operator: str
    values: tuple[str, ...]
    negated: bool = False

    def expression(self, column: sql.Composable, kind: sql.Composable) -> sql.Composable:
        """SQL that is true when the column, of type `kind`, matches; null means no."""
        matches = self._expression(column, kind)
        return sql.SQL("not ({})").format(matches) if self.negated else matches

    def _expression(self, column: sql.Composable, kind: sql.Composable) -> sql.Composable:
        if self.operator == "is":
            return sql.SQL("{} is {}").format(column, sql.SQL(self.values[0]))
        if self.operator in PATTERNS:
            operator = sql.SQL(PATTERNS[self.operator])
            return sql.SQL("{}::text {} {}").format(column, operator, sql.Literal(self.values[0]))
        values = [sql.SQL("{}::{}").format(sql.Literal(value), kind) for value in self.values]
        if self.operator == "in":
            return sql.SQL("{} in ({})").format(column, sql.SQL(", ").join(values))
        return sql.SQL("{} {} {}").format(column, sql.SQL(COMPARISONS[self.operator]), values[0])


def parse(text: str | None) -> tuple[Condition, ...]:
    """All conditions of a filter; none for an empty one. Raises FilterError."""
    if not text:
        return ()
    return tuple(_condition(part) for part in _split(text))


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise FilterError(f"Error parsing `filter` params: {text!r}")
    column, operator, value = match["column"].strip(), match["operator"], match["value"]
    if column.startswith('"'):
        column = column[1:-1].replace('""', '"')
    return Condition(column, operator, _values(operator, value), negated=match["negated"] is not None)


def _values(operator: str, value: str) -> tuple[str, ...]:
    if operator == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise FilterError("Error parsing `filter` params: `in` needs a list in parentheses")
        values = tuple(_unquote(part) for part in _split(value[1:-1]))
        if not 0 < len(values) <= IN_VALUES_MAX:
            raise FilterError(f"Error parsing `filter` params: `in` takes 1 to {IN_VALUES_MAX} values")
        return values
    if operator == "is":
        if value.lower() not in TRUTHS:
            raise FilterError(f"Error parsing `filter` params: `is` takes one of {', '.join(TRUTHS)}")
        return (value.lower(),)
    if operator not in COMPARISONS and operator not in PATTERNS:
        raise FilterError(f"Error parsing `filter` params: unknown operator {operator!r}")
    return (_unquote(value),)


def _unquote(value: str) -> str:
    stripped = value.strip()
    if len(stripped) >= 2 and stripped[0] == stripped[-1] == '"':
        return re.sub(r"\\(.)", r"\1", stripped[1:-1], flags=re.DOTALL)
    return value


def _split(text: str) -> list[str]:
    """Split at commas outside quotes and parentheses."""
    parts, depth = [""], 0
    for piece in _PIECE.findall(text):
        if piece == "," and depth == 0:
            parts.append("")
            continue
        depth += (piece == "(") - (piece == ")")
        parts[-1] += piece
    return parts

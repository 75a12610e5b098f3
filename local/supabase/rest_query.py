"""The query string's grammar, parsed into what it asks for. Knows no table and no SQL.

Reference: https://docs.postgrest.org/en/stable/references/api/tables_views.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from local.supabase.rest_errors import bad_query

COMPARISONS = {
    "eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "like", "ilike": "ilike",
    "match": "~", "imatch": "~*", "isdistinct": "is distinct from", "cs": "@>", "cd": "<@", "ov": "&&", "sl": "<<",
    "sr": ">>", "nxr": "&<", "nxl": "&>", "adj": "-|-",
}  # fmt: skip
TEXT_SEARCHES = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
QUANTIFIABLE = {"eq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch"}
IS_VALUES = {"null", "not_null", "true", "false", "unknown"}
CAST = re.compile(
    r"[a-z_][a-z0-9_]*( precision| varying)?(\(\d+(,\d+)?\))?( with(out)? time zone)?(\[\])?", re.IGNORECASE
)
OPERATION = re.compile(r"(?P<name>[a-z]+)(\((?P<argument>[^)]*)\))?\.(?P<value>.*)", re.DOTALL)
ORDER_SUFFIX = re.compile(r"(?:\.(asc|desc))?(?:\.(nullsfirst|nullslast))?$")


@dataclass(frozen=True)
class Field:
    """A column, or a place inside a JSON one: the path's steps are (arrow, key)."""

    name: str
    path: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Filter:
    """One condition. `argument` is what stands in the operator's parentheses: any, all, or a text search language."""

    field: Field
    operator: str
    value: str
    negated: bool = False
    argument: str | None = None


@dataclass(frozen=True)
class Group:
    """Conditions joined by `and` or `or`."""

    operator: Literal["and", "or"]
    members: tuple[Condition, ...]
    negated: bool = False


Condition = Filter | Group


@dataclass(frozen=True)
class Order:
    """One term of an order; `relation` is the embedded one whose column it names."""

    field: Field
    descending: bool = False
    nulls: str | None = None
    relation: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A column to return."""

    field: Field
    alias: str | None = None
    cast: str | None = None


@dataclass(frozen=True)
class Counted:
    """The number of rows: `count()`, or `count` where no column has that name."""

    alias: str = "count"


@dataclass(frozen=True)
class Embed:
    """A related table's rows, inside each row."""

    name: str
    alias: str | None
    hint: str | None
    inner: bool
    spread: bool
    items: tuple[Item, ...]

    @property
    def key(self) -> str:
        """What filters and the answer call it."""
        return self.alias or self.name


Item = Chosen | Counted | Embed


@dataclass
class Level:
    """What is asked of one level: the table itself, or one embedded relation."""

    where: list[Condition] = field(default_factory=list)
    order: list[Order] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0


@dataclass
class Query:
    """A query string. `levels` is keyed by the path of embedded relations; () is the table itself."""

    select: tuple[Item, ...] = (Chosen(Field("*")),)
    levels: dict[tuple[str, ...], Level] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None

    def level(self, path: tuple[str, ...] = ()) -> Level:
        """The level at a path; an empty one when nothing is asked of it."""
        return self.levels.setdefault(path, Level())


def parse_query(parameters: Iterable[tuple[str, str]]) -> Query:
    """Raises RestError (PGRST100) naming what is not of the grammar."""
    query = Query()
    for key, value in parameters:
        if key == "select":
            query.select = parse_select(value)
        elif key == "columns":
            query.columns = tuple(_names(value))
        elif key == "on_conflict":
            query.on_conflict = tuple(_names(value))
        elif key != "apikey":
            _add_to_level(query, key, value)
    return query


def parse_select(text: str) -> tuple[Item, ...]:
    """The items of a `select`, nested. Raises RestError."""
    return tuple(_parse_item(part) for part in split(text) if part)


def parse_operation(target: Field, text: str) -> Filter:
    """`[not.]operator[(argument)].value`. Raises RestError."""
    negated = text.startswith("not.")
    match = OPERATION.fullmatch(text[4:] if negated else text)
    if match is None or not _is_operator(match["name"], match["argument"]):
        raise bad_query(f'unexpected "{text[:1]}" expecting "not" or operator (eq, gt, ...)', _failed("filter", text))
    if match["name"] == "is" and match["value"].lower() not in IS_VALUES:
        raise bad_query("expecting null, not_null, true, false or unknown", _failed("filter", text))
    return Filter(target, match["name"], match["value"], negated, match["argument"])


def parse_list(text: str) -> list[str]:
    """The values of `(a,"b,c",d)`. Raises RestError."""
    if not (text.startswith("(") and text.endswith(")")):
        raise bad_query('expecting "("', _failed("filter", text))
    inside = text[1:-1]
    return [unquote(part) for part in split(inside)] if inside else []


def split(text: str, separator: str = ",") -> list[str]:
    """Split where the separator is outside of quotes, parentheses and braces. Raises RestError if they do not close."""
    parts, depth, quoted, start = [], 0, False, 0
    characters = iter(enumerate(text))
    for place, character in characters:
        if quoted and character == "\\":
            next(characters, None)
        elif character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character in "({":
            depth += 1
        elif character in ")}":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    if quoted or depth != 0:
        raise bad_query("quotes and parentheses must close", _failed("expression", text))
    return [*parts, text[start:]]


def unquote(text: str) -> str:
    """The text without its double quotes, if it has them; a backslash inside keeps the next character."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text


def _add_to_level(query: Query, key: str, value: str) -> None:
    before, arrow, after = key.partition("->")
    *path, last = split(before, ".")
    last += arrow + after
    negated = bool(path) and path[-1] == "not" and last in ("and", "or")
    names = tuple(unquote(name) for name in (path[:-1] if negated else path))
    level = query.level(names)
    if last in ("and", "or"):
        level.where.append(_parse_group("and" if last == "and" else "or", value, negated=negated))
    elif last == "order":
        level.order = [_parse_order(part) for part in split(value) if part]
    elif last == "limit":
        level.limit = _parse_number(last, value)
    elif last == "offset":
        level.offset = _parse_number(last, value)
    else:
        level.where.append(parse_operation(_parse_field(last), value))


def _parse_number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise bad_query(f"{name} must be a number that is not negative", _failed(name, value))
    return int(value)


def _parse_group(operator: Literal["and", "or"], text: str, *, negated: bool) -> Group:
    if not (text.startswith("(") and text.endswith(")")):
        raise bad_query('expecting "("', _failed("logic tree", text))
    return Group(operator, tuple(_parse_condition(part) for part in split(text[1:-1])), negated)


def _parse_condition(text: str) -> Condition:
    match = re.fullmatch(r"(not\.)?(and|or)(\(.*\))", text.strip(), re.DOTALL)
    if match is not None:
        return _parse_group("and" if match[2] == "and" else "or", match[3], negated=match[1] is not None)
    name, dot, operation = _partition(text.strip())
    if not dot:
        raise bad_query("expecting logic operator (and, or) or a filter", _failed("logic tree", text))
    return parse_operation(_parse_field(name), operation)


def _partition(text: str) -> tuple[str, str, str]:
    """At the first dot outside of quotes."""
    first = split(text, ".")[0]
    return first, text[len(first) : len(first) + 1], text[len(first) + 1 :]


def _parse_field(text: str) -> Field:
    name, *steps = re.split(r"(->>|->)", text)
    if not name or any(not key for key in steps):
        raise bad_query("expecting a field name", _failed("field", text))
    return Field(unquote(name), tuple((arrow, unquote(key)) for arrow, key in _pairs(steps)))


def _pairs(steps: list[str]) -> Iterator[tuple[str, str]]:
    return zip(steps[::2], steps[1::2], strict=True)


def _parse_order(text: str) -> Order:
    suffix = ORDER_SUFFIX.search(text)
    direction, nulls = (suffix[1], suffix[2]) if suffix is not None else (None, None)
    target = text[: suffix.start()] if suffix is not None else text
    related = re.fullmatch(r"([^()]+)\(([^()]+)\)", target)
    where = _parse_field(related[2] if related is not None else target)
    if related is None and len(split(target.split("->", 1)[0], ".")) > 1:
        raise bad_query("expecting asc, desc, nullsfirst or nullslast", _failed("order", text))
    return Order(where, direction == "desc", nulls, unquote(related[1]) if related is not None else None)


def _parse_item(text: str) -> Item:
    text = text.strip()
    alias, body = _split_alias(text)
    if body in ("count()", "count"):
        # Which of the two a bare `count` means is only known once the table is: see rest_select.
        return Counted(alias or "count") if body == "count()" else Chosen(Field("count"), alias)
    if body.endswith(")") and "(" in body and "::" not in body.split("(", 1)[0]:
        return _parse_embed(alias, body)
    column, _, cast = body.partition("::")
    if cast and CAST.fullmatch(cast) is None:
        raise bad_query(f"unknown type {cast}", _failed("select parameter", text))
    return Chosen(_parse_field(column), alias, cast or None)


def _split_alias(text: str) -> tuple[str | None, str]:
    match = re.match(r'("(?:[^"\\]|\\.)*"|[^:"(]+):(?!:)', text)
    return (unquote(match[1]), text[match.end() :]) if match is not None else (None, text)


def _parse_embed(alias: str | None, body: str) -> Embed:
    head, inside = body.split("(", 1)
    spread = head.startswith("...")
    name, *modifiers = (head[3:] if spread else head).split("!")
    hints = [one for one in modifiers if one not in ("inner", "left")]
    if not name or len(hints) > 1:
        raise bad_query("expecting a relation", _failed("select parameter", body))
    return Embed(
        unquote(name), alias, hints[0] if hints else None, "inner" in modifiers, spread, parse_select(inside[:-1])
    )


def _is_operator(name: str, argument: str | None) -> bool:
    if argument is None:
        return name in COMPARISONS or name in TEXT_SEARCHES or name in ("is", "in")
    return name in TEXT_SEARCHES or (name in QUANTIFIABLE and argument in ("any", "all"))


def _names(text: str) -> list[str]:
    return [unquote(name.strip()) for name in split(text) if name.strip()]


def _failed(what: str, text: str) -> str:
    return f'"failed to parse {what} ({text})" (line 1, column 1)'

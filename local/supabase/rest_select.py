"""SQL that reads: a parsed query, against the catalogue, as one statement whose values are all parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local.supabase.rest_errors import RestError, bad_query
from local.supabase.rest_query import (
    COMPARISONS,
    TEXT_SEARCHES,
    Chosen,
    Condition,
    Counted,
    Embed,
    Field,
    Filter,
    Item,
    Level,
    Order,
    Query,
    parse_list,
)
from local.supabase.rest_relations import Join, find_join
from local.supabase.rest_schema import JSON_TYPES, Catalogue, Table


def quote(identifier: str) -> str:
    """An SQL identifier, whatever it holds but NUL. Raises RestError for that."""
    if "\0" in identifier:
        raise bad_query("a name cannot hold a NUL")
    return '"' + identifier.replace('"', '""') + '"'


def qualified(table: Table) -> str:
    """The table's full name."""
    return f"{quote(table.schema)}.{quote(table.name)}"


@dataclass
class Parameters:
    """The values of one statement, in the order of their `$n`."""

    values: list[Any] = field(default_factory=list)

    def bind(self, value: Any) -> str:
        """The placeholder that now stands for `value`; Postgres infers its type from where it stands."""
        self.values.append(value)
        return f"${len(self.values)}"


@dataclass
class Joined:
    """One embedded relation as it stands in a FROM: `alias`.e is its JSON (or its columns), `alias`.n its row count."""

    embed: Embed
    table: Table
    alias: str
    sql: str


class Reader:
    """Writes the SELECT for one request."""

    def __init__(self, catalogue: Catalogue, query: Query, parameters: Parameters, max_rows: int) -> None:
        self._catalogue = catalogue
        self._query = query
        self._parameters = parameters
        self._max_rows = max_rows
        self._aliases = 0

    def rows(self, table: Table, source: str, *, window: bool = True) -> str:
        """The rows of the answer, from `source` (an SQL name with the table's columns). Raises RestError.

        Without `window`, neither order nor limit: for what an INSERT, UPDATE or DELETE returns.
        """
        return self._select(table, source, self._query.select, (), Level() if not window else None, is_root=window)

    def count(self, table: Table, source: str) -> str:
        """How many rows there are without limit and offset. Raises RestError."""
        level = self._query.level()
        joined = self._joins(table, quote(table.name), self._deciding(level), ())
        where = self._where(table, quote(table.name), level.where, joined)
        return f"select count(*) from {source} as {quote(table.name)}{_sql_of(joined)}{where}"  # noqa: S608 names are quoted, values are parameters

    def _deciding(self, level: Level) -> tuple[Item, ...]:
        """The embedded relations that decide which rows there are."""
        embeds = [item for item in self._query.select if isinstance(item, Embed)]
        return tuple(one for one in embeds if one.inner or _mentions(level.where, one.key))

    def where(self, table: Table) -> str:
        """The conditions on the table itself, for UPDATE and DELETE; '' when there are none. Raises RestError."""
        return self._where(table, quote(table.name), self._query.level().where, [])

    def needed_columns(self, table: Table) -> str:
        """What a written row must return for `rows` to be made of it: named, so that column grants suffice."""
        names = {name for item in self._query.select for name in self._needed(table, item)}
        if "*" in names or not names:
            return f"{quote(table.name)}.*"
        return ", ".join(f"{quote(table.name)}.{quote(name)}" for name in sorted(names))

    def _needed(self, table: Table, item: Item) -> list[str]:
        if isinstance(item, Embed):
            return list(find_join(self._catalogue, table, item).columns)
        return [item.field.name] if isinstance(item, Chosen) and item.field.name in table.columns else ["*"]

    def _select(
        self,
        table: Table,
        source: str,
        items: tuple[Item, ...],
        path: tuple[str, ...],
        level: Level | None,
        *,
        is_root: bool,
        on: str = "",
        name: str | None = None,
    ) -> str:
        level = level or self._query.level(path)
        alias = quote(name or table.name)
        joined = self._joins(table, alias, items, path)
        chosen = ", ".join(self._columns(table, alias, items, joined)) or "1 as present"
        where = self._where(table, alias, level.where, joined, on)
        order = self._order(table, alias, level.order, joined)
        window = self._window(level, is_root)
        return f"select {chosen} from {source} as {alias}{_sql_of(joined)}{where}{order}{window}"  # noqa: S608 names are quoted, values are parameters

    def _window(self, level: Level, is_root: bool) -> str:
        limit = level.limit
        if is_root:
            limit = self._max_rows if limit is None else min(limit, self._max_rows)
        limited = f" limit {limit}" if limit is not None else ""
        return limited + (f" offset {level.offset}" if level.offset else "")

    def _columns(self, table: Table, alias: str, items: tuple[Item, ...], joined: list[Joined]) -> Iterator[str]:
        for item in items:
            if isinstance(item, Counted):
                yield f"count(*) as {quote(item.alias)}"
            elif isinstance(item, Embed):
                yield from self._embedded(next(one for one in joined if one.embed is item))
            elif item.field.name == "count" and "count" not in table.columns:
                yield f"count(*) as {quote(item.alias or 'count')}"
            else:
                yield self._column(table, alias, item)

    def _column(self, table: Table, alias: str, item: Chosen) -> str:
        if item.field == Field("*"):
            return f"{alias}.*"
        sql = self.field(table, alias, item.field)
        sql = f"cast({sql} as {item.cast})" if item.cast else sql
        return f"{sql} as {quote(item.alias or _label(item.field))}"

    def _embedded(self, joined: Joined) -> Iterator[str]:
        if not joined.embed.items:
            return
        if not joined.embed.spread:
            yield f"{joined.alias}.e as {quote(joined.embed.key)}"
            return
        for item in joined.embed.items:
            for name in _output_names(joined.table, item):
                yield f"{joined.alias}.{quote(name)}"

    def _joins(self, table: Table, alias: str, items: tuple[Item, ...], path: tuple[str, ...]) -> list[Joined]:
        return [self._join(table, alias, item, path) for item in items if isinstance(item, Embed)]

    def _join(self, table: Table, parent: str, embed: Embed, path: tuple[str, ...]) -> Joined:
        join = find_join(self._catalogue, table, embed)
        self._aliases += 1
        name = f"{join.target.name}_{self._aliases}"
        level = self._query.level((*path, embed.key))
        on = join.condition(parent, quote(name))
        if join.junction is not None:
            on += f" and exists (select from {join.junction_sql(parent, quote(name))})"
        rows = self._select(
            join.target, qualified(join.target), embed.items, (*path, embed.key), level, is_root=False, on=on, name=name
        )
        alias = quote(f"embedded_{self._aliases}")
        kind = "inner" if embed.inner else "left"
        return Joined(
            embed, join.target, alias, f" {kind} join lateral ({_shape(join, embed, rows)}) as {alias} on true"
        )

    def _where(self, table: Table, alias: str, conditions: list[Condition], joined: list[Joined], on: str = "") -> str:
        written = [self._condition(table, alias, condition, joined) for condition in conditions]
        written = [on, *written] if on else written
        return f" where {' and '.join(written)}" if written else ""

    def _condition(self, table: Table, alias: str, condition: Condition, joined: list[Joined]) -> str:
        if isinstance(condition, Filter):
            return self._filter(table, alias, condition, joined)
        inner = f" {condition.operator} ".join(self._condition(table, alias, one, joined) for one in condition.members)
        return f"{'not ' if condition.negated else ''}({inner})"

    def _filter(self, table: Table, alias: str, one: Filter, joined: list[Joined]) -> str:
        embedded = next((join for join in joined if join.embed.key == one.field.name), None)
        if embedded is not None and one.operator == "is":
            return f"{'not ' if one.negated else ''}coalesce({embedded.alias}.n, 0) = 0"
        target = self.field(table, alias, one.field)
        sql = self._comparison(table, target, one)
        return f"not ({sql})" if one.negated else sql

    def _comparison(self, table: Table, target: str, one: Filter) -> str:
        bind = self._parameters.bind
        if one.operator == "is":
            return f"{target} is {one.value.lower().replace('_', ' ')}"
        if one.operator == "in":
            return f"{target} = any({bind(array_literal(parse_list(one.value)))})"
        if one.operator in TEXT_SEARCHES:
            return self._text_search(table, target, one)
        value = one.value.replace("*", "%") if one.operator in ("like", "ilike") else one.value
        placeholder = f"{one.argument}({bind(value)})" if one.argument else bind(value)
        return f"{target} {COMPARISONS[one.operator]} {placeholder}"

    def _text_search(self, table: Table, target: str, one: Filter) -> str:
        language = f"{self._parameters.bind(one.argument)}::regconfig, " if one.argument else ""
        if one.field.path or table.column(one.field.name).type != "tsvector":
            target = f"to_tsvector({language}{target})"
        return f"{target} @@ {TEXT_SEARCHES[one.operator]}({language}{self._parameters.bind(one.value)})"

    def _order(self, table: Table, alias: str, terms: list[Order], joined: list[Joined]) -> str:
        written = [self._order_term(table, alias, term, joined) for term in terms]
        return f" order by {', '.join(written)}" if written else ""

    def _order_term(self, table: Table, alias: str, term: Order, joined: list[Joined]) -> str:
        target = self._related(term, joined) if term.relation else self.field(table, alias, term.field)
        nulls = {"nullsfirst": " nulls first", "nullslast": " nulls last", None: ""}[term.nulls]
        return f"{target}{' desc' if term.descending else ''}{nulls}"

    def _related(self, term: Order, joined: list[Joined]) -> str:
        """By an embedded row's column: it is looked up in the row's JSON, so the embedding must return it."""
        for one in joined:
            if one.embed.key == term.relation:
                one.table.column(term.field.name)
                return f"({one.alias}.e ->> {self._parameters.bind(term.field.name)}::text)"
        message = f"'{term.relation}' is not an embedded resource in this request"
        raise RestError(
            400, "PGRST108", message, hint=f"Verify that '{term.relation}' is included in the 'select' query"
        )

    def field(self, table: Table, alias: str, wanted: Field) -> str:
        """A column, or a place in one. Raises SchemaMissError when the table has no such column."""
        sql = f"{alias}.{quote(wanted.name)}"
        if self._catalogue.is_computed(table, wanted.name):
            return sql
        column = table.column(wanted.name)
        if not wanted.path:
            return sql
        start = sql if column.type in JSON_TYPES else f"to_jsonb({sql})"
        return "(" + start + "".join(f"{arrow}{self._step(key)}" for arrow, key in wanted.path) + ")"

    def _step(self, key: str) -> str:
        if key.lstrip("-").isdecimal():
            return f"{self._parameters.bind(key)}::int"
        return f"{self._parameters.bind(key)}::text"


def array_literal(values: list[str]) -> str:
    """A Postgres array in its text form; as a parameter of unknown type it takes the type of what it is compared to."""
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"


def _shape(join: Join, embed: Embed, rows: str) -> str:
    if embed.spread:
        if join.many:
            raise RestError(400, "PGRST119", f"A spread operation on '{embed.key}' is not possible: it has many rows")
        return f"select e.*, 1 as n from ({rows}) as e"  # noqa: S608 names are quoted, values are parameters
    if not join.many:
        return f"select row_to_json(e) as e, 1 as n from ({rows}) as e"  # noqa: S608 names are quoted, values are parameters
    only_some = " having count(*) > 0" if embed.inner else ""
    return f"select coalesce(json_agg(e), '[]') as e, count(*) as n from ({rows}) as e{only_some}"  # noqa: S608 names are quoted, values are parameters


def _sql_of(joined: list[Joined]) -> str:
    return "".join(one.sql for one in joined)


def _output_names(table: Table, item: Item) -> list[str]:
    if isinstance(item, Embed):
        return [item.key]
    if isinstance(item, Counted):
        return [item.alias]
    return list(table.columns) if item.field.name == "*" else [item.alias or _label(item.field)]


def _label(wanted: Field) -> str:
    names = [key for _, key in wanted.path if not key.lstrip("-").isdecimal()]
    return names[-1] if names else wanted.name


def _mentions(conditions: list[Condition] | tuple[Condition, ...], key: str) -> bool:
    return any(one.field.name == key if isinstance(one, Filter) else _mentions(one.members, key) for one in conditions)

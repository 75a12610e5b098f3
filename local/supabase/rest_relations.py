"""Relationships between tables, found from foreign keys, for embedding one table's rows in another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from local.supabase.rest_errors import RestError, SchemaMissError
from local.supabase.rest_query import Embed
from local.supabase.rest_schema import Catalogue, ForeignKey, Table


@dataclass(frozen=True)
class Junction:
    """The table in the middle of a many-to-many: its key to the parent and its key to the target."""

    to_parent: ForeignKey
    to_target: ForeignKey


@dataclass(frozen=True)
class Join:
    """How `target`'s rows belong to a parent's: parent.columns = target.target_columns, or by way of a junction."""

    name: str
    target: Table
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]
    many: bool
    junction: Junction | None = None

    def condition(self, parent: str, alias: str) -> str:
        """The SQL that ties the two; the names are quoted already. TRUE when a junction ties them."""
        if self.junction is not None:
            return "true"
        return _equal(parent, self.columns, alias, self.target_columns)

    def junction_sql(self, parent: str, alias: str) -> str:
        """The junction's rows for this pair, as what follows FROM."""
        if self.junction is None:
            return ""
        first, second = self.junction.to_parent, self.junction.to_target
        here = _equal(parent, tuple(first.target_columns), '"junction"', tuple(first.columns))
        there = _equal(alias, tuple(second.target_columns), '"junction"', tuple(second.columns))
        return f'{_quote(first.schema)}.{_quote(first.table)} as "junction" where {here} and {there}'


def find_join(catalogue: Catalogue, parent: Table, embed: Embed) -> Join:
    """The one relationship that `embed` means. Raises SchemaMissError (PGRST200) or RestError (PGRST201, 300)."""
    found = [join for join in _candidates(catalogue, parent, embed.name) if _fits_hint(join, embed.hint)]
    if not found:
        raise _no_relationship(parent, embed)
    direct = [join for join in found if join.junction is None]
    if len(direct or found) > 1:
        raise _ambiguous(parent, embed, direct or found)
    return (direct or found)[0]


def _candidates(catalogue: Catalogue, parent: Table, name: str) -> Iterator[Join]:
    keys = catalogue.foreign_keys
    for key in keys:
        if _is(key.schema, key.table, parent) and name in (key.target, key.name, *_single(key.columns)):
            target = catalogue.table(key.target_schema, key.target)
            # A table that refers to itself is named as the many; its one is named by the column or the key.
            if not (key.target == key.table == name):
                yield Join(key.name, target, tuple(key.columns), tuple(key.target_columns), many=False)
        if _is(key.target_schema, key.target, parent) and name in (key.table, key.name):
            source = catalogue.table(key.schema, key.table)
            if key.table != key.target or name == key.table:
                yield Join(key.name, source, tuple(key.target_columns), tuple(key.columns), many=not key.unique)
    yield from _through_junctions(catalogue, parent, name)


def _through_junctions(catalogue: Catalogue, parent: Table, name: str) -> Iterator[Join]:
    keys = catalogue.foreign_keys
    for first in (key for key in keys if _is(key.target_schema, key.target, parent)):
        for second in keys:
            same = (second.schema, second.table) == (first.schema, first.table) and second.name != first.name
            if same and second.target == name and _joins_only(catalogue, first, second):
                target = catalogue.table(second.target_schema, second.target)
                yield Join(first.table, target, tuple(first.target_columns), (), True, Junction(first, second))


def _joins_only(catalogue: Catalogue, first: ForeignKey, second: ForeignKey) -> bool:
    """PostgREST's rule for a junction: both keys are part of its primary key."""
    primary = catalogue.table(first.schema, first.table).primary_key
    return bool(primary) and {*first.columns, *second.columns} <= set(primary)


def _fits_hint(join: Join, hint: str | None) -> bool:
    return hint is None or hint in (join.name, join.target.name, *_single(join.columns), *_single(join.target_columns))


def _is(schema: str, name: str, table: Table) -> bool:
    return (schema, name) == (table.schema, table.name)


def _single(columns: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(columns) if len(columns) == 1 else ()


def _equal(left: str, left_columns: tuple[str, ...], right: str, right_columns: tuple[str, ...]) -> str:
    pairs = zip(left_columns, right_columns, strict=True)
    return " and ".join(f"{left}.{_quote(one)} = {right}.{_quote(other)}" for one, other in pairs)


def _quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _no_relationship(parent: Table, embed: Embed) -> SchemaMissError:
    message = f"Could not find a relationship between '{parent.name}' and '{embed.name}' in the schema cache"
    using = f" using the hint '{embed.hint}'" if embed.hint else ""
    details = (
        f"Searched for a foreign key relationship between '{parent.name}' and '{embed.name}'{using} "
        f"in the schema '{parent.schema}', but no matches were found."
    )
    return SchemaMissError(400, "PGRST200", message, details)


def _ambiguous(parent: Table, embed: Embed, found: list[Join]) -> RestError:
    message = f"Could not embed because more than one relationship was found for '{parent.name}' and '{embed.name}'"
    choices = ", ".join(f"'{embed.name}!{join.name}'" for join in found)
    hint = f"Try changing '{embed.name}' to one of the following: {choices}."
    return RestError(300, "PGRST201", message, ", ".join(join.name for join in found), hint)

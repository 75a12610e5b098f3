"""Asks Postgres about rows read from the log: their values as JSON, which filters they pass, and who may see them.

The rules are those of hosted Supabase's `realtime.apply_rls`: an inserted or updated row is for whoever can select it
now, under their role and claims; a deleted one cannot be asked for, so under RLS everybody gets its primary key alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from local.supabase.pool import Connection, Pool
from local.supabase.realtime_authorize import Identity
from local.supabase.realtime_filter import PATTERNS, Condition, FilterError
from local.supabase.realtime_pgoutput import UNCHANGED, Change, Kind, Value

log = logging.getLogger(__name__)
Conditions = tuple[Condition, ...]

VISIBLE_SECONDS = 10.0

COLUMNS = """
select a.attname as name, t.typname as type, format_type(a.atttypid, a.atttypmod) as cast,
  coalesce(a.attnum = any (i.indkey), false) as is_key, c.relrowsecurity as rls
from pg_attribute a
  join pg_class c on c.oid = a.attrelid
  join pg_type t on t.oid = a.atttypid
  left join pg_index i on i.indrelid = c.oid and i.indisprimary
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
SELECTABLE = """
select a.attname from pg_attribute a
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
  and has_schema_privilege($2, (select relnamespace from pg_class where oid = $1), 'usage')
  and has_column_privilege($2, a.attrelid, a.attnum, 'select')
"""


@dataclass(frozen=True)
class Column:
    """A column as the catalogue has it: `type` as clients are told, `cast` as SQL writes it."""

    name: str
    type: str
    cast: str
    is_key: bool
    rls: bool


@dataclass(frozen=True)
class Row:
    """One change with its values as JSON. `old` is empty for an insert, `new` is empty for a delete."""

    kind: Kind
    new: dict[str, Any]
    old: dict[str, Any]


@dataclass(frozen=True)
class Sight:
    """What one caller may know: the columns, and the rows by their index."""

    columns: frozenset[str] = frozenset()
    rows: Collection[int] = ()


@dataclass(frozen=True)
class Batch:
    """Changes of one table and kind, and the answers about them. Rows are named by their index."""

    columns: tuple[Column, ...]
    rows: list[Row]
    passing: Mapping[Conditions, Collection[int]]
    sights: Mapping[Identity, Sight]


class Rows:
    """Evaluates batches of changes, each in one transaction that is rolled back."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def evaluate(
        self, xid: int, changes: Sequence[Change], filters: Collection[Conditions], callers: Collection[Identity]
    ) -> Batch:
        """Answer for changes of one table and kind in transaction `xid`. Raises psycopg.Error, TimeoutError."""
        relation, kind = changes[0].relation, changes[0].kind
        async with self._pool.connection() as connection, connection.transaction(force_rollback=True):
            await until_visible(connection, xid)
            columns = await _columns(connection, relation.oid)
            known = [column for column in columns if column.name in relation.columns]
            table = _Table(connection, sql.Identifier(relation.schema, relation.table), known)
            values = await table.complete([change.new or change.old or {} for change in changes])
            documents = await table.read(values)
            passing = await table.passing(values, [conditions for conditions in filters if conditions])
            old = await _old(table, changes, documents, kind)
            sights = {caller: await table.sight(relation.oid, values, kind, caller) for caller in callers}
        empty: dict[str, Any] = {}
        rows = [
            Row(kind, empty if kind is Kind.DELETE else new, before) for new, before in zip(documents, old, strict=True)
        ]
        return Batch(tuple(columns), rows, passing | {(): range(len(rows))}, sights)

    async def check(self, schema: str, table: str | None, conditions: Conditions, caller: Identity) -> None:
        """That a subscription can ever match. Raises FilterError with what to tell the client, or psycopg.Error."""
        async with self._pool.connection() as connection, connection.transaction(force_rollback=True):
            oids = await _published(connection, schema, table)
            if not oids:
                raise FilterError("Please check Realtime is enabled for the given connect parameters")
            if not await _is_granted(connection, caller.role):
                raise FilterError(f'role "{caller.role}" is not granted to authenticator')
            if conditions:
                await _check_conditions(connection, oids[0], conditions, caller)


class _Table:
    """The questions about rows of one table, given as text values by column."""

    def __init__(self, connection: Connection, name: sql.Identifier, columns: Sequence[Column]) -> None:
        self._connection = connection
        self._name = name
        self._columns = columns
        self.keys = [column for column in columns if column.is_key]
        self.rls = any(column.rls for column in columns)

    async def complete(self, values: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
        """The rows with what the log left out because it had not changed, read from the table."""
        if not self.keys or not any(UNCHANGED in row.values() for row in values):
            return [{name: None if value is UNCHANGED else value for name, value in row.items()} for row in values]
        names = [column.name for column in self._columns]
        texts = sql.SQL(", ").join(sql.SQL("x.{}::text").format(sql.Identifier(name)) for name in names)
        query = sql.SQL("select u.__i, {} from {}").format(texts, self._join(values))
        rows = await (await self._connection.execute(query)).fetchall()
        stored = {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}
        return [
            {name: stored.get(i, {}).get(name) if value is UNCHANGED else value for name, value in row.items()}
            for i, row in enumerate(values)
        ]

    async def read(self, values: Sequence[Mapping[str, Value]]) -> list[dict[str, Any]]:
        """Each row as JSON values by column."""
        query = sql.SQL("select to_jsonb(r)::text from ({}) as r").format(_typed(values, self._present(values)))
        rows = await (await self._connection.execute(query)).fetchall()
        return [json.loads(text, parse_float=_number) for (text,) in rows]

    async def passing(
        self, values: Sequence[Mapping[str, Value]], filters: Sequence[Conditions]
    ) -> dict[Conditions, Collection[int]]:
        """The rows that pass each filter. One that fails passes none, and fails alone."""
        try:
            async with self._connection.transaction(force_rollback=True):
                return await self._passing(values, filters)
        except psycopg.Error as error:
            if len(filters) == 1:
                log.warning("a filter failed, the changes are withheld: %s", error)
                return {filters[0]: ()}
        found = [await self.passing(values, [conditions]) for conditions in filters]
        return {conditions: rows for one in found for conditions, rows in one.items()}

    async def _passing(
        self, values: Sequence[Mapping[str, Value]], filters: Sequence[Conditions]
    ) -> dict[Conditions, Collection[int]]:
        present = self._present(values)
        tests = sql.SQL(", ").join(self._test(conditions, present) for conditions in filters)
        query = sql.SQL("select array[{}]::boolean[] from ({}) as r").format(tests, _typed(values, present))
        rows = await (await self._connection.execute(query)).fetchall() if filters else []
        return {
            conditions: {i for i, (passed,) in enumerate(rows) if passed[at]} for at, conditions in enumerate(filters)
        }

    async def sight(self, oid: int, values: Sequence[Mapping[str, Value]], kind: Kind, caller: Identity) -> Sight:
        """What the caller may know of these rows. A policy that fails shows nothing, and fails alone."""
        try:
            async with self._connection.transaction(force_rollback=True):
                columns = await _selectable(self._connection, oid, caller)
                return Sight(columns, await self._visible(values, kind, caller, columns))
        except psycopg.Error as error:
            log.warning("the policies failed for %s, the changes are withheld: %s", caller.role, error)
            return Sight()

    async def _visible(
        self, values: Sequence[Mapping[str, Value]], kind: Kind, caller: Identity, columns: frozenset[str]
    ) -> Collection[int]:
        if not columns:
            return ()
        if kind is Kind.DELETE or not self.rls:
            return range(len(values))
        if not self.keys or not all(column.name in columns for column in self.keys):
            log.warning("no primary key that role %s may select: changes under RLS are not delivered", caller.role)
            return ()
        await _act_as(self._connection, caller)
        query = sql.SQL("select u.__i from {}").format(self._join(values))
        return {row[0] for row in await (await self._connection.execute(query)).fetchall()}

    def _present(self, values: Sequence[Mapping[str, Value]]) -> list[Column]:
        return [column for column in self._columns if column.name in values[0]]

    def _join(self, values: Sequence[Mapping[str, Value]]) -> sql.Composable:
        """The rows' indices `u.__i` joined with the table `x` by primary key."""
        keys = _typed([{key.name: row[key.name] for key in self.keys} for row in values], self.keys)
        on = [sql.SQL("x.{0} = u.{0}").format(sql.Identifier(key.name)) for key in self.keys]
        numbered = sql.SQL("(select (row_number() over ())::int - 1 as __i, k.* from ({}) as k) as u").format(keys)
        return sql.SQL("{} join {} as x on {}").format(numbered, self._name, sql.SQL(" and ").join(on))

    def _test(self, conditions: Conditions, present: Sequence[Column]) -> sql.Composable:
        casts = {column.name: column.cast for column in present}
        if not all(condition.column in casts for condition in conditions):
            return sql.SQL("false")
        tests = [
            condition.expression(sql.Identifier("r", condition.column), sql.SQL(casts[condition.column]))
            for condition in conditions
        ]
        return sql.SQL("coalesce({}, false)").format(sql.SQL(" and ").join(tests))


def _typed(values: Sequence[Mapping[str, Value]], columns: Sequence[Column]) -> sql.Composable:
    """A query that gives the rows, in order, with the columns' types; the values travel as arrays of text."""
    names = [sql.Identifier(f"c{at}") for at in range(len(columns))]
    outputs = [
        sql.SQL("u.{}::{} as {}").format(name, sql.SQL(column.cast), sql.Identifier(column.name))
        for name, column in zip(names, columns, strict=True)
    ]
    arrays = [sql.SQL("{}::text[]").format(sql.Literal([row.get(column.name) for row in values])) for column in columns]
    return sql.SQL("select {} from unnest({}) with ordinality as u({}, i) order by u.i").format(
        sql.SQL(", ").join(outputs), sql.SQL(", ").join(arrays), sql.SQL(", ").join(names)
    )


async def _old(
    table: _Table, changes: Sequence[Change], documents: list[dict[str, Any]], kind: Kind
) -> list[dict[str, Any]]:
    """What clients get as `old_record`: the replica identity, and where RLS is on no more than the primary key."""
    if kind is Kind.INSERT:
        return [{} for _ in changes]
    keys = {column.name for column in table.keys}
    if kind is Kind.DELETE:
        return [_only(document, keys) if table.rls else document for document in documents]
    before = await _before(table, [change.old or {} for change in changes])
    old = [known or _only(new, keys) for known, new in zip(before, documents, strict=True)]
    return [_only(document, keys) for document in old] if table.rls else old


async def _before(table: _Table, values: Sequence[dict[str, Value]]) -> list[dict[str, Any]]:
    """The replica identities that the log kept, as JSON values; empty where a key did not change."""
    before: list[dict[str, Any]] = [{} for _ in values]
    for names in {tuple(row) for row in values if row}:
        at = [i for i, row in enumerate(values) if tuple(row) == names]
        documents = await table.read(await table.complete([values[i] for i in at]))
        for i, document in zip(at, documents, strict=True):
            before[i] = document
    return before


def _number(digits: str) -> float | str:
    """A float where it fits; numeric can hold what no JSON parser of the SDKs would read."""
    return digits if math.isinf(number := float(digits)) else number


def _only(document: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name in names}


async def until_visible(connection: Connection, xid: int) -> None:
    """Wait until others see the transaction. Its commit is in the log, and read from there, a moment before that."""
    async with asyncio.timeout(VISIBLE_SECONDS):
        while True:
            row = await (await connection.execute("select pg_current_snapshot()::text")).fetchone()
            if row is not None and is_visible(xid, row[0]):
                return
            await asyncio.sleep(0.001)


def is_visible(xid: int, snapshot: str) -> bool:
    """Whether a pg_snapshot (`xmin:xmax:running,…`, 64 bits) shows what the transaction `xid` (32 bits) committed."""
    _, ceiling, running = snapshot.split(":")
    started = (xid - int(ceiling)) % 2**32 >= 2**31
    return started and all(int(other) % 2**32 != xid for other in running.split(",") if other)


async def _columns(connection: Connection, oid: int) -> list[Column]:
    cursor = await connection.execute(COLUMNS, (oid,))
    return [Column(*row) for row in await cursor.fetchall()]


async def _selectable(connection: Connection, oid: int, caller: Identity) -> frozenset[str]:
    cursor = await connection.execute(SELECTABLE, (oid, caller.role))
    return frozenset(row[0] for row in await cursor.fetchall())


async def _published(connection: Connection, schema: str, table: str | None) -> list[int]:
    query = """
      select format('%I.%I', schemaname, tablename)::regclass::oid from pg_publication_tables
      where pubname = 'supabase_realtime' and $1 in ('*', schemaname::text) and $2 in ('*', tablename::text)
    """
    return [row[0] for row in await (await connection.execute(query, (schema, table or "*"))).fetchall()]


async def _is_granted(connection: Connection, role: str) -> bool:
    query = "select pg_has_role('authenticator', oid, 'member') from pg_roles where rolname = $1"
    return await (await connection.execute(query, (role,))).fetchone() == (True,)


async def _check_conditions(
    connection: Connection, oid: int, conditions: Iterable[Condition], caller: Identity
) -> None:
    columns = {column.name: column for column in await _columns(connection, oid)}
    selectable = await _selectable(connection, oid, caller)
    for condition in conditions:
        if condition.column not in selectable:
            raise FilterError(f"invalid column for filter {condition.column}")
        kind = sql.SQL(columns[condition.column].cast)
        # A pattern is compiled only when there is a text to match.
        column = sql.SQL("''") if condition.operator in PATTERNS else sql.SQL("null::{}").format(kind)
        try:
            async with connection.transaction(force_rollback=True):
                await connection.execute(sql.SQL("select {}").format(condition.expression(column, kind)))
        except (psycopg.DataError, psycopg.ProgrammingError) as error:
            raise FilterError(f"invalid filter on {condition.column}: {error.diag.message_primary or error}") from error


async def _act_as(connection: Connection, caller: Identity) -> None:
    query = "select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)"
    await connection.execute(query, (caller.claims_json, caller.role))

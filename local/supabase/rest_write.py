"""SQL that writes: INSERT, upsert, UPDATE and DELETE, each one statement whose values come as one JSON parameter."""

from __future__ import annotations

from typing import Any

from local.supabase.rest_errors import RestError, SchemaMissError, bad_body
from local.supabase.rest_query import Query
from local.supabase.rest_request import RestRequest
from local.supabase.rest_run import ANSWER, Plan
from local.supabase.rest_schema import Catalogue, Column, Table
from local.supabase.rest_select import Parameters, Reader, qualified, quote


class Writer:
    """Writes the statement for one POST, PATCH or DELETE."""

    def __init__(self, catalogue: Catalogue, table: Table, query: Query, request: RestRequest, max_rows: int) -> None:
        self._table = table
        self._query = query
        self._request = request
        self._parameters = Parameters()
        self._reader = Reader(catalogue, query, self._parameters, max_rows)

    def insert(self) -> Plan:
        """Raises RestError for a body that is no row, or names no column."""
        payload = self._request.json
        columns = self._columns(payload)
        listed = ", ".join(quote(column.name) for column in columns)
        if columns:
            values = f"({listed}) select {listed} from {self._records(payload, columns)}"  # noqa: S608 names are quoted
        elif payload == []:
            return self._empty()
        else:
            values = "default values"
        return self._plan(f"insert into {qualified(self._table)} {values}{self._on_conflict(columns)}")

    def update(self) -> Plan:
        """Raises RestError, also when there is no condition: hosted Supabase refuses that (pg-safeupdate)."""
        where = self._required_where("UPDATE")
        payload = self._request.json
        if isinstance(payload, list):
            raise bad_body("PATCH takes one object")
        columns = self._columns(payload)
        if not columns:
            return self._empty()
        body = f"json_to_record({self._bind_body()}::json) as pgrst_body({_definitions(columns)})"
        assigned = ", ".join(f"{quote(column.name)} = pgrst_body.{quote(column.name)}" for column in columns)
        return self._plan(f"update {qualified(self._table)} set {assigned} from {body}{where}")  # noqa: S608 names are quoted

    def delete(self) -> Plan:
        """Raises RestError, also when there is no condition."""
        return self._plan(f"delete from {qualified(self._table)}{self._required_where('DELETE')}")  # noqa: S608 names are quoted

    def _required_where(self, command: str) -> str:
        where = self._reader.where(self._table)
        if not where:
            raise RestError(400, "21000", f"{command} requires a WHERE clause")
        return where

    def _columns(self, payload: Any) -> list[Column]:
        """`columns=`, or the members of the body's objects, which must all have the same."""
        rows = payload if isinstance(payload, list) else [payload]
        if not all(isinstance(row, dict) for row in rows):
            raise bad_body()
        names = self._query.columns
        if names is None:
            names = tuple(rows[0]) if rows else ()
            if any(row.keys() != rows[0].keys() for row in rows):
                raise bad_body("All object keys must match")
        return [self._column(name) for name in names]

    def _column(self, name: str) -> Column:
        try:
            return self._table.columns[name]
        except KeyError:
            message = f"Could not find the '{name}' column of '{self._table.name}' in the schema cache"
            raise SchemaMissError(400, "PGRST204", message) from None

    def _records(self, payload: Any, columns: list[Column]) -> str:
        body = f"{self._bind_body()}::json"
        if not isinstance(payload, list):
            body = f"json_build_array({body})"
        defaults = [column for column in columns if column.default is not None]
        if self._request.preferences.get("missing") == "default" and defaults:
            members = ", ".join(f"{self._parameters.bind(one.name)}::text, {one.default}" for one in defaults)
            body = (
                f"(select json_agg(jsonb_build_object({members}) || pgrst_row) "  # noqa: S608 defaults are the catalogue's
                f"from jsonb_array_elements(({body})::jsonb) as pgrst_row)"
            )
        return f"json_to_recordset({body}) as pgrst_body({_definitions(columns)})"

    def _on_conflict(self, columns: list[Column]) -> str:
        resolution = self._request.preferences.get("resolution")
        target = self._query.on_conflict or tuple(self._table.primary_key)
        if resolution is None or not target:
            return ""
        listed = ", ".join(quote(self._column(name).name) for name in target)
        if resolution == "ignore-duplicates" or not columns:
            return f" on conflict ({listed}) do nothing"
        assigned = ", ".join(f"{quote(column.name)} = excluded.{quote(column.name)}" for column in columns)
        return f" on conflict ({listed}) do update set {assigned}"

    def _bind_body(self) -> str:
        return self._parameters.bind(self._request.text)

    def _plan(self, statement: str) -> Plan:
        request = self._request
        if request.returns == "representation":
            written = f"{statement} returning {self._reader.needed_columns(self._table)}"
            rows = self._reader.rows(self._table, "pgrst_source", window=False)
        elif request.returns == "headers-only" and self._table.primary_key:
            keys = ", ".join(f"{quote(self._table.name)}.{quote(name)}" for name in self._table.primary_key)
            written, rows = f"{statement} returning {keys}", "select * from pgrst_source"
        else:
            written, rows = f"{statement} returning 1 as present", "select * from pgrst_source"
        body = aggregate(request)
        sql = f"with pgrst_source as ({written}) select null, count(*), {body}, {ANSWER} from ({rows}) as pgrst_row"  # noqa: S608 names are quoted
        return Plan(sql, self._parameters.values, one_row=request.singular and request.returns == "representation")

    def _empty(self) -> Plan:
        """Nothing is written, and no row comes back."""
        return Plan(f"select null, 0, '[]', {ANSWER}", [], one_row=self._request.singular)


def aggregate(request: RestRequest, row: str = "pgrst_row") -> str:
    """The SQL that makes the body of rows."""
    rows = f"json_agg({row})"
    if request.strip_nulls:
        rows = f"json_strip_nulls({rows})"
    return f"coalesce(({rows}) -> 0, 'null')::text" if request.singular else f"coalesce({rows}, '[]')::text"


def _definitions(columns: list[Column]) -> str:
    return ", ".join(f"{quote(column.name)} {column.type}" for column in columns)

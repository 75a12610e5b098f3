"""SQL that calls a function. A JSON body goes to Postgres as it came: only its members' names are read here."""

from __future__ import annotations

from urllib.parse import parse_qsl

from local.supabase.rest_query import Query, parse_query
from local.supabase.rest_request import RestRequest
from local.supabase.rest_run import ANSWER, Plan
from local.supabase.rest_schema import Argument, Catalogue, Table
from local.supabase.rest_select import Parameters, Reader, quote
from local.supabase.rest_write import aggregate

SELECTING = {"select", "order", "limit", "offset", "and", "or", "not.and", "not.or"}


class Call:
    """One call of a function, resolved against the catalogue; raises RestError where it cannot be."""

    def __init__(self, catalogue: Catalogue, name: str, request: RestRequest, max_rows: int) -> None:
        self._request = request
        self._parameters = Parameters()
        self._arguments, filters = _split(catalogue, name, request)
        self.function = catalogue.function(request.schema, name, self._given())
        self.query: Query = parse_query(filters)
        self._reader = Reader(catalogue, self.query, self._parameters, max_rows)
        self._catalogue = catalogue

    @property
    def returns_rows(self) -> bool:
        """Whether the answer is a list of rows, which may be filtered, ordered and cut."""
        return self.function.is_set

    def plan(self) -> Plan:
        """The statement."""
        source = self._source()
        if self.function.columns is None:
            body = "coalesce(json_agg(pgrst_scalar), '[]')" if self.function.is_set else _first("pgrst_scalar")
            sql = f"select null, count(*), {body}::text, {ANSWER} from {source}"  # noqa: S608 names are quoted
            return Plan(sql, self._parameters.values, read_only=self._request.is_read)
        return self._rows_plan(source)

    def _rows_plan(self, source: str) -> Plan:
        request, table = self._request, self._result_table()
        rows = self._reader.rows(table, "pgrst_source")
        total = f"({self._reader.count(table, 'pgrst_source')})" if request.counts else "null"
        body = aggregate(request) if self.function.is_set or request.singular else f"{_first('pgrst_row')}::text"
        answer = f"select {total}, count(*), {body}, {ANSWER} from ({rows}) as pgrst_row"  # noqa: S608 names are quoted
        sql = f"with pgrst_source as (select pgrst_call.* from {source}) {answer}"  # noqa: S608 names are quoted
        return Plan(sql, self._parameters.values, one_row=request.singular, read_only=request.is_read)

    def _given(self) -> frozenset[str]:
        if self._arguments is not None:
            return frozenset(self._arguments)
        if not self._request.body.strip():
            return frozenset()
        payload = self._request.json
        # A body that is no object can only be for a function that takes it whole, and no argument has this name.
        return frozenset(payload) if isinstance(payload, dict) else frozenset({""})

    def _source(self) -> str:
        """The call, as what follows FROM."""
        function = self.function
        called = f"{quote(function.schema)}.{quote(function.name)}"
        alias = "pgrst_call" if function.columns is not None else "pgrst_call(pgrst_scalar)"
        bind = self._parameters.bind
        if self._arguments is not None:
            bound = (f"{quote(name)} => {bind(value)}" for name, value in self._arguments.items())
            return f"{called}({', '.join(bound)}) as {alias}"
        if function.takes_body:
            return f"{called}({bind(self._request.text or 'null')}::{function.arguments[0].type}) as {alias}"
        given = self._given()
        chosen = [argument for argument in function.arguments if argument.name in given]
        if not chosen:
            return f"{called}() as {alias}"
        record = f"json_to_record({bind(self._request.text)}::json) as pgrst_body({_definitions(chosen)})"
        return f"{record}, {called}({_passed(chosen)}) as {alias}"

    def _result_table(self) -> Table:
        function = self.function
        if function.table is not None:
            return self._catalogue.table(function.schema, function.table)
        return Table(function.schema, function.name, {column.name: column for column in function.columns or []})


def _split(
    catalogue: Catalogue, name: str, request: RestRequest
) -> tuple[dict[str, str] | None, list[tuple[str, str]]]:
    """Arguments that came as text (GET, HEAD and forms; None when they are in the body), and the conditions on rows."""
    if request.form:
        return dict(parse_qsl(request.text, keep_blank_values=True)), request.parameters
    if not request.is_read:
        return None, request.parameters
    overloads = catalogue.functions_by_name.get((request.schema, name), [])
    names = {argument for one in overloads for argument in one.names if argument}
    rest = [(key, value) for key, value in request.parameters if key not in names]
    given = {key: value for key, value in request.parameters if key in names}
    unknown = {key: value for key, value in rest if key not in SELECTING and "." not in value}
    return given | unknown, [(key, value) for key, value in rest if key not in unknown]


def _first(value: str) -> str:
    return f"coalesce(json_agg({value}) -> 0, 'null')"


def _definitions(arguments: list[Argument]) -> str:
    return ", ".join(f"{quote(argument.name)} {argument.type}" for argument in arguments)


def _passed(arguments: list[Argument]) -> str:
    return ", ".join(f"{quote(argument.name)} => pgrst_body.{quote(argument.name)}" for argument in arguments)

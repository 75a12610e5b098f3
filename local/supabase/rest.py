"""REST: PostgREST's wire, as far as README.md says, over Postgres itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote as percent

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from local.supabase.keys import Caller, KeyRefusedError, Keyring, TokenRefusedError
from local.supabase.rest_errors import RestError, SchemaMissError
from local.supabase.rest_query import Query, parse_query
from local.supabase.rest_request import SINGULAR, RestRequest, parse_request
from local.supabase.rest_rpc import Call
from local.supabase.rest_run import ANSWER, Database, Outcome, Plan
from local.supabase.rest_select import Parameters, Reader, qualified
from local.supabase.rest_write import Writer, aggregate
from local.supabase.settings import SupabaseSettings

Answer = Callable[[RestRequest, str], Awaitable[Response]]


class Rest:
    """The endpoints, with what they need."""

    def __init__(self, settings: SupabaseSettings, keyring: Keyring, database: Database) -> None:
        self._settings = settings
        self._keyring = keyring
        self._database = database

    def routes(self) -> list[BaseRoute]:
        """`/rest/v1/…`."""
        methods = ["GET", "HEAD", "POST"]
        return [
            Route("/rest/v1/", self.root, methods=["GET"]),
            Route("/rest/v1/rpc/{name}", self.rpc, methods=methods),
            Route("/rest/v1/{name}", self.table, methods=[*methods, "PATCH", "DELETE"]),
        ]

    async def root(self, request: Request) -> Response:
        """The names of the tables; hosted Supabase serves a whole OpenAPI description here."""

        async def answer(parsed: RestRequest, _: str) -> Response:
            catalogue = await self._database.catalogue()
            paths: dict[str, Any] = {
                f"/{table.name}": {} for table in catalogue.tables.values() if table.schema == parsed.schema
            }
            return JSONResponse({"swagger": "2.0", "info": {"title": "local REST"}, "paths": paths})

        return await self._serve(request, answer)

    async def table(self, request: Request) -> Response:
        """Read and write a table."""
        return await self._serve(request, self._read if request.method in ("GET", "HEAD") else self._write)

    async def rpc(self, request: Request) -> Response:
        """Call a function."""
        return await self._serve(request, self._call)

    async def _serve(self, request: Request, answer: Answer) -> Response:
        """One look at the database for a name that the catalogue does not hold; then it is an error."""
        try:
            parsed = await parse_request(request, self._caller(request), self._settings.schemas)
            name = str(request.path_params.get("name", ""))
            held = await self._database.catalogue()
            try:
                return await answer(parsed, name)
            except SchemaMissError:
                self._database.forget(held)
                return await answer(parsed, name)
        except RestError as error:
            return JSONResponse(error.body, error.status, error.headers)
        except KeyRefusedError as error:
            return JSONResponse({"message": str(error), "hint": _hint(error)}, 401)

    def _caller(self, request: Request) -> Caller:
        apikey = request.headers.get("apikey") or request.query_params.get("apikey")
        try:
            return self._keyring.caller(apikey, request.headers.get("authorization"))
        except TokenRefusedError as error:
            code = "PGRST303" if error.expired else "PGRST301"
            challenge = f'Bearer error="invalid_token", error_description="{error}"'
            raise RestError(401, code, str(error), headers={"WWW-Authenticate": challenge}) from error

    async def _read(self, request: RestRequest, name: str) -> Response:
        catalogue = await self._database.catalogue()
        table, query = catalogue.table(request.schema, name), _query(request)
        parameters = Parameters()
        reader = Reader(catalogue, query, parameters, self._settings.max_rows)
        source = qualified(table)
        total = f"({reader.count(table, source)})" if request.counts else "null"
        rows = reader.rows(table, source)
        sql = f"select {total}, count(*), {aggregate(request)}, {ANSWER} from ({rows}) as pgrst_row"  # noqa: S608 quoted
        plan = Plan(sql, parameters.values, one_row=request.singular, read_only=True)
        return _rows_response(request, query, await self._database.run(request, plan, catalogue))

    async def _write(self, request: RestRequest, name: str) -> Response:
        catalogue = await self._database.catalogue()
        table, query = catalogue.table(request.schema, name), parse_query(request.parameters)
        writer = Writer(catalogue, table, query, request, self._settings.max_rows)
        plan = {"POST": writer.insert, "PATCH": writer.update, "DELETE": writer.delete}[request.method]()
        return _written_response(request, name, await self._database.run(request, plan, catalogue))

    async def _call(self, request: RestRequest, name: str) -> Response:
        catalogue = await self._database.catalogue()
        call = Call(catalogue, name, request, self._settings.max_rows)
        outcome = await self._database.run(request, call.plan(), catalogue)
        if call.function.returns == "void":
            return Response(status_code=outcome.status or 204, headers=dict(outcome.headers))
        if call.returns_rows:
            return _rows_response(request, call.query, outcome)
        return _response(request, outcome, 200, {"Content-Range": "0-0/*"})


def _query(request: RestRequest) -> Query:
    """The query string, narrowed by the Range header."""
    query = parse_query(request.parameters)
    if request.window is not None:
        first, last = request.window
        level = query.level()
        if last is not None:
            if last < first:
                raise RestError(
                    416,
                    "PGRST103",
                    "Requested range not satisfiable",
                    "The lower boundary must be lower than the upper",
                )
            level.limit = min(last - first + 1, level.limit if level.limit is not None else last - first + 1)
        level.offset += first
    return query


def _rows_response(request: RestRequest, query: Query, outcome: Outcome) -> Response:
    """200, or 206 when there are known to be more; 416 when the offset is beyond what there is."""
    offset, total = query.level().offset, outcome.total
    if total is not None and offset > 0 and offset >= total and outcome.count == 0:
        details = f"An offset of {offset} was requested, but there are only {total} rows."
        raise _unsatisfiable(details, {"Content-Range": f"*/{total}"})
    status = 206 if total is not None and outcome.count < total else 200
    return _response(request, outcome, status, {"Content-Range": _content_range(offset, outcome.count, total)})


def _written_response(request: RestRequest, name: str, outcome: Outcome) -> Response:
    total = outcome.count if request.counts else None
    if request.method == "PATCH":
        headers = {"Content-Range": _content_range(0, outcome.count, total)}
    else:
        headers = {"Content-Range": f"*/{total if total is not None else '*'}"}
    created = request.method == "POST"
    if request.returns == "headers-only" and created:
        headers |= _location(name, outcome)
    if request.returns != "representation":
        return Response(
            status_code=201 if created else 204, headers=headers | dict(outcome.headers) | _applied(request)
        )
    return _response(request, outcome, 201 if created else 200, headers)


def _response(request: RestRequest, outcome: Outcome, status: int, headers: dict[str, str]) -> Response:
    body = b"" if request.method == "HEAD" else outcome.body
    media = SINGULAR if request.singular else "application/json"
    merged = headers | {"Content-Type": f"{media}; charset=utf-8"} | _applied(request) | dict(outcome.headers)
    return Response(body, outcome.status or status, merged)


def _applied(request: RestRequest) -> dict[str, str]:
    applied = ", ".join(f"{name}={value}" for name, value in request.preferences.items())
    return {"Preference-Applied": applied} if applied else {}


def _content_range(offset: int, count: int, total: int | None) -> str:
    rows = f"{offset}-{offset + count - 1}" if count else "*"
    return f"{rows}/{total if total is not None else '*'}"


def _location(name: str, outcome: Outcome) -> dict[str, str]:
    rows: list[dict[str, Any]] = json.loads(outcome.body)
    if len(rows) != 1:
        return {}
    key = "&".join(f"{column}=eq.{percent(str(value))}" for column, value in rows[0].items())
    return {"Location": f"/{name}?{key}"}


def _hint(error: KeyRefusedError) -> str:
    if "found" in str(error):
        return "No `apikey` request header or url param was found."
    return "Double check your Supabase `anon` or `service_role` API key."


def _unsatisfiable(details: str, headers: dict[str, str] | None = None) -> RestError:
    return RestError(416, "PGRST103", "Requested range not satisfiable", details, headers=headers)

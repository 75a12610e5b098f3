"""The catalogue: which tables, relationships and functions the exposed schemas have."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from pydantic import TypeAdapter

from local.supabase.rest_errors import RestError, SchemaMissError

CATALOGUE = Path(__file__).with_name("rest_catalogue.sql")
JSON_TYPES = ("json", "jsonb")
UNNAMED_TYPES = ("json", "jsonb", "text", "bytea", "xml")


@dataclass(frozen=True)
class Column:
    """A column. `default` is its SQL expression; a generated one is never written."""

    name: str
    type: str
    default: str | None = None


@dataclass(frozen=True)
class Table:
    """A table, view or foreign table; or the rows of a function, which have a name and columns too."""

    schema: str
    name: str
    columns: dict[str, Column]
    primary_key: list[str] = field(default_factory=list)

    def column(self, name: str) -> Column:
        """Raises RestError 42703 (as Postgres says it)."""
        try:
            return self.columns[name]
        except KeyError:
            raise SchemaMissError(400, "42703", f"column {self.name}.{name} does not exist") from None


@dataclass(frozen=True)
class ForeignKey:
    """`table`.`columns` refer to `target`.`target_columns`. `unique`: at most one row refers to a target."""

    name: str
    schema: str
    table: str
    columns: list[str]
    target_schema: str
    target: str
    target_columns: list[str]
    unique: bool


@dataclass(frozen=True)
class Argument:
    """An input argument of a function; an unnamed one has the name ''."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True)
class Function:
    """A function that REST may call. `columns` is what its rows have; None when it returns a scalar."""

    schema: str
    name: str
    arguments: list[Argument]
    returns: str
    is_set: bool
    columns: list[Column] | None
    table: str | None
    """The table whose row type it returns, for embedding."""

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that arguments may be given by."""
        return frozenset(argument.name for argument in self.arguments)

    @cached_property
    def required(self) -> frozenset[str]:
        """The names that must be given."""
        return frozenset(argument.name for argument in self.arguments if argument.required)

    @property
    def takes_body(self) -> bool:
        """Whether its single argument has no name and takes the request's body whole."""
        return len(self.arguments) == 1 and not self.arguments[0].name and self.arguments[0].type in UNNAMED_TYPES


@dataclass(frozen=True)
class Catalogue:
    """What was there when it was read."""

    tables: dict[str, Table]
    foreign_keys: list[ForeignKey]
    functions: list[Function]
    role_settings: dict[str, dict[str, str]]

    @cached_property
    def functions_by_name(self) -> dict[tuple[str, str], list[Function]]:
        """All overloads of a name."""
        found: dict[tuple[str, str], list[Function]] = {}
        for function in self.functions:
            found.setdefault((function.schema, function.name), []).append(function)
        return found

    def is_computed(self, table: Table, name: str) -> bool:
        """Whether a function of the row, called by that name, stands in for a column."""
        rows = (table.name, f"{table.schema}.{table.name}")
        overloads = self.functions_by_name.get((table.schema, name), []) if name not in table.columns else []
        return any(len(one.arguments) == 1 and one.arguments[0].type in rows for one in overloads)

    def table(self, schema: str, name: str) -> Table:
        """Raises SchemaMissError (PGRST205, 404)."""
        try:
            return self.tables[f"{schema}.{name}"]
        except KeyError:
            message = f"Could not find the table '{schema}.{name}' in the schema cache"
            raise SchemaMissError(404, "PGRST205", message) from None

    def function(self, schema: str, name: str, given: frozenset[str]) -> Function:
        """The overload that takes exactly these names. Raises SchemaMissError (PGRST202) or RestError (PGRST203)."""
        overloads = self.functions_by_name.get((schema, name), [])
        fitting = [one for one in overloads if given <= one.names and one.required <= given and not one.takes_body]
        fitting = fitting or [one for one in overloads if one.takes_body]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise _no_function(schema, name, given)
        candidates = ", ".join(f"{schema}.{name}({_signature(one)})" for one in fitting)
        message = f"Could not choose the best candidate function between: {candidates}"
        hint = (
            "Try renaming the parameters or the function itself in the database so function overloading can be resolved"
        )
        raise RestError(300, "PGRST203", message, hint=hint)


async def read_catalogue(connection: AsyncConnection, schemas: tuple[str, ...]) -> Catalogue:
    """Read it, for these schemas. Raises psycopg.Error."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(CATALOGUE.read_bytes(), [list(schemas)])
    row = await cursor.fetchone()
    return _catalogue.validate_python(row[0] if row else {})


_catalogue: TypeAdapter[Catalogue] = TypeAdapter(Catalogue)


def _signature(function: Function) -> str:
    return ", ".join(f"{argument.name} => {argument.type}" for argument in function.arguments)


def _no_function(schema: str, name: str, given: frozenset[str]) -> SchemaMissError:
    listed = f"({', '.join(sorted(given))})" if given else " without parameters"
    message = f"Could not find the function {schema}.{name}{listed} in the schema cache"
    searched = f"Searched for the function {schema}.{name} with {_parameters(given)}"
    details = f"{searched}, but no matches were found in the schema cache."
    return SchemaMissError(404, "PGRST202", message, details)


def _parameters(given: frozenset[str]) -> str:
    if not given:
        return "no parameters or with a single unnamed json/jsonb parameter"
    return f"parameter{'s' if len(given) > 1 else ''} {', '.join(sorted(given))}"

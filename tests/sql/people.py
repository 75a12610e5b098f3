"""The people who reach the database, and how they do: PostgREST's role and claims, set for one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[Any]

API_ROLES = ("anon", "authenticated", "service_role", "runner", "watcher")


@dataclass(frozen=True)
class Person:
    """Someone behind a verified JWT: the role it names and the claims it carries."""

    name: str
    role: str
    claims: Mapping[str, object] = field(default_factory=dict)

    @property
    def id(self) -> UUID:
        """The user's id in auth.users. Raises KeyError for people who are no users."""
        return UUID(str(self.claims["sub"]))

    def call(self, connection: Connection, function: str, **arguments: object) -> Any:
        """POST /rest/v1/rpc/<function>: the function's answer. Raises psycopg.Error as the database does."""
        given = sql.SQL(", ").join(sql.SQL("{} => %s").format(sql.Identifier(name)) for name in arguments)
        query = sql.SQL("select public.{}({})").format(sql.Identifier(function), given)
        with acting(connection, self):
            return scalar(connection, query, [_as_json(value) for value in arguments.values()])


ANON = Person("anon", "anon")
SERVICE = Person("service", "service_role", {"role": "service_role"})


@contextmanager
def acting(connection: Connection, person: Person) -> Iterator[None]:
    """One transaction as the person. `connection` is authenticator's, in autocommit, as PostgREST's are."""
    with connection.transaction():
        connection.execute(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            (person.role, json.dumps({"role": person.role, **person.claims})),
        )
        yield


@contextmanager
def refused(code: str, message: str | None = None, detail: str | None = None) -> Iterator[None]:
    """What is done inside fails with this SQLSTATE (PT409 becomes HTTP 409) and, when given, message and detail."""
    with pytest.raises(psycopg.Error) as caught:
        yield
    told = caught.value.diag
    assert caught.value.sqlstate == code, caught.value
    assert message in (None, told.message_primary)
    assert detail in (None, told.message_detail)


def scalar(connection: Connection, query: Any, parameters: Any = None) -> Any:
    """The first column of the only row."""
    (row,) = connection.execute(query, parameters).fetchall()
    return row[0]


def column(connection: Connection, query: Any, parameters: Any = None) -> list[Any]:
    """The first column of every row."""
    return [row[0] for row in connection.execute(query, parameters)]


def sign_up(admin: Connection, name: str = "owner", *, anonymous: bool = False) -> Person:
    """A new user. An anonymous one has signed in without an address; the role is authenticated all the same."""
    user = uuid4()
    admin.execute("insert into auth.users (id, role, is_anonymous) values (%s, 'authenticated', %s)", (user, anonymous))
    return Person(name, "authenticated", {"sub": str(user), "aud": "authenticated", "is_anonymous": anonymous})


def _as_json(value: object) -> object:
    return Jsonb(value) if isinstance(value, dict | list) else value

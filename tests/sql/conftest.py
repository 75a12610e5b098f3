"""One Postgres per worker with the project's migrations in it; every test brings users and sessions of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from local.database import prepare
from local.postgres import SUPERUSER, Postgres
from local.stack import free_port
from tests.sql.conversations import new_turn
from tests.sql.people import Connection, Person, sign_up
from tests.sql.runs import Run, new_run

PROJECT = Path(__file__).parents[2] / "supabase"

Connect = Callable[[str], Connection]


@pytest.fixture(scope="session")
def project() -> Path:
    """The Supabase project under test."""
    return PROJECT


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A hosted Supabase's look-alike with the migrations applied."""
    with Postgres(tmp_path_factory.mktemp("postgres") / "data", free_port()) as postgres:
        prepare(postgres.dsn(), PROJECT)
        yield postgres


@pytest.fixture
def connect(server: Postgres) -> Iterator[Connect]:
    """Opens connections as a role, in autocommit; they are closed after the test."""
    with ExitStack() as stack:
        yield lambda role: stack.enter_context(psycopg.connect(server.dsn(role), autocommit=True))


@pytest.fixture(scope="session")
def kept(server: Postgres) -> Iterator[Connect]:
    """A connection as a role that lasts, as PostgREST's do: a new one compiles each function anew."""
    open_ones: dict[str, Connection] = {}

    def connection(role: str) -> Connection:
        if role not in open_ones or open_ones[role].closed:
            open_ones[role] = psycopg.connect(server.dsn(role), autocommit=True)
        return open_ones[role]

    yield connection
    for each in open_ones.values():
        each.close()


def lent(connection: Connection) -> Iterator[Connection]:
    """The connection, and what a test has set on it forgotten afterwards."""
    yield connection
    if not connection.closed:
        connection.rollback()
        connection.execute("reset session authorization; reset role; reset all; unlisten *; discard temp")
        connection.execute("select pg_advisory_unlock_all()")


@pytest.fixture
def admin(kept: Connect) -> Iterator[Connection]:
    """The superuser, for arranging and for looking."""
    yield from lent(kept(SUPERUSER))


@pytest.fixture
def rest(kept: Connect) -> Iterator[Connection]:
    """A connection of PostgREST's: it may become anon, authenticated, service_role or runner, and is nothing itself."""
    yield from lent(kept("authenticator"))


@pytest.fixture
def run(rest: Connection, admin: Connection) -> Run:
    """A run that waits for its runner."""
    return new_run(rest, admin)


@pytest.fixture
def owner(admin: Connection) -> Person:
    """Someone who is signed in."""
    return sign_up(admin)


@pytest.fixture
def turn(rest: Connection, admin: Connection, owner: Person) -> Run:
    """A conversation's live run."""
    return new_turn(rest, admin, owner)

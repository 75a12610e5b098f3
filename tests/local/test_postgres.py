"""The server starts, dies and comes back; and it looks like a hosted Supabase database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from local.bubblewrap import bwrap_path
from local.database import prepare
from local.postgres import Postgres, PostgresError
from local.stack import free_port
from tests.local.supabase_world import open_postgres

DEADLINE_SECONDS = 20.0

MIGRATION = """
create table public.things (id int generated always as identity primary key, name text);
create function public.greet() returns text language sql as $$ select 'hello' $$;
create role runner nologin noinherit;
grant runner to authenticator;
alter publication supabase_realtime add table public.things;
create trigger on_user after insert on auth.users for each row execute function suppress_redundant_updates_trigger();
create extension if not exists vector with schema extensions;
create table public.vectors (v vector(3));
"""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with open_postgres(tmp_path_factory.mktemp("postgres"), MIGRATION) as opened:
        yield opened


def ask(postgres: Postgres, query: str, role: str = "postgres") -> list[tuple[object, ...]]:
    with psycopg.connect(postgres.dsn(role), autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def scalar(postgres: Postgres, query: str, role: str = "postgres") -> object:
    return ask(postgres, query, role)[0][0]


def test_bubblewrap_is_found() -> None:
    """The wheel's bubblewrap is an executable file."""
    assert os.access(bwrap_path(), os.X_OK)


def test_committed_rows_survive_a_kill(postgres: Postgres) -> None:
    """What was committed before a SIGKILL is there after the next start, on the same port."""
    ask(postgres, "insert into public.things (name) values ('kept')")
    before = postgres.pid
    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres.dsn(), connect_timeout=2)
    postgres.start()
    assert postgres.pid != before
    assert scalar(postgres, "select count(*) from public.things where name = 'kept'") == 1


def test_kill_leaves_no_process(postgres: Postgres) -> None:
    """After kill() none of the server's processes runs, so that a start can follow at once."""
    family = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children(recursive=True)]
    assert len(family) > 3
    postgres.kill()
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    postgres.start()


def test_restart_keeps_the_data_directory(postgres: Postgres) -> None:
    """A restart, and a start that finds it running, change nothing but the process."""
    ask(postgres, "insert into public.things (name) values ('again')")
    postgres.restart()
    postgres.start()
    assert scalar(postgres, "select count(*) from public.things where name = 'again'") == 1


def test_a_lock_file_of_a_reused_process_id_is_no_obstacle(postgres: Postgres) -> None:
    """A lock left by a crash names a process id that belongs to somebody else by now: it is put away."""
    postgres.kill()
    lock = postgres.data_dir / "postmaster.pid"
    lines = lock.read_text().split("\n")
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    postgres.start()
    assert scalar(postgres, "select 1") == 1


def test_a_port_in_use_is_told(postgres: Postgres, tmp_path: Path) -> None:
    """A server that cannot listen raises, with the reason from its log."""
    with pytest.raises(PostgresError, match="Address already in use"):
        Postgres(tmp_path / "data", postgres.port).start()


def test_the_pid_of_a_stopped_server_is_an_error(tmp_path: Path) -> None:
    """There is no id to end when nothing runs."""
    with pytest.raises(PostgresError, match="not running"):
        _ = Postgres(tmp_path / "data", 1).pid


def test_it_dies_with_its_starter(tmp_path: Path) -> None:
    """Whoever started the server is killed: the server goes too."""
    code = (
        "import sys, time; from pathlib import Path; from local.postgres import Postgres\n"
        f"server = Postgres(Path({str(tmp_path / 'data')!r}), {free_port()}); server.start()\n"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        postmaster = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while postmaster.is_running() and postmaster.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the server outlived its starter"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("wal_level", "logical"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("jit", "off"),
        ("unix_socket_directories", ""),
    ],
)
def test_settings(postgres: Postgres, setting: str, value: str) -> None:
    """Durable, ready for logical decoding, reachable by TCP only."""
    assert scalar(postgres, f"show {setting}") == value


def test_prepare_twice_changes_nothing(postgres: Postgres) -> None:
    """A second prepare applies no migration again and loses no row."""
    project = postgres.data_dir.parent / "project"
    ask(postgres, "insert into public.things (name) values ('before')")
    prepare(postgres.dsn(), project)
    assert scalar(postgres, "select count(*) from public.things where name = 'before'") == 1
    assert ask(postgres, "select version, name from supabase_migrations.schema_migrations") == [
        ("20260101000000", "first")
    ]


def test_a_new_migration_and_the_seed_are_applied_once(postgres: Postgres) -> None:
    """What is added to the project later is applied, in its own transaction, exactly once."""
    project = postgres.data_dir.parent / "project"
    (project / "migrations" / "20260102000000_second.sql").write_text("create table public.second (id int);")
    (project / "seed.sql").write_text("insert into public.second values (1);")
    prepare(postgres.dsn(), project)
    prepare(postgres.dsn(), project)
    assert scalar(postgres, "select count(*) from public.second") == 1


def test_a_failing_migration_leaves_nothing(postgres: Postgres) -> None:
    """All of a migration or none of it; and it is not recorded."""
    path = postgres.data_dir.parent / "project" / "migrations" / "20260103000000_third.sql"
    path.write_text("create table public.third (id int); select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        prepare(postgres.dsn(), path.parent.parent)
    path.unlink()
    assert scalar(postgres, "select to_regclass('public.third')") is None
    assert (
        scalar(postgres, "select count(*) from supabase_migrations.schema_migrations where version like '%03%000'") == 0
    )


def test_migrations_do_not_run_as_a_superuser(postgres: Postgres) -> None:
    """`postgres` owns what migrations make, and is no superuser, as on hosted Supabase."""
    assert scalar(postgres, "select tableowner from pg_tables where tablename = 'things'") == "postgres"
    row = ask(
        postgres, "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls from pg_roles where rolname = 'postgres'"
    )
    assert row == [(False, True, True, True)]


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_default_privileges_of_the_api_roles(postgres: Postgres, role: str) -> None:
    """Tables, functions and sequences that a migration makes in public are granted to the three API roles."""
    assert scalar(postgres, f"select has_table_privilege('{role}', 'public.things', 'select, insert, update, delete')")
    assert scalar(postgres, f"select has_function_privilege('{role}', 'public.greet()', 'execute')")
    assert scalar(postgres, f"select has_sequence_privilege('{role}', 'public.things_id_seq', 'usage')")


def test_only_the_service_bypasses_row_security(postgres: Postgres) -> None:
    """Of the roles that REST acts as, RLS binds all but service_role."""
    rows = ask(
        postgres,
        "select r.rolname::text from pg_roles r where pg_has_role('authenticator', r.oid, 'member') "
        "and (r.rolbypassrls or r.rolsuper)",
    )
    assert rows == [("service_role",)]


def test_the_authenticator_has_no_rights_of_its_own(postgres: Postgres) -> None:
    """It can become each API role, and a migration's role, but reads nothing as itself."""
    with psycopg.connect(postgres.dsn("authenticator")) as connection:
        for role in ("anon", "authenticated", "service_role", "runner"):
            connection.execute(f"set role {role}".encode())
        connection.execute("reset role")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from public.things")


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_users_are_closed_to_the_api_roles(postgres: Postgres, role: str) -> None:
    """Nobody reads password hashes through a role of the API."""
    with psycopg.connect(postgres.dsn("authenticator")) as connection:
        connection.execute(f"set role {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from auth.users")


def test_auth_functions_read_the_claims(postgres: Postgres) -> None:
    """auth.uid(), role(), email() and jwt() answer from request.jwt.claims, and null without."""
    query = "select auth.uid()::text, auth.role(), auth.email(), auth.jwt() ->> 'x'"
    assert ask(postgres, query, "supabase_admin") == [(None, None, None, None)]
    claims = '{"sub": "00000000-0000-0000-0000-00000000000a", "role": "authenticated", "email": "a@b.c", "x": "y"}'
    with psycopg.connect(postgres.dsn("authenticator")) as connection:
        connection.execute("set role anon")
        connection.execute("select set_config('request.jwt.claims', %s, false)", (claims,))
        row = connection.execute(query.encode()).fetchone()
    assert row == ("00000000-0000-0000-0000-00000000000a", "authenticated", "a@b.c", "y")

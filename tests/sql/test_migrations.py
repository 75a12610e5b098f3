"""The migrations as files: for hosted Postgres 17, by a role that is no superuser, on a cluster that is not new."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from local.database import prepare
from local.postgres import Postgres
from tests.sql.people import Connection, column, scalar

# What Postgres 18 brought, as far as a pattern can tell it; each with a text that it must find. The tests run on 18, so
# that nothing else would say it before a deploy.
NEWER_THAN_17 = {
    r"\buuidv[47]\s*\(": "default uuidv7()",
    r"\bvirtual\b": "generated always as (a + 1) virtual",
    r"\bgenerated\s+always\s+as\s*\([^;]*?\)(?!\s*stored)\s*[,)]": "b int generated always as (a + 1),",
    r"\bwithout\s+overlaps\b": "primary key (id, during without overlaps)",
    r",\s*period\s+\w+\s*\)": "foreign key (id, period during)",
    r"\bnot\s+enforced\b": "check (a > 0) not enforced",
    r"\bnot\s+null\s+\w+\s+not\s+valid\b": "add constraint c not null a not valid",
    r"\breturning\s+(with\s*\(|[^;]*\b(old|new)\.)": "returning old.status, new.status",
    r"\b(casefold|array_sort|array_reverse|crc32c?|gamma|lgamma)\s*\(": "select casefold(title)",
    r"\bpg_get_acl\s*\(": "select pg_get_acl(1, 2, 0)",
    r"\balter\s+constraint\s+\w+\s+(no\s+)?inherit\b": "alter constraint c no inherit",
}
SUPERUSER_ONLY = r"\b(alter\s+system|copy\s+[^;]*\bprogram\b|create\s+(trusted\s+)?language|create\s+event\s+trigger)\b"


def migrations(project: Path) -> list[Path]:
    """The migrations in their order."""
    return sorted((project / "migrations").glob("*.sql"))


def code(path: Path) -> str:
    """The file without its comments, in lower case."""
    return re.sub(r"--[^\n]*", "", path.read_text()).lower()


@pytest.mark.parametrize(("pattern", "sample"), NEWER_THAN_17.items())
def test_nothing_is_newer_than_postgres_17(project: Path, pattern: str, sample: str) -> None:
    """No migration uses a feature of Postgres 18 that this pattern knows; the pattern knows its sample."""
    assert re.search(pattern, sample)
    assert [path.name for path in migrations(project) if re.search(pattern, code(path))] == []


def test_nothing_asks_for_a_superuser_or_ends_its_transaction(project: Path) -> None:
    """Each file is one transaction of a plain role's: no commit in it, and no statement only a superuser may run."""
    assert migrations(project)
    for path in migrations(project):
        assert not re.search(SUPERUSER_ONLY, code(path)), path.name
        assert not re.search(r"(?m)^\s*(commit|rollback|begin)\s*;", code(path)), path.name


def test_versions_are_what_the_supabase_cli_reads(project: Path, admin: Connection) -> None:
    """Names are fourteen digits and words, unique, and all of them stand in the ledger as applied."""
    names = [re.fullmatch(r"(\d{14})_([a-z_]+)", path.stem) for path in migrations(project)]
    versions = [name[1] for name in names if name]
    assert len(versions) == len(names) == len(set(versions))
    assert column(admin, "select version from supabase_migrations.schema_migrations order by 1") == versions


def test_migrations_run_as_a_role_that_is_no_superuser(admin: Connection) -> None:
    """All tables, functions and the schema private belong to postgres, which is no superuser, as on hosted Supabase."""
    assert scalar(admin, "select rolsuper from pg_roles where rolname = 'postgres'") is False
    owners = """
      select relowner::regrole::text from pg_class
        where relnamespace in ('public'::regnamespace, 'private'::regnamespace)
      union select proowner::regrole::text from pg_proc
        where pronamespace in ('public'::regnamespace, 'private'::regnamespace)
      union select nspowner::regrole::text from pg_namespace where nspname = 'private'
    """
    assert column(admin, owners) == ["postgres"]


def test_preparing_again_changes_nothing(server: Postgres, admin: Connection, project: Path) -> None:
    """A database that has everything is left as it is."""
    query = """
      select count(*), max(oid::bigint) from pg_proc
      union all select count(*), max(oid::bigint) from pg_class
      union all select count(*), max(oid::bigint) from pg_policy
    """
    before = admin.execute(query).fetchall()
    prepare(server.dsn(), project)
    assert admin.execute(query).fetchall() == before


@pytest.fixture
def second_database(server: Postgres, admin: Connection) -> Iterator[str]:
    """An empty database on the same cluster, as `supabase db reset` leaves one: the roles are there already."""
    admin.execute("create database second owner postgres")
    yield make_conninfo(server.dsn(), dbname="second")
    admin.execute("drop database second with (force)")


def test_a_cluster_that_knows_the_role_runner_takes_the_migrations(
    second_database: str, admin: Connection, project: Path
) -> None:
    """Roles outlive a database: the migrations run where `runner` exists, and the grants come out the same."""
    prepare(second_database, project)
    grants = """
      select p.proname, a.grantee::regrole::text from pg_proc p, aclexplode(p.proacl) a
      where p.pronamespace = 'public'::regnamespace order by 1, 2
    """
    with psycopg.connect(second_database) as second:
        assert second.execute(grants).fetchall() == admin.execute(grants).fetchall()
    assert scalar(admin, "select pg_has_role('authenticator', 'runner', 'set')")


def test_a_migration_that_fails_leaves_nothing_behind(second_database: str, project: Path, tmp_path: Path) -> None:
    """A broken file is undone whole and not recorded, and mended it runs."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for path in migrations(project):
        (folder / path.name).write_bytes(path.read_bytes())
    late = folder / "29990101000000_late.sql"
    late.write_text("create table public.half (id int); select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        prepare(second_database, tmp_path)
    with psycopg.connect(second_database) as second:
        assert scalar(second, "select to_regclass('public.half')") is None
        assert scalar(second, "select count(*) from supabase_migrations.schema_migrations") == len(migrations(project))
    late.write_text("create table public.half (id int);")
    prepare(second_database, tmp_path)
    with psycopg.connect(second_database) as second:
        assert scalar(second, "select to_regclass('public.half')::text") == "half"

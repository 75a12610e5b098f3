"""Makes a fresh Postgres look like a hosted Supabase database, and brings a project's migrations into it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

BOOTSTRAP = Path(__file__).parent / "sql"

LEDGER = """
create schema if not exists supabase_local;
create table if not exists supabase_local.applied (name text primary key, sha256 text not null);
"""
MIGRATIONS = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text primary key, statements text[], name text
);
"""


def prepare(dsn: str, project: Path) -> None:
    """Bootstrap, migrate and seed. Idempotent: what was applied before is skipped.

    `dsn` is a superuser's; `project` is the directory with `migrations/` and `seed.sql`, and either may be missing.
    Migrations run as `postgres`, which is no superuser on hosted Supabase either. Raises psycopg.Error; each file is
    one transaction, so a file that fails leaves nothing behind.
    """
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(LEDGER)
        for path in sorted(BOOTSTRAP.glob("*.sql")):
            _apply_once(admin, path)
    with psycopg.connect(make_conninfo(dsn, user="postgres"), autocommit=True) as owner:
        migrate(owner, project / "migrations")
    with psycopg.connect(dsn, autocommit=True) as admin:
        _seed(admin, dsn, project / "seed.sql")


def migrate(owner: psycopg.Connection, directory: Path) -> None:
    """Apply the migrations that `schema_migrations` does not list, in the order of their names."""
    owner.execute(MIGRATIONS)
    rows = owner.execute("select version from supabase_migrations.schema_migrations").fetchall()
    done = {str(row[0]) for row in rows}
    for path in sorted(directory.glob("*.sql")):
        version, _, name = path.stem.partition("_")
        if version in done:
            continue
        with owner.transaction():
            owner.execute(path.read_bytes())
            owner.execute("reset role")
            owner.execute(
                "insert into supabase_migrations.schema_migrations (version, name) values (%s, %s)", (version, name)
            )
    owner.execute("notify pgrst, 'reload schema'")


def _seed(admin: psycopg.Connection, dsn: str, path: Path) -> None:
    if path.exists() and not _is_applied(admin, path):
        with psycopg.connect(make_conninfo(dsn, user="postgres")) as owner:
            owner.execute(path.read_bytes())
        _record(admin, path)


def _apply_once(admin: psycopg.Connection, path: Path) -> None:
    """Run the file unless this very text ran before; a changed file runs again, so each must bear that."""
    if _is_applied(admin, path):
        return
    with admin.transaction():
        admin.execute(path.read_bytes())
        _record(admin, path)


def _is_applied(admin: psycopg.Connection, path: Path) -> bool:
    query = "select from supabase_local.applied where (name, sha256) = (%s, %s)"
    return admin.execute(query, (path.name, _digest(path))).fetchone() is not None


def _record(admin: psycopg.Connection, path: Path) -> None:
    admin.execute(
        "insert into supabase_local.applied values (%s, %s) on conflict (name) do update set sha256 = excluded.sha256",
        (path.name, _digest(path)),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

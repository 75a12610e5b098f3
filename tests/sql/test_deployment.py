"""What the doctor asks the database: names of what is there, and whether it is as the migrations leave it."""

import re
from pathlib import Path
from typing import Any

from tests.sql.people import SERVICE, Connection

EVERY_FUNCTION = r"create (?:or replace )?function public\.(\w+)"


def facts(rest: Connection) -> dict[str, Any]:
    """What the control plane is told."""
    found: dict[str, Any] = SERVICE.call(rest, "deployment_facts_v1")
    return found


def test_it_names_every_function(rest: Connection, project: Path) -> None:
    """Each function that a migration creates for callers is there, once."""
    created = {
        name for path in (project / "migrations").glob("*.sql") for name in re.findall(EVERY_FUNCTION, path.read_text())
    }
    named = facts(rest)["functions"]
    assert created <= set(named)
    assert len(named) == len(set(named))


def test_row_security_is_on_and_forced_everywhere(rest: Connection) -> None:
    """Every table of ours, by its name."""
    tables = facts(rest)["tables"]
    assert {"agent_sessions", "agent_runs", "agent_events", "idempotency_keys"} <= tables.keys()
    assert set(tables.values()) == {True}


def test_a_table_without_it_is_told(rest: Connection, admin: Connection) -> None:
    """Also one that is new, and one whose owner passes it by."""
    admin.execute("create table public.careless (id int); create table public.half (id int)")
    try:
        admin.execute("alter table public.half enable row level security")
        told = facts(rest)["tables"]
    finally:
        admin.execute("drop table public.careless, public.half")
    assert {name for name, is_on in told.items() if not is_on} == {"careless", "half"}


def test_the_three_tables_are_published(rest: Connection) -> None:
    """What postgres_changes tells of, and no secret among it."""
    assert facts(rest)["published"] == ["agent_events", "agent_runs", "agent_sessions"]

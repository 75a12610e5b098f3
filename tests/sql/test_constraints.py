"""The schema refuses bad rows by itself: for every constraint at least one row that only this constraint refuses."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.sql.people import Connection, column, sign_up
from tests.sql.runs import HASH, Run

Changes = Mapping[str, object]
NOBODY = uuid4()
LONG = "x" * 201

# (constraint, table, what makes a good row bad)
BAD_ROWS: list[tuple[str, str, Changes]] = [
    ("agent_sessions_owner_fkey", "agent_sessions", {"owner": NOBODY}),
    ("agent_sessions_title_check", "agent_sessions", {"title": ""}),
    ("agent_sessions_title_check", "agent_sessions", {"title": LONG}),
    ("agent_sessions_status_check", "agent_sessions", {"status": "asleep"}),
    ("agent_sessions_last_seq_check", "agent_sessions", {"last_seq": -1}),
    ("agent_sessions_metadata_check", "agent_sessions", {"metadata": Jsonb([])}),
    ("agent_sessions_metadata_check", "agent_sessions", {"metadata": Jsonb({"x": "x" * 16384})}),
    ("agent_sessions_metadata_check", "agent_sessions", {"metadata": Jsonb({"x": 10**400})}),
    ("agent_runs_session_id_fkey", "agent_runs", {"session_id": NOBODY}),
    ("agent_runs_owner_fkey", "agent_runs", {"owner": NOBODY}),
    ("agent_runs_kind_check", "agent_runs", {"kind": "mischief"}),
    ("agent_runs_status_check", "agent_runs", {"status": "done", "ended_at": "now"}),
    ("agent_runs_check", "agent_runs", {"status": "running", "ended_at": "now"}),
    ("agent_runs_check", "agent_runs", {"status": "succeeded", "ended_at": None}),
    ("agent_runs_epoch_check", "agent_runs", {"epoch": 0}),
    ("agent_runs_last_n_check", "agent_runs", {"last_n": -1}),
    ("agent_runs_input_check", "agent_runs", {"input": Jsonb("true")}),
    ("agent_runs_input_check", "agent_runs", {"input": Jsonb({"x": "x" * (16 << 20)})}),
    ("agent_runs_result_check", "agent_runs", {"result": Jsonb([1])}),
    ("agent_runs_result_check", "agent_runs", {"result": Jsonb({"x": 10**400})}),
    ("agent_runs_result_check", "agent_runs", {"result": Jsonb({"x": "x" * (256 << 10)})}),
    ("agent_runs_error_check", "agent_runs", {"error": Jsonb("refused")}),
    ("agent_runs_error_check", "agent_runs", {"error": Jsonb({"x": {"y": [-(10**400)]}})}),
    ("agent_runs_error_check", "agent_runs", {"error": Jsonb({"x": "x" * (256 << 10)})}),
    ("agent_runs_limit_seconds_check", "agent_runs", {"limit_seconds": 0}),
    ("agent_runs_limit_seconds_check", "agent_runs", {"limit_seconds": 604801}),
    ("agent_runs_one_live", "agent_runs", {"status": "running", "ended_at": None}),
    ("agent_events_session_id_fkey", "agent_events", {"session_id": NOBODY}),
    ("agent_events_pkey", "agent_events", {"seq": 1}),
    ("agent_events_seq_check", "agent_events", {"seq": 0}),
    ("agent_events_n_check", "agent_events", {"n": 0}),
    ("agent_events_check", "agent_events", {"n": 8, "run_id": None}),
    ("agent_events_once", "agent_events", {"n": 7, "seq": 101}),
    ("agent_events_type_check", "agent_events", {"type": "Command.output"}),
    ("agent_events_type_check", "agent_events", {"type": "command."}),
    ("agent_events_type_check", "agent_events", {"type": ".output"}),
    ("agent_events_type_check", "agent_events", {"type": "command output"}),
    ("agent_events_type_check", "agent_events", {"type": "1command"}),
    ("agent_events_type_check", "agent_events", {"type": "command\n"}),
    ("agent_events_type_check", "agent_events", {"type": "x" * 65}),
    ("agent_events_type_check", "agent_events", {"type": ""}),
    ("agent_events_data_check", "agent_events", {"data": Jsonb([1])}),
    ("agent_events_data_check", "agent_events", {"data": Jsonb(None)}),
    ("agent_events_data_check", "agent_events", {"data": Jsonb({"x": "x" * (256 << 10)})}),
    ("sandbox_executions_pkey", "sandbox_executions", {"sandbox_id": "taken"}),
    ("sandbox_executions_run_id_fkey", "sandbox_executions", {"run_id": NOBODY}),
    ("sandbox_executions_session_id_fkey", "sandbox_executions", {"session_id": NOBODY}),
    ("sandbox_executions_owner_fkey", "sandbox_executions", {"owner": NOBODY}),
    ("sandbox_executions_sandbox_id_check", "sandbox_executions", {"sandbox_id": ""}),
    ("sandbox_executions_sandbox_id_check", "sandbox_executions", {"sandbox_id": "x" * 129}),
    ("sandbox_executions_check", "sandbox_executions", {"ended_at": "now"}),
    ("sandbox_executions_check", "sandbox_executions", {"end_reason": "killed"}),
    ("idempotency_keys_pkey", "idempotency_keys", {"key": "taken"}),
    ("idempotency_keys_owner_fkey", "idempotency_keys", {"owner": NOBODY}),
    ("idempotency_keys_run_id_fkey", "idempotency_keys", {"run_id": NOBODY}),
    ("idempotency_keys_key_check", "idempotency_keys", {"key": ""}),
    ("idempotency_keys_key_check", "idempotency_keys", {"key": "x" * 256}),
    ("idempotency_keys_request_hash_check", "idempotency_keys", {"request_hash": "short"}),
    ("run_moves_pkey", "run_moves", {"from_status": "running", "to_status": "lost"}),
    ("run_moves_made_by_check", "run_moves", {"made_by": []}),
    ("run_moves_made_by_check", "run_moves", {"made_by": ["passer-by"]}),
]
TABLES = ("agent_sessions", "agent_runs", "agent_events", "sandbox_executions", "idempotency_keys", "run_moves")
# Nothing but chance could break them: the ids are generated.
UNTESTED = {"agent_sessions_pkey", "agent_runs_pkey"}


def good_row(table: str, run: Run) -> dict[str, Any]:
    """A row that the table takes beside those of `neighbours`."""
    ended = {"status": "failed", "ended_at": "now"}
    of_run = {"run_id": run.id, "session_id": run.session_id}
    rows: dict[str, dict[str, Any]] = {
        "agent_sessions": {"owner": run.owner.id, "title": "x" * 200, "metadata": Jsonb({})},
        "agent_runs": {
            "session_id": run.session_id, "owner": run.owner.id, "kind": "commands", "input": Jsonb({}),
            "limit_seconds": 604800, "deadline_at": "now", **ended,
        },
        "agent_events": {**of_run, "seq": 100, "n": 8, "type": "a1_b.c_2.d", "data": Jsonb({})},
        "sandbox_executions": {**of_run, "owner": run.owner.id, "sandbox_id": "x" * 128, "template": "base"},
        "idempotency_keys": {"owner": run.owner.id, "key": "x" * 255, "request_hash": HASH, "run_id": run.id},
        "run_moves": {"from_status": "a", "to_status": "b", "made_by": ["sweep"]},
    }  # fmt: skip
    return rows[table]


def neighbours(admin: Connection, run: Run) -> None:
    """Rows that a second one must not repeat."""
    insert(admin, "agent_events", {**good_row("agent_events", run), "seq": 99, "n": 7})
    insert(admin, "sandbox_executions", {**good_row("sandbox_executions", run), "sandbox_id": "taken"})
    insert(admin, "idempotency_keys", {**good_row("idempotency_keys", run), "key": "taken"})


def insert(admin: Connection, table: str, row: Changes) -> None:
    """The row, with deferred constraints checked at once."""
    statement = sql.SQL("insert into public.{} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    admin.execute("set constraints all immediate")
    admin.execute(statement, list(row.values()))


@pytest.mark.parametrize("table", TABLES)
def test_a_good_row_is_taken(admin: Connection, run: Run, table: str) -> None:
    """The row that the tests below spoil is itself accepted, at the very edge of what is allowed."""
    with admin.transaction(force_rollback=True):
        neighbours(admin, run)
        insert(admin, table, good_row(table, run))


@pytest.mark.parametrize(("constraint", "table", "changes"), BAD_ROWS)
def test_a_bad_row_is_refused(admin: Connection, run: Run, constraint: str, table: str, changes: Changes) -> None:
    """The superuser cannot write this row either, and it is this constraint that says so."""
    with admin.transaction(force_rollback=True):
        neighbours(admin, run)
        with pytest.raises(psycopg.errors.IntegrityError) as caught, admin.transaction():
            insert(admin, table, {**good_row(table, run), **changes})
    assert caught.value.diag.constraint_name == constraint


def test_every_constraint_has_a_bad_row(admin: Connection) -> None:
    """A CHECK, key, reference or unique index that a migration adds must be shown here to refuse something."""
    constraints = column(
        admin,
        """
        select conname::text from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n'
        union
        select indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid
        where c.relnamespace = 'public'::regnamespace and i.indisunique
        """,
    )
    assert set(constraints) == {constraint for constraint, _, _ in BAD_ROWS} | UNTESTED


def test_only_these_columns_may_be_null(admin: Connection) -> None:
    """What a row cannot do without is NOT NULL."""
    query = """
      select c.relname || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attnotnull
    """
    assert set(column(admin, query)) == {
        "agent_sessions.title",
        *(f"agent_runs.{name}" for name in ("result", "error", "sandbox_id", "cancel_requested_at", "started_at")),
        *(f"agent_runs.{name}" for name in ("heartbeat_at", "ended_at")),
        *(f"agent_events.{name}" for name in ("run_id", "n")),
        *(f"sandbox_executions.{name}" for name in ("ended_at", "end_reason")),
    }


def test_every_reference_has_an_index_for_its_deletes(admin: Connection) -> None:
    """Deleting a user or a session finds its rows by an index, so that it does not read whole tables."""
    query = """
      select k.conname from pg_constraint k
      where k.connamespace = 'public'::regnamespace and k.contype = 'f' and not exists (
        select from pg_index i where i.indrelid = k.conrelid and i.indkey[0] = k.conkey[1] and i.indpred is null
      )
    """
    assert column(admin, query) == []


def test_a_deleted_user_takes_everything_along(rest: Connection, admin: Connection, run: Run) -> None:
    """With the user go sessions, runs, events, sandboxes and keys; another user's rows stay."""
    other = sign_up(admin, "stranger")
    for person in (run.owner, other):
        row = {"owner": person.id, "title": "kept?", "metadata": Jsonb({})}
        insert(admin, "agent_sessions", row)
    with admin.transaction():
        neighbours(admin, run)
    admin.execute("delete from auth.users where id = %s", (run.owner.id,))
    for table in ("agent_sessions", "agent_runs", "sandbox_executions", "idempotency_keys"):
        assert column(admin, f"select 1 from public.{table} where owner = %s", (run.owner.id,)) == [], table
    assert column(admin, "select 1 from public.agent_events where session_id = %s", (run.session_id,)) == []
    assert column(admin, "select 1 from public.agent_sessions where owner = %s", (other.id,)) == [1]

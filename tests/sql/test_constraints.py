"""The schema refuses bad rows by itself: for every constraint at least one row that only this constraint refuses."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.people import Connection, column, sign_up
from tests.sql.rows import BAD_ROWS, TABLES, TAKEN, UNTESTED, Changes, good_row, insert, neighbours
from tests.sql.runs import Run


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
        *(f"agent_sessions.{name}" for name in ("title", "agent_id", "agent", "environment_id", "environment")),
        *(f"agent_sessions.{name}" for name in ("archived_at", "budget_microusd")),
        *(f"agent_runs.{name}" for name in ("result", "error", "sandbox_id", "cancel_requested_at", "started_at")),
        *(f"agent_runs.{name}" for name in ("heartbeat_at", "ended_at")),
        *(f"agent_events.{name}" for name in ("run_id", "n")),
        *(f"sandbox_executions.{name}" for name in ("ended_at", "end_reason", "metered_at")),
        *(f"idempotency_keys.{name}" for name in ("run_id", "subject", "answer")),
        *(f"agents.{name}" for name in ("owner", "archived_at")),
        "agent_versions.owner",
        *(f"environments.{name}" for name in ("owner", "archived_at")),
        *(f"account_limits.{name}" for name in ("max_concurrent_sandboxes", "max_sandbox_duration_ms")),
        *(f"account_limits.{name}_per_minute" for name in ("submits", "messages", "others")),
        "account_limits.max_month_microusd",
        *(f"ledger.{name}" for name in ("session_id", "run_id", "kind", "model", "request_id", "request_microusd")),
        *(f"ledger.{name}" for name in ("prices_as_of", "price", "is_known")),
        *(f"research_tasks.{name}" for name in ("run_id", "embedding", "embedding_model", "source_task_id")),
        *(f"research_tasks.{name}" for name in ("similarity", "source_age_seconds", "answer", "error", "completed_at")),
        "session_attachments.title",
        "session_transcripts.entry_id",
        "run_repairs.claimed_at",
        *(f"api_keys.{name}" for name in ("expires_at", "last_used_at", "revoked_at")),
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
    """With the user goes all that is theirs, conversations and agents as well; another user's rows stay."""
    other = sign_up(admin, "stranger")
    for person in (run.owner, other):
        row = {"owner": person.id, "title": "kept?", "metadata": Jsonb({})}
        insert(admin, "agent_sessions", row)
    with admin.transaction():
        neighbours(admin, run)
    admin.execute("delete from auth.users where id = %s", (run.owner.id,))
    of_owner = ("agent_sessions", "agent_runs", "sandbox_executions", "idempotency_keys")
    for table in (*of_owner, "agents", "agent_versions", "environments"):
        assert column(admin, f"select 1 from public.{table} where owner = %s", (run.owner.id,)) == [], table
    for table in ("agent_events", "session_secrets", "session_attachments", "session_transcripts", "session_files"):
        ids = [run.session_id, TAKEN]
        assert column(admin, f"select 1 from public.{table} where session_id = any(%s)", (ids,)) == [], table
    assert column(admin, "select 1 from public.agent_sessions where owner = %s", (other.id,)) == [1]

"""Watch tokens: their role reads one session of its owner's, listens to it, and can do nothing else."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.conversations import new_turn
from tests.sql.people import Connection, Person, acting, column, refused, scalar, sign_up
from tests.sql.runs import HASH, Run, new_run, watcher
from tests.sql.test_access import SYSTEM
from tests.sql.test_topics import may_listen, may_send

# The same in every test process, since it is part of tests' names.
NOTHING = "00000000-0000-4000-8000-000000000000"
TABLES = ("agent_sessions", "agent_runs", "agent_events")


@pytest.fixture
def other(rest: Connection, admin: Connection, run: Run) -> Run:
    """Another session of the same owner's."""
    return new_run(rest, admin, run.owner)


def seen(rest: Connection, person: Person) -> set[tuple[str, UUID]]:
    """Each table with each session of which the person sees something in it."""
    with acting(rest, person):
        found = {table: column(rest, f"select {session_of(table)} from public.{table}") for table in TABLES}
    return {(table, id) for table, ids in found.items() for id in ids}


def everything(session_id: UUID) -> set[tuple[str, UUID]]:
    """What there is to see of one session."""
    return {(table, session_id) for table in TABLES}


def session_of(table: str) -> str:
    """The column that names the session."""
    return "id" if table == "agent_sessions" else "session_id"


def test_a_watcher_sees_its_session_and_no_other(rest: Connection, run: Run, other: Run) -> None:
    """Of two sessions of one owner the one that the token names, in all three tables, also where it asks by name."""
    person = watcher(run.session_id, run.owner)
    assert seen(rest, person) == everything(run.session_id)
    for table in TABLES:
        with acting(rest, person):
            by_name = f"select count(*) from public.{table} where {session_of(table)} = %s"
            assert scalar(rest, by_name, (other.session_id,)) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sub": None},
        {"sub": NOTHING},
        {"session_id": None},
        {"session_id": NOTHING},
        {"aud": None},
        {"aud": "runner"},
        {"aud": "authenticated"},
        {"role": "authenticated"},
    ],
    ids=str,
)
def test_a_token_that_does_not_fit_sees_nothing(
    admin: Connection, rest: Connection, run: Run, change: dict[str, Any]
) -> None:
    """The session must be the subject's, and the token one for watching: not to read, not to hear."""
    odd = watcher(run.session_id, run.owner, **change)
    assert seen(rest, odd) == set()
    assert not may_listen(admin, rest, odd, f"session:{run.session_id}")


def test_a_session_that_has_another_owner_now_is_not_watched(admin: Connection, rest: Connection, run: Run) -> None:
    """The token is its subject's, and says nothing about whose the session is."""
    stranger = sign_up(admin, "stranger")
    admin.execute("update public.agent_sessions set owner = %s where id = %s", (stranger.id, run.session_id))
    assert seen(rest, watcher(run.session_id, run.owner)) == set()


def test_a_deleted_session_shows_nothing(admin: Connection, rest: Connection, run: Run) -> None:
    """What is gone is gone, also for those who still hold a token for it."""
    admin.execute("delete from public.agent_sessions where id = %s", (run.session_id,))
    assert seen(rest, watcher(run.session_id, run.owner)) == set()


def test_a_watcher_sees_a_conversation_too(rest: Connection, admin: Connection, run: Run) -> None:
    """A conversation's log is read like a plan's."""
    turn = new_turn(rest, admin, run.owner)
    assert seen(rest, watcher(turn.session_id, run.owner)) == everything(turn.session_id)


def test_a_watcher_listens_to_its_session_only(admin: Connection, rest: Connection, run: Run, other: Run) -> None:
    """To broadcasts on the whole of its topic; it sends nothing, and is present nowhere."""
    person, topic = watcher(run.session_id, run.owner), f"session:{run.session_id}"
    assert may_listen(admin, rest, person, topic)
    assert not may_listen(admin, rest, person, topic, "presence")
    assert not may_send(rest, person, topic)
    assert not may_send(rest, person, topic, "presence")
    for wrong in (
        f"session:{other.session_id}",
        str(run.session_id),
        f"{topic}:x",
        f"x{topic}",
        topic.upper(),
        "",
        "session:",
    ):
        assert not may_listen(admin, rest, person, wrong), wrong


@pytest.mark.parametrize("end", ["revoked_at = now()", "created_at = now() - interval '2 h', expires_at = now()"])
def test_a_watcher_goes_with_the_key_that_asked_for_it(admin: Connection, rest: Connection, run: Run, end: str) -> None:
    """While the key holds the token is as good as another; then it shows nothing."""
    made = {"name": "a", "scopes": "{read}", "prefix": "sst_aaaaaaaa", "hash": uuid4().hex * 2, "request_hash": HASH}
    key = run.owner.call(rest, "create_key_v1", **made)
    person, topic = watcher(run.session_id, run.owner, key_id=key["id"]), f"session:{run.session_id}"
    assert seen(rest, person) == everything(run.session_id)
    assert may_listen(admin, rest, person, topic)
    admin.execute(f"update public.api_keys set {end} where id = %s", (key["id"],))
    assert seen(rest, person) == set()
    assert not may_listen(admin, rest, person, topic)
    unknown = watcher(run.session_id, run.owner, key_id="key_unknown")
    assert seen(rest, unknown) == set()


def test_a_watcher_asks_for_its_session_once_per_query(admin: Connection) -> None:
    """In a subselect, so that a log of a thousand events is not a thousand questions."""
    conditions = column(admin, "select qual from pg_policies where 'watcher' = any(roles)")
    assert len(conditions) == 5
    assert [text for text in conditions if "SELECT private.watched_session() AS watched_session" not in text] == []


def test_a_watcher_reads_five_tables_and_changes_none(admin: Connection) -> None:
    """SELECT on the log's three tables, on tasks and on Realtime's messages; no other right on any relation."""
    rights = admin.execute(
        f"""
        select c.oid::regclass::text, p.right_of
        from pg_class c join pg_namespace s on s.oid = c.relnamespace
        cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'])
          as p (right_of)
        where s.nspname not in {SYSTEM} and c.relkind in ('r','p','v','m','f') and (
          has_table_privilege('watcher', c.oid, p.right_of)
          or p.right_of in ('select', 'insert', 'update', 'references')
            and has_any_column_privilege('watcher', c.oid, p.right_of)
        )
        """
    ).fetchall()
    readable = {*TABLES, "research_tasks", "realtime.messages"}
    assert {(name.removeprefix("public."), right) for name, right in rights} == {(name, "select") for name in readable}
    sequences = f"""
      select c.oid::regclass::text from pg_class c join pg_namespace s on s.oid = c.relnamespace
      where s.nspname not in {SYSTEM}
        and case when c.relkind = 'S' then has_sequence_privilege('watcher', c.oid, 'usage, select, update') end
    """
    assert column(admin, sequences) == []


def test_a_watcher_calls_nothing(admin: Connection, rest: Connection, run: Run) -> None:
    """Of all functions in all schemas that the role may use it can execute none; it inherits nothing."""
    callable_by_watcher = column(
        admin,
        f"""
        select p.oid::regproc::text from pg_proc p join pg_namespace s on s.oid = p.pronamespace
        where s.nspname not in {SYSTEM}
          and has_schema_privilege('watcher', s.oid, 'usage') and has_function_privilege('watcher', p.oid, 'execute')
        """,
    )
    assert callable_by_watcher == []
    query = """
      select rolcanlogin or rolinherit or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication
      from pg_roles where rolname = 'watcher'
    """
    assert scalar(admin, query) is False
    assert column(admin, "select roleid::regrole::text from pg_auth_members where member = 'watcher'::regrole") == []
    with refused("42501"), acting(rest, watcher(run.session_id, run.owner)):
        rest.execute("select private.watched_session()")

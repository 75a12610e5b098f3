"""Who may do what: the catalogue against small tables of expectations. What is in no table here fails the suite."""

import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.sql.conversations import new_turn
from tests.sql.limits import allow
from tests.sql.people import ANON, API_ROLES, SERVICE, Connection, Person, acting, column, refused, scalar, sign_up
from tests.sql.permissions import ACTIONS, FUNCTIONS, PEOPLE, POLICIES, READERS
from tests.sql.runs import HASH, finish, new_run, watcher
from tests.sql.tasks import answered

SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"


@pytest.fixture
def people(rest: Connection, admin: Connection) -> dict[str, Person]:
    """Everyone, with one of the owner's finished plans, conversations, answered questions and agents to look at."""
    admin.execute("delete from auth.users")
    run = new_run(rest, admin, idempotency_key="key")
    SERVICE.call(rest, "record_sandbox_v1", run_id=run.id, sandbox_id=str(run.id), template="base")
    finish(rest, run.runner, 0)
    new_turn(rest, admin, run.owner)
    answered(rest, run.owner)
    agent = run.owner.call(rest, "create_agent_v1", config={"name": "a"}, request_hash=HASH)
    run.owner.call(rest, "update_agent_v1", agent_id=agent["id"], config={"name": "b"}, request_hash=HASH)
    allow(rest, admin, run.owner)
    run.owner.call(rest, "create_environment_v1", config={"name": "a"}, request_hash=HASH)
    of_key = {"name": "a", "scopes": "{read}", "prefix": "sst_aaaaaaaa", "hash": HASH}
    run.owner.call(rest, "create_key_v1", **of_key, request_hash=HASH)
    everyone = (
        run.owner, sign_up(admin, "stranger"), sign_up(admin, "anonymous user", anonymous=True), ANON, run.runner,
        SERVICE, watcher(run.session_id, run.owner),
    )  # fmt: skip
    return {person.name: person for person in everyone}


def attempt(rest: Connection, person: Person, statement: Any) -> int | None:
    """Rows seen or changed, 0 when only a constraint stood in the way, None when it is not permitted. Undone."""
    try:
        with rest.transaction(force_rollback=True), acting(rest, person):
            cursor = rest.execute(statement)
            return int(cursor.fetchall()[0][0]) if cursor.description else cursor.rowcount
    except psycopg.errors.InsufficientPrivilege:
        return None
    except psycopg.errors.IntegrityError:
        return 0


def tables(admin: Connection) -> list[str]:
    """Everything in public that holds or shows rows."""
    query = (
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r','p','v','m','f')"
    )
    return column(admin, query)


def first_column(admin: Connection, table: str) -> str:
    """The name of some column, for an update that changes nothing."""
    query = "select attname from pg_attribute where attrelid = %s::regclass and attnum = 1"
    return str(scalar(admin, query, (f"public.{table}",)))


def expected(table: str, person: str, action: str) -> int | None:
    """What the table of readers says; nobody writes any table directly."""
    return READERS[table][PEOPLE.index(person)] if action == "select" else None


def test_every_table_lets_each_person_do_exactly_what_is_written_here(
    rest: Connection, admin: Connection, people: dict[str, Person]
) -> None:
    """Each table, each person, select to delete: rows are the owner's only, and nobody writes at all."""
    names = tables(admin)
    assert set(names) == set(READERS)
    cells = [(table, person, action) for table in names for person in PEOPLE for action in ACTIONS]
    found = {}
    for table, person, action in cells:
        statement = ACTIONS[action].format(table, first_column(admin, table))
        found[table, person, action] = attempt(rest, people[person], statement)
    assert found == {cell: expected(*cell) for cell in cells}


def test_rows_of_others_cannot_be_reached_by_naming_them(
    rest: Connection, admin: Connection, people: dict[str, Person]
) -> None:
    """Two owners see disjoint rows, also where they ask for each other's ids."""
    other = new_run(rest, admin, people["stranger"])
    owner_id = people["owner"].id
    for table in ("agent_sessions", "agent_runs"):
        by_owner = f"select count(*) from public.{table} where owner = '{owner_id}'"
        assert attempt(rest, people["owner"], by_owner) == 3
        assert attempt(rest, people["stranger"], by_owner) == 0
    by_session = f"select count(*) from public.agent_events where session_id = '{other.session_id}'"
    assert attempt(rest, people["stranger"], by_session) == 1
    assert attempt(rest, people["owner"], by_session) == 0


def test_grants_on_tables_are_exactly_select(admin: Connection) -> None:
    """No API role, and not PUBLIC, holds more than SELECT on a table or a column: no truncate, no trigger."""
    grants = admin.execute(
        """
        select c.relname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type
        from pg_class c
        left join pg_attribute t on t.attrelid = c.oid and t.attacl is not null
        cross join lateral aclexplode(coalesce(c.relacl, '{}') || coalesce(t.attacl, '{}')) a
        left join pg_roles r on r.oid = a.grantee
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r','p','v','m','f','S')
          and a.grantee <> c.relowner
        """
    ).fetchall()
    people = {"authenticated": "owner", "service_role": "service", "watcher": "watcher"}
    columns = {role: PEOPLE.index(person) for role, person in people.items()}
    assert set(grants) == {
        (table, role, "SELECT")
        for table, seen in READERS.items()
        for role, column in columns.items()
        if seen[column] is not None
    }


def test_the_columns_that_nobody_reads(admin: Connection) -> None:
    """Of a table that is granted by its columns, what is left out is exactly this."""
    closed = admin.execute(
        """
        select c.relname, t.attname from pg_class c join pg_attribute t on t.attrelid = c.oid and t.attnum > 0
        where c.relnamespace = 'public'::regnamespace and has_any_column_privilege('authenticated', c.oid, 'select')
          and not has_column_privilege('authenticated', c.oid, t.attnum, 'select')
        """
    ).fetchall()
    assert closed == [("api_keys", "hash")]


def test_every_exposed_table_has_row_level_security_enabled_and_forced(admin: Connection, project: Path) -> None:
    """In each schema that PostgREST exposes, no table is without RLS, for its owner as well, and no view hides one."""
    exposed = tomllib.loads((project / "config.toml").read_text())["api"]["schemas"]
    open_tables = column(
        admin,
        """
        select c.oid::regclass::text from pg_class c join pg_namespace s on s.oid = c.relnamespace
        where s.nspname = any(%s) and c.relkind in ('r','p','v','m','f')
          and not (c.relrowsecurity and c.relforcerowsecurity)
        """,
        (exposed,),
    )
    assert exposed == ["public"]
    assert open_tables == []


def test_policies_are_exactly_these(admin: Connection) -> None:
    """No policy exists beyond the listed ones, all of which only read; each restricts nothing but adds one door."""
    query = """
      select p.schemaname, p.tablename, p.policyname, p.cmd, r from pg_policies p, unnest(p.roles) r
      where p.permissive = 'PERMISSIVE'
    """
    assert set(admin.execute(query).fetchall()) == POLICIES
    assert scalar(admin, "select count(*) from pg_policies") == len(POLICIES)


def test_policies_are_named_by_sentences(admin: Connection) -> None:
    """A policy's name says who may do what, in words."""
    named = column(admin, "select policyname from pg_policies")
    assert [name for name in named if len(name.split()) < 5 or "may" not in name.split()] == []


def test_policies_ask_for_the_user_once_per_query(admin: Connection) -> None:
    """auth.uid() stands in a subselect in every policy, so that it is not evaluated for every row."""
    conditions = column(admin, "select qual from pg_policies where qual like '%%auth.uid()%%'")
    assert len(conditions) == 13
    assert [text for text in conditions if "SELECT auth.uid() AS uid" not in text] == []


def test_every_function_is_executable_by_exactly_its_roles(admin: Connection) -> None:
    """Every function in public is in the table, under one signature, and nobody else may execute it; PUBLIC never."""
    rows = admin.execute(
        """
        select p.proname,
          coalesce(array_agg(r.name) filter (where has_function_privilege(r.name, p.oid, 'execute')), '{}')
        from pg_proc p cross join unnest(%s::text[]) r (name)
        where p.pronamespace = 'public'::regnamespace group by p.oid, p.proname
        """,
        ([*API_ROLES, "public", "authenticator"],),
    ).fetchall()
    assert len(rows) == len({name for name, _ in rows})
    assert {name: set(roles) for name, roles in rows} == FUNCTIONS


def test_functions_refuse_other_people_when_called(
    rest: Connection, admin: Connection, people: dict[str, Person]
) -> None:
    """Each function called by each person who is not in its row is refused before its body runs."""
    # So that every type is named with its schema: some people may not look into all of them.
    admin.execute("set search_path to ''")
    for name, roles in FUNCTIONS.items():
        types = scalar(admin, "select proargtypes::regtype[]::text[] from pg_proc where proname = %s", (name,))
        arguments = ", ".join(f"null::{kind}" for kind in types)
        for person in people.values():
            if person.role not in roles:
                assert attempt(rest, person, f"select public.{name}({arguments}) is null") is None, (name, person)


def test_the_runner_can_read_nothing(admin: Connection) -> None:
    """The role runner has no privilege on any table, view, sequence or column outside the system catalogues."""
    reachable = column(
        admin,
        f"""
        select c.oid::regclass::text from pg_class c join pg_namespace s on s.oid = c.relnamespace
        where s.nspname not in {SYSTEM}
          and (
            c.relkind in ('r','p','v','m','f') and (
              has_table_privilege('runner', c.oid, 'select, insert, update, delete, truncate, references, trigger')
              or has_any_column_privilege('runner', c.oid, 'select, insert, update, references')
            )
            or c.relkind = 'S' and has_sequence_privilege('runner', c.oid, 'usage, select, update')
          )
        """,
    )
    assert reachable == []


def test_the_runner_can_call_its_functions_and_nothing_else(admin: Connection) -> None:
    """Of all functions in all schemas that the role runner may use, it can execute the listed; it inherits nothing."""
    callable_by_runner = column(
        admin,
        f"""
        select p.oid::regproc::text from pg_proc p join pg_namespace s on s.oid = p.pronamespace
        where s.nspname not in {SYSTEM}
          and has_schema_privilege('runner', s.oid, 'usage') and has_function_privilege('runner', p.oid, 'execute')
        """,
    )
    assert sorted(callable_by_runner) == sorted(name for name, roles in FUNCTIONS.items() if roles == {"runner"})
    query = """
      select rolcanlogin or rolinherit or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication
      from pg_roles where rolname = 'runner'
    """
    assert scalar(admin, query) is False
    assert column(admin, "select roleid::regrole::text from pg_auth_members where member = 'runner'::regrole") == []
    assert not scalar(admin, "select has_schema_privilege('runner', 'public', 'create')")


def test_postgrest_may_become_exactly_five_roles(admin: Connection, rest: Connection) -> None:
    """authenticator can become the five API roles, is none of them by itself, and cannot become postgres."""
    members = column(admin, "select roleid::regrole::text from pg_auth_members where member = 'authenticator'::regrole")
    assert sorted(members) == sorted(API_ROLES)
    with refused("42501"):
        rest.execute("select * from public.agent_sessions")
    with refused("42501"):
        rest.execute("set role postgres")


def test_functions_with_rights_of_their_own_have_an_empty_search_path(admin: Connection) -> None:
    """No name in a function can be captured: search_path is empty, or the body was bound when it was created."""
    loose = column(
        admin,
        """
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)
          and not ('search_path=""' = any(coalesce(p.proconfig, '{}')))
          and (p.prosecdef or p.prosqlbody is null)
        """,
    )
    assert loose == []


def test_nothing_in_the_private_schema_is_reachable(
    rest: Connection, admin: Connection, people: dict[str, Person]
) -> None:
    """No role of PostgREST's has a right on the schema private; a direct call of one of its functions is refused."""
    for role in [*API_ROLES, "public", "authenticator"]:
        rights = scalar(admin, "select has_schema_privilege(%s, 'private', 'usage, create')", (role,))
        assert not rights, role
    for person in people.values():
        assert attempt(rest, person, "select private.is_live('running')::int") is None, person


def test_the_publication_holds_three_tables(admin: Connection) -> None:
    """Clients of postgres_changes can follow sessions, runs and events, and nothing else is published."""
    query = "select schemaname || '.' || tablename from pg_publication_tables where pubname = 'supabase_realtime'"
    assert sorted(column(admin, query)) == ["public.agent_events", "public.agent_runs", "public.agent_sessions"]


def test_a_table_made_without_thought_fails_the_suite(admin: Connection) -> None:
    """Hosted Supabase opens new tables to everyone: one that a migration forgot to close is seen by these checks."""
    with admin.transaction(force_rollback=True):
        admin.execute("set local role postgres")
        admin.execute("create table public.forgotten (id int)")
        assert "forgotten" in tables(admin)
        assert scalar(admin, "select has_table_privilege('anon', 'public.forgotten', 'select, insert, delete')")

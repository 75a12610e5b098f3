"""Realtime's private topics: who may listen to `session:<id>`, decided by the policy on realtime.messages."""

from uuid import uuid4

import psycopg
import pytest

from tests.sql.people import ANON, SERVICE, Connection, Person, acting, sign_up
from tests.sql.runs import Run

EXTENSIONS = ("broadcast", "presence")


def may_listen(admin: Connection, rest: Connection, person: Person, topic: str, extension: str = "broadcast") -> bool:
    """What Realtime asks when a client joins: does the person see a message on the topic?"""
    query = "insert into realtime.messages (topic, extension) values (%s, %s) returning id"
    (message,) = admin.execute(query, (topic, extension)).fetchall()[0]
    try:
        with acting(rest, person):
            rest.execute("select set_config('realtime.topic', %s, true)", (topic,))
            return rest.execute("select from realtime.messages where id = %s", (message,)).fetchone() is not None
    except psycopg.errors.InsufficientPrivilege:
        return False


def may_send(rest: Connection, person: Person, topic: str, extension: str = "broadcast") -> bool:
    """What Realtime asks before it lets a client write on the topic."""
    try:
        with rest.transaction(force_rollback=True), acting(rest, person):
            rest.execute("select set_config('realtime.topic', %s, true)", (topic,))
            rest.execute("insert into realtime.messages (topic, extension) values (%s, %s)", (topic, extension))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def users(admin: Connection, run: Run) -> list[Person]:
    """Everyone who comes with a user's, a runner's or no token."""
    return [run.owner, sign_up(admin, "stranger"), sign_up(admin, "anonymous user", anonymous=True), ANON, run.runner]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_only_the_owner_listens_to_a_session(admin: Connection, rest: Connection, run: Run, extension: str) -> None:
    """Of owner, stranger, anonymous user, anon and the run's own runner, the owner alone may listen."""
    topic = f"session:{run.session_id}"
    listeners = [person.name for person in users(admin, run) if may_listen(admin, rest, person, topic, extension)]
    assert listeners == ["owner"]


def test_an_anonymous_user_listens_to_a_session_of_its_own(admin: Connection, rest: Connection, run: Run) -> None:
    """Who signed in anonymously is an owner like any other, of its own sessions."""
    visitor = sign_up(admin, "anonymous user", anonymous=True)
    admin.execute("update public.agent_sessions set owner = %s where id = %s", (visitor.id, run.session_id))
    assert may_listen(admin, rest, visitor, f"session:{run.session_id}")
    assert not may_listen(admin, rest, run.owner, f"session:{run.session_id}")


def test_other_topics_are_closed_to_the_owner(admin: Connection, rest: Connection, run: Run) -> None:
    """A topic is the whole of `session:<id>`: no bare id, no prefix, no suffix, no other session, no other case."""
    own = str(run.session_id)
    topics = [
        own, f"session:{own}:x", f"session:{own} ", f"x:session:{own}", f"run:{run.id}", f"session:{run.id}", "",
        f"session:{uuid4()}", "session:", f"Session:{own}", f"session:{own.upper()}", "session:%",
    ]  # fmt: skip
    assert [topic for topic in topics if may_listen(admin, rest, run.owner, topic)] == []


def test_the_owner_without_a_topic_hears_nothing(admin: Connection, rest: Connection, run: Run) -> None:
    """Messages cannot be read through REST, where no topic is set."""
    with acting(rest, run.owner):
        rest.execute("select set_config('realtime.topic', '', true)")
        assert rest.execute("select count(*) from realtime.messages").fetchone() == (0,)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_nobody_sends_on_a_session(admin: Connection, rest: Connection, run: Run, extension: str) -> None:
    """No client can put a message on a session's topic, so what arrives there is the log's."""
    topic = f"session:{run.session_id}"
    assert [person.name for person in users(admin, run) if may_send(rest, person, topic, extension)] == []
    assert may_send(rest, SERVICE, topic, extension)


def test_a_listener_is_shut_out_when_the_session_is_deleted(admin: Connection, rest: Connection, run: Run) -> None:
    """The topic of a session that is gone belongs to nobody."""
    admin.execute("delete from public.agent_sessions where id = %s", (run.session_id,))
    assert not may_listen(admin, rest, run.owner, f"session:{run.session_id}")

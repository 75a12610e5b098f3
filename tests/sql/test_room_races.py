"""Many admissions of one owner at once: at no commit are more live than may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from threading import Barrier, Event

import psycopg
import pytest

from local.postgres import SUPERUSER
from tests.sql.conftest import Connect
from tests.sql.conversations import create, message, send
from tests.sql.limits import allow
from tests.sql.people import Connection, Person, column, refused, scalar, sign_up
from tests.sql.runs import Json, admit
from tests.sql.turns import DEADLINE_SECONDS, at_once, behind

LIMIT = 10
PEOPLE = 20
TRIES = 25
LIVE_IDS = "select id from public.agent_runs where owner = %s and private.is_live(status)"
LIVE = "select count(*) from public.agent_runs where owner = %s and private.is_live(status)"


@pytest.fixture
def owner(rest: Connection, admin: Connection) -> Person:
    """Someone who may have ten sandboxes and ask for them as often as they like."""
    owner = sign_up(admin)
    allow(rest, admin, owner, max_concurrent_sandboxes=LIMIT, submits_per_minute=100_000, messages_per_minute=100_000)
    return owner


def outcome(admit: Callable[[], Json]) -> str:
    """`admitted`, "replayed", or the word of the refusal."""
    try:
        answer = admit()
    except psycopg.Error as error:
        return str(error.diag.message_primary)
    return "replayed" if answer["replayed"] else "admitted"


def watch(connection: Connection, owner: Person, done: Event) -> set[int]:
    """How many were live, each time that this looked until `done`: every look sees what was committed just then."""
    seen = set()
    while not done.is_set():
        seen.add(int(scalar(connection, LIVE, (owner.id,))))
    return seen


def test_five_hundred_submits_never_have_eleven_live(connect: Connect, admin: Connection, owner: Person) -> None:
    """Twenty people submit 25 times each, while runs end and others look: ten live at most, and ten in the end."""
    done = Event()
    finished = Barrier(PEOPLE, action=done.set)

    def submit(connection: Connection) -> Counter[str]:
        try:
            return Counter(outcome(partial(admit, connection, owner)) for _ in range(TRIES))
        finally:
            finished.wait(DEADLINE_SECONDS)

    def end(connection: Connection) -> Counter[str]:
        query = "select private.end_run(id, 'lost', null, null) from public.agent_runs where id = %s"
        ended = 0
        while not done.is_set() and ended < 100:
            for run in column(connection, LIVE_IDS, (owner.id,))[LIMIT - 1 :]:
                connection.execute(query, (run,))
                ended += 1
        return Counter(ended=ended)

    submitters = [partial(submit, connect("authenticator")) for _ in range(PEOPLE)]
    looks: list[set[int]] = []

    def look(connection: Connection) -> Counter[str]:
        looks.append(watch(connection, owner, done))
        return Counter()

    total = sum(at_once([*submitters, partial(end, connect(SUPERUSER)), partial(look, connect(SUPERUSER))]), Counter())
    assert total["admitted"] + total["too_many_sandboxes"] == PEOPLE * TRIES
    assert total["admitted"] - total["ended"] == scalar(admin, LIVE, (owner.id,))
    assert max(looks[0]) <= LIMIT


def test_two_hundred_submits_with_one_key_are_one(connect: Connect, admin: Connection, owner: Person) -> None:
    """One is admitted, 199 are told of it, none is refused: though the owner may have no second one."""
    allow(connect("authenticator"), admin, owner, max_concurrent_sandboxes=1)

    def submit(connection: Connection) -> Counter[str]:
        return Counter(outcome(partial(admit, connection, owner, idempotency_key="k")) for _ in range(10))

    total = sum(at_once([partial(submit, connect("authenticator")) for _ in range(PEOPLE)]), Counter())
    assert total == {"admitted": 1, "replayed": 199}
    assert scalar(admin, "select count(*) from public.agent_runs where owner = %s", (owner.id,)) == 1


@pytest.mark.parametrize("again", range(3))
def test_all_three_doors_lead_to_one_room(
    rest: Connection, connect: Connect, admin: Connection, owner: Person, again: int
) -> None:
    """Plans, conversations and messages at the same time are counted together."""
    sessions = [create(rest, owner)["session"]["id"] for _ in range(6)]
    calls: list[Callable[[], Json]] = []
    for session in sessions:
        first, second, third = (connect("authenticator") for _ in range(3))
        calls.append(partial(admit, first, owner))
        calls.append(partial(create, second, owner, message()))
        calls.append(partial(send, third, owner, session, message()))
    found = Counter(at_once([partial(outcome, call) for call in calls]))
    assert found == {"admitted": LIMIT, "too_many_sandboxes": 18 - LIMIT}
    assert scalar(admin, LIVE, (owner.id,)) == LIMIT


def test_the_last_room_is_waited_for(rest: Connection, connect: Connect, admin: Connection, owner: Person) -> None:
    """Who asks while the last one is being given waits, and hears that it is gone."""
    allow(rest, admin, owner, max_concurrent_sandboxes=1)
    session = create(rest, owner)["session"]["id"]
    second = connect("authenticator")
    with refused("PT429", "too_many_sandboxes"):
        behind(admin, rest, lambda: admit(rest, owner), second, lambda: send(second, owner, session, message()))


def test_the_last_room_is_had_when_it_was_not_taken(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """An admission that is rolled back leaves its room to whoever waited."""
    allow(rest, admin, owner, max_concurrent_sandboxes=1)
    session = create(rest, owner)["session"]["id"]
    second = connect("authenticator")
    answer = behind(
        admin, rest, lambda: admit(rest, owner), second, lambda: send(second, owner, session, message()), commit=False
    )
    assert answer["admitted"] is True


def test_owners_do_not_wait_for_each_other(rest: Connection, connect: Connect, admin: Connection) -> None:
    """While one owner's admission is not committed, another's is."""
    second = connect("authenticator")
    with rest.transaction():
        admit(rest, sign_up(admin))
        second.execute("set statement_timeout = '10s'")
        assert admit(second, sign_up(admin))["replayed"] is False

"""What is said while a turn ends, or another is admitted: exactly one run has it, and no message is lost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import psycopg
import pytest

from tests.sql.conftest import Connect
from tests.sql.conversations import (
    ask,
    confirmation,
    create,
    end_turn,
    message,
    new_turn,
    send,
    session_row,
    take,
    texts,
    turn_of,
    types_of,
)
from tests.sql.people import SERVICE, Connection, Person, column, refused
from tests.sql.runs import HASH, Json, Run, append, finish, lose, row_of
from tests.sql.turns import at_once, behind

ERROR: Json = {"type": "sandbox_lost"}


@pytest.fixture
def turn(rest: Connection, admin: Connection, owner: Person) -> Run:
    """A turn that has taken all that was said, and is about to end."""
    turn = new_turn(rest, admin, owner)
    take(rest, turn)
    return turn


def live(admin: Connection, session_id: object) -> list[str]:
    """The ids of the session's live runs."""
    query = "select id::text from public.agent_runs where session_id = %s and private.is_live(status)"
    return column(admin, query, (session_id,))


def drain(rest: Connection, admin: Connection, turn: Run, after: int) -> list[str]:
    """The texts that the turn is given until nothing waits; it has ended then."""
    given: list[str] = []
    while True:
        page = take(rest, turn, after)
        given += texts(page["events"])
        after = page["last_seq"]
        try:
            finish(rest, turn.runner, 0)
        except psycopg.Error as error:
            assert error.diag.message_primary == "input_pending"  # noqa: PT017 any other refusal is the test's failure
        else:
            return given


def test_a_message_that_comes_while_the_turn_ends(
    rest: Connection, connect: Connect, admin: Connection, turn: Run
) -> None:
    """The end first: the message waits, finds no run, and admits the next one."""
    second = connect("authenticator")
    answer = behind(
        admin,
        rest,
        lambda: finish(rest, turn.runner, 0),
        second,
        lambda: send(second, turn.owner, turn.session_id, message("next")),
    )
    assert (answer["admitted"], answer["run"]["input"]) == (True, {"after_seq": 1})
    assert row_of(admin, turn)["status"] == "succeeded"
    assert texts(take(rest, turn_of(answer, turn.owner), after=1)["events"]) == ["next"]


def test_a_turn_that_ends_while_a_message_comes(
    rest: Connection, connect: Connect, admin: Connection, turn: Run
) -> None:
    """The message first: the end waits, and is told that something waits for it."""
    second = connect("authenticator")
    with refused("PT409", "input_pending"):
        behind(
            admin,
            rest,
            lambda: send(rest, turn.owner, turn.session_id, message("next")),
            second,
            lambda: finish(second, turn.runner, 0),
        )
    assert live(admin, turn.session_id) == [str(turn.id)]
    assert drain(rest, admin, turn, after=1) == ["next"]


def test_a_turn_ends_when_the_message_was_undone(
    rest: Connection, connect: Connect, admin: Connection, turn: Run
) -> None:
    """The end waits for the message, and stands when that did not happen after all."""
    second = connect("authenticator")
    answer = behind(
        admin,
        rest,
        lambda: send(rest, turn.owner, turn.session_id, message("next")),
        second,
        lambda: finish(second, turn.runner, 0),
        commit=False,
    )
    assert answer["status"] == "succeeded"


def test_two_messages_to_a_session_at_rest_are_one_turn(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """The second waits for the first, finds its run live, and is given to that one."""
    session_id = create(rest, owner)["session"]["id"]
    second = connect("authenticator")
    first: list[Json] = []
    later = behind(
        admin,
        rest,
        lambda: first.append(send(rest, owner, session_id, message("a"))),
        second,
        lambda: send(second, owner, session_id, message("b")),
    )
    assert (first[0]["admitted"], later["admitted"]) == (True, False)
    assert later["run"]["id"] == first[0]["run"]["id"]
    assert texts(take(rest, turn_of(first[0], owner))["events"]) == ["a", "b"]


def test_a_rejecting_message_sees_the_run_that_was_just_admitted(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """Of two clients that would not disturb a turn, the second is told that the session is busy."""
    session_id = create(rest, owner)["session"]["id"]
    second = connect("authenticator")
    with refused("PT409", "session_busy"):
        behind(
            admin,
            rest,
            lambda: send(rest, owner, session_id, message("a"), on_busy="reject"),
            second,
            lambda: send(second, owner, session_id, message("b"), on_busy="reject"),
        )
    assert types_of(admin, session_id) == ["user.message", "run.created"]


@pytest.mark.parametrize("again", range(5))
def test_messages_while_a_turn_ends_over_and_over(
    rest: Connection, connect: Connect, admin: Connection, turn: Run, again: int
) -> None:
    """Eight people speak while the turn ends: each message is given to exactly one run, and one run at most is live."""
    people = [connect("authenticator") for _ in range(8)]
    runner = connect("authenticator")

    def end() -> Json:
        try:
            return finish(runner, turn.runner, 0)
        except psycopg.Error as error:
            return {"refused": error.diag.message_primary}

    speak: list[Callable[[], Json]] = [
        lambda c=c, n=n: send(c, turn.owner, turn.session_id, message(str(n)))  # type: ignore[misc]
        for n, c in enumerate(people)
    ]
    *answers, ended = at_once([*speak, end])
    assert len(live(admin, turn.session_id)) == 1
    admitted = [answer for answer in answers if answer["admitted"]]
    if "refused" in ended:
        assert (ended["refused"], admitted) == ("input_pending", [])
        given = drain(rest, admin, turn, after=1)
    else:
        assert len(admitted) == 1
        given = drain(rest, admin, turn_of(admitted[0], turn.owner), after=1)
    assert sorted(given) == sorted(str(n) for n in range(8))
    assert len(types_of(admin, turn.session_id)) == session_row(admin, turn.session_id)["last_seq"]
    assert live(admin, turn.session_id) == []


def test_ten_repeats_of_one_message_at_once_are_one(
    connect: Connect, rest: Connection, admin: Connection, owner: Person
) -> None:
    """With one key: one event, one run, which exactly one of the ten must launch."""
    session_id = create(rest, owner)["session"]["id"]
    connections = [connect("authenticator") for _ in range(10)]
    calls = [lambda c=c: send(c, owner, session_id, message(), idempotency_key="k") for c in connections]
    answers = at_once(calls)
    assert [answer["admitted"] for answer in answers].count(True) == 1
    assert len({answer["run"]["id"] for answer in answers}) == 1
    assert types_of(admin, session_id) == ["user.message", "run.created"]


def test_ten_retries_of_a_failed_launch_admit_one_run(
    connect: Connect, rest: Connection, admin: Connection, owner: Person
) -> None:
    """The message stands once, and one run is admitted in place of the one that could not be launched."""
    first = create(rest, owner, message(), idempotency_key="k")
    SERVICE.call(rest, "fail_launch_v1", run_id=first["run"]["id"], error=ERROR)
    connections = [connect("authenticator") for _ in range(10)]
    calls = [lambda c=c: create(c, owner, message(), idempotency_key="k") for c in connections]
    answers = at_once(calls)
    assert [answer["admitted"] for answer in answers].count(True) == 1
    assert {answer["run"]["id"] for answer in answers} == set(live(admin, first["session"]["id"]))
    assert types_of(admin, first["session"]["id"]).count("user.message") == 1


def test_a_message_that_comes_while_the_run_is_lost(
    rest: Connection, connect: Connect, admin: Connection, turn: Run
) -> None:
    """The loss first: the message waits, and admits the next run."""
    second = connect("authenticator")
    answer = behind(
        admin,
        rest,
        lambda: SERVICE.call(rest, "lose_run_v1", run_id=turn.id, error=ERROR),
        second,
        lambda: send(second, turn.owner, turn.session_id, message("next")),
    )
    assert answer["admitted"]
    assert live(admin, turn.session_id) == [answer["run"]["id"]]


def test_a_run_that_is_lost_with_a_message_waiting(
    rest: Connection, connect: Connect, admin: Connection, turn: Run
) -> None:
    """The message first, to the run that is then lost: it waits for whoever admits the next, and once only."""
    second, third = connect("authenticator"), connect("authenticator")
    behind(
        admin,
        rest,
        lambda: send(rest, turn.owner, turn.session_id, message("next")),
        second,
        lambda: SERVICE.call(second, "lose_run_v1", run_id=turn.id, error=ERROR),
    )

    def admit(connection: Connection) -> Json:
        arguments = {"session_id": turn.session_id, "limit_seconds": 60}
        return dict(turn.owner.call(connection, "admit_waiting_v1", **arguments))

    answers = at_once([lambda: admit(second), lambda: admit(third)])
    assert sorted(answer["admitted"] for answer in answers) == [False, True]
    assert len({answer["run"]["id"] for answer in answers}) == 1
    (admitted,) = [answer for answer in answers if answer["admitted"]]
    assert texts(take(rest, turn_of(admitted, turn.owner), after=1)["events"]) == ["next"]


@pytest.mark.parametrize("act", ["archive_session_v1", "delete_session_v1"])
def test_a_message_that_comes_while_the_session_goes(
    rest: Connection, connect: Connect, admin: Connection, turn: Run, act: str
) -> None:
    """The end of the session first: the message waits, and finds it terminated, or not at all."""
    end_turn(rest, admin, turn)
    second = connect("authenticator")
    word = {"archive_session_v1": ("PT409", "session_terminated"), "delete_session_v1": ("PT404", "session_not_found")}
    with refused(*word[act]):
        behind(
            admin,
            rest,
            lambda: turn.owner.call(rest, act, session_id=turn.session_id, request_hash=HASH),
            second,
            lambda: send(second, turn.owner, turn.session_id, message("late")),
        )
    assert live(admin, turn.session_id) == []


@pytest.mark.parametrize("act", ["archive_session_v1", "delete_session_v1"])
def test_a_session_that_goes_while_a_message_comes(
    rest: Connection, connect: Connect, admin: Connection, turn: Run, act: str
) -> None:
    """The message first: the session is at work again, and is left alone."""
    end_turn(rest, admin, turn)
    second = connect("authenticator")
    with refused("PT409", "session_running"):
        behind(
            admin,
            rest,
            lambda: send(rest, turn.owner, turn.session_id, message("more")),
            second,
            lambda: turn.owner.call(second, act, session_id=turn.session_id, request_hash=HASH),
        )
    assert len(live(admin, turn.session_id)) == 1


def test_an_answer_while_its_session_is_archived(
    rest: Connection, connect: Connect, admin: Connection, turn: Run
) -> None:
    """The archiving first: it ends the waiting run, and the answer finds the session terminated."""
    id = ask(rest, turn)
    second = connect("authenticator")
    with refused("PT409", "session_terminated"):
        behind(
            admin,
            rest,
            lambda: turn.owner.call(rest, "archive_session_v1", session_id=turn.session_id, request_hash=HASH),
            second,
            lambda: send(second, turn.owner, turn.session_id, confirmation(id)),
        )
    assert row_of(admin, turn)["status"] == "cancelled"


def test_what_is_said_while_the_runner_writes(connect: Connect, rest: Connection, admin: Connection, turn: Run) -> None:
    """People and the runner write at the same time: seq has no hole, and each of the people's words is taken once."""
    people = [connect("authenticator") for _ in range(4)]
    runner, reader = connect("authenticator"), connect("authenticator")
    numbers = count(1)

    def speak(connection: Connection, who: int) -> list[str]:
        for k in range(10):
            send(connection, turn.owner, turn.session_id, message(f"{who}-{k}"))
        return []

    def write() -> list[str]:
        for _ in range(40):
            append(runner, turn.runner, [next(numbers)])
        return []

    def listen() -> list[str]:
        given: list[str] = []
        after = 1
        while len(given) < 40:
            page = take(reader, turn, after)
            given += texts(page["events"])
            after = page["last_seq"]
        return given

    speakers: list[Callable[[], list[str]]] = [lambda c=c, n=n: speak(c, n) for n, c in enumerate(people)]  # type: ignore[misc]
    *_, given = at_once([*speakers, write, listen])
    assert sorted(given) == sorted(f"{who}-{k}" for who in range(4) for k in range(10))
    assert len(types_of(admin, turn.session_id)) == 2 + 40 + 40
    row = session_row(admin, turn.session_id)
    assert row["message_seq"] == row["taken_seq"] == row["input_seq"]


def test_the_other_runs_of_a_session_are_over(rest: Connection, admin: Connection, turn: Run) -> None:
    """A run that was lost while its runner lived cannot take what was said to the next one."""
    lose(admin, turn)
    send(rest, turn.owner, turn.session_id, message("for the next"))
    with refused("PT409", "run_finished"):
        take(rest, turn, after=1)
    with refused("PT409", "run_finished"):
        append(rest, turn.runner, [1])
    assert finish(rest, turn.runner, 0)["status"] == "lost"

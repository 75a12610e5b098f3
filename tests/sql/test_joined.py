"""Equal questions at the same time: one owner's share a run, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.sql.conftest import Connect
from tests.sql.money import cost_of, month, priced
from tests.sql.people import SERVICE, Connection, Person, refused, scalar, sign_up
from tests.sql.runs import HASH, OTHER_HASH, Json, append, finish
from tests.sql.tasks import ask, run_of, task_row
from tests.sql.turns import at_once, behind

ASKERS = 50


@pytest.fixture
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


@pytest.fixture
def first(rest: Connection, owner: Person) -> Json:
    """The answer to the first asker."""
    return ask(rest, owner, question_hash=HASH)


def count(admin: Connection, table: str, owner: Person) -> int:
    """The owner's rows."""
    return int(scalar(admin, f"select count(*) from public.{table} where owner = %s", (owner.id,)))


def cancel(rest: Connection, owner: Person, asked: Json) -> None:
    """The owner wants the run to stop."""
    owner.call(rest, "request_cancel_v1", run_id=asked["run"]["id"], request_hash=HASH)


def test_an_equal_question_is_answered_by_the_run_there_is(
    rest: Connection, admin: Connection, owner: Person, first: Json
) -> None:
    """While it is launched and while it runs: the same task and run, and nothing new."""
    for status in ("launching", "running"):
        second = ask(rest, owner, question_hash=HASH, query="otherwise put")
        assert (second["joined"], second["replayed"]) == (True, False)
        assert (second["task"]["id"], second["task"]["query"]) == (first["task"]["id"], "What is it?")
        assert (second["run"]["id"], second["run"]["status"]) == (first["run"]["id"], status)
        append(rest, run_of(first, owner).runner, [1])
    assert [count(admin, table, owner) for table in ("agent_sessions", "agent_runs", "research_tasks")] == [1, 1, 1]


def test_nobody_joins_a_run_that_has_ended(rest: Connection, owner: Person, first: Json) -> None:
    """Who asks afterwards has a run of their own, unless the endpoint finds the answer in memory."""
    finish(rest, run_of(first, owner).runner, 0)
    second = ask(rest, owner, question_hash=HASH)
    assert second["joined"] is False
    assert second["task"]["id"] != first["task"]["id"]


def test_nobody_joins_a_run_that_shall_stop(rest: Connection, owner: Person, first: Json) -> None:
    """Whoever asks again wants an answer: they have a run of their own, and that one is shared."""
    cancel(rest, owner, first)
    second, third = (ask(rest, owner, question_hash=HASH) for _ in range(2))
    assert (second["joined"], third["joined"]) == (False, True)
    assert first["task"]["id"] != second["task"]["id"] == third["task"]["id"]
    assert task_row(rest, owner, first["task"]["id"])["status"] == "launching"


@pytest.mark.parametrize("sharing", [(True, False), (False, True), (False, False)], ids=str)
def test_both_must_share(rest: Connection, owner: Person, sharing: tuple[bool, bool]) -> None:
    """Who wants a run for themselves joins nobody, and nobody joins them."""
    asked = [ask(rest, owner, question_hash=HASH, is_shared=is_shared) for is_shared in sharing]
    assert [one["joined"] for one in asked] == [False, False]


def test_another_question_is_another_run(rest: Connection, owner: Person, first: Json) -> None:
    """Only the hash tells that two are equal."""
    assert ask(rest, owner, question_hash=OTHER_HASH)["joined"] is False


def test_another_owner_has_a_run_of_their_own(rest: Connection, admin: Connection, first: Json) -> None:
    """An equal question of a stranger's neither sees nor shares the owner's task."""
    asked = ask(rest, sign_up(admin, "stranger"), question_hash=HASH)
    assert asked["joined"] is False
    assert asked["task"]["session_id"] != first["task"]["session_id"]


def test_joining_needs_no_room_and_no_money(
    rest: Connection, admin: Connection, owner: Person, first: Json, prices: None
) -> None:
    """Nothing is reserved a second time; only its embedding is charged, to the session that answers it."""
    reserves = "select count(*) from public.ledger where owner = %s and entry = 'reserve'"
    ask(rest, owner, question_hash=HASH, budget_microusd=0, embedding_tokens=1000)
    assert scalar(admin, reserves, (owner.id,)) == 1
    assert month(rest, owner)["spent_microusd"] == cost_of(admin, first["task"]["session_id"]) == 20


def test_a_key_that_joined_is_its_tasks(rest: Connection, admin: Connection, owner: Person, first: Json) -> None:
    """Sent again it answers the task it joined, also when that has ended; sent for another question it is refused."""
    second = ask(rest, owner, question_hash=HASH, idempotency_key="k")
    finish(rest, run_of(first, owner).runner, 0)
    again = ask(rest, owner, question_hash=HASH, idempotency_key="k")
    assert (again["replayed"], again["joined"]) == (True, True)
    assert again["task"]["id"] == second["task"]["id"] == first["task"]["id"]
    assert again["task"]["status"] == "completed"
    with refused("PT409", "idempotency_key_reused"):
        ask(rest, owner, question_hash=OTHER_HASH, request_hash=OTHER_HASH, idempotency_key="k")
    assert count(admin, "research_tasks", owner) == 1


def test_a_failed_launch_gives_everyones_key_back(rest: Connection, admin: Connection, owner: Person) -> None:
    """Of the asker who began the run and of those who joined it; sent again, they share the next one."""
    keys = ("a", "b", "c")
    asked = [ask(rest, owner, question_hash=HASH, idempotency_key=key) for key in keys]
    assert count(admin, "idempotency_keys", owner) == 3
    SERVICE.call(rest, "fail_launch_v1", run_id=asked[0]["run"]["id"], error={"type": "no_sandbox"})
    assert count(admin, "idempotency_keys", owner) == 0
    again = [ask(rest, owner, question_hash=HASH, idempotency_key=key) for key in keys]
    assert [(one["replayed"], one["joined"]) for one in again] == [(False, False), (False, True), (False, True)]
    assert len({one["task"]["id"] for one in again}) == 1


def test_fifty_askers_at_once_have_one_run(connect: Connect, admin: Connection, owner: Person) -> None:
    """Each with a key of its own, as fifty browsers would: one begins the run, all others hear of it."""
    asks = [
        partial(ask, connect("authenticator"), owner, question_hash=HASH, idempotency_key=str(number))
        for number in range(ASKERS)
    ]
    answers = at_once(asks)
    assert sorted(answer["joined"] for answer in answers) == [False] + [True] * (ASKERS - 1)
    assert len({answer["run"]["id"] for answer in answers}) == 1
    assert [count(admin, table, owner) for table in ("agent_sessions", "agent_runs", "research_tasks")] == [1, 1, 1]
    assert count(admin, "idempotency_keys", owner) == ASKERS


def test_the_second_asker_waits_for_the_first(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """It does not look before the first has committed, and begins the run itself when the first is undone."""
    second = connect("authenticator")
    send = partial(ask, owner=owner, question_hash=HASH)
    for commit, joined in ((False, False), (True, True)):
        answer = behind(admin, rest, lambda: send(rest), second, lambda: send(second), commit=commit)
        assert answer["joined"] is joined
        finish(second, run_of(answer, owner).runner, 0)


def test_joining_while_the_run_ends_waits_for_nobody_for_ever(
    rest: Connection, connect: Connect, admin: Connection, owner: Person, first: Json, prices: None
) -> None:
    """The asker is charged in the session whose run is just ending: it waits for that end, and both commit."""
    second = connect("authenticator")
    run = run_of(first, owner)
    answer = behind(
        admin, rest, lambda: finish(rest, run.runner, 0),
        second, lambda: ask(second, owner, question_hash=HASH, embedding_tokens=1000),
    )  # fmt: skip
    assert (answer["joined"], answer["task"]["status"]) == (True, "completed")

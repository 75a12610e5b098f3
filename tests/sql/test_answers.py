"""Answers to Claude's questions: to a tool use of this session, once, and only while its run waits."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.sql.conftest import Connect
from tests.sql.conversations import (
    ask,
    confirmation,
    custom_result,
    end_turn,
    interrupt,
    message,
    new_turn,
    say,
    send,
    session_row,
    take,
    turn_of,
    types_of,
)
from tests.sql.people import SERVICE, Connection, refused, sign_up
from tests.sql.runs import Json, Run
from tests.sql.turns import at_once, behind

Answer = Callable[[str], Json]
QUESTIONS: list[tuple[str, Answer]] = [
    ("agent.tool_use", confirmation),
    ("agent.mcp_tool_use", confirmation),
    ("agent.custom_tool_use", custom_result),
]
every_question = pytest.mark.parametrize(("kind", "answer"), QUESTIONS, ids=[kind for kind, _ in QUESTIONS])


def answers(admin: Connection, run: Run) -> list[str]:
    """The types of the answers in the session's log."""
    return [kind for kind in types_of(admin, run.session_id) if kind.startswith(("user.tool_", "user.custom_"))]


@every_question
def test_an_answer_reaches_the_run_that_asked(
    rest: Connection, admin: Connection, turn: Run, kind: str, answer: Answer
) -> None:
    """It is logged for the live run, which is told of it and takes it; nothing is launched."""
    id = ask(rest, turn, kind=kind)
    told = send(rest, turn.owner, turn.session_id, answer(id))
    assert (told["admitted"], told["run"]["id"]) == (False, str(turn.id))
    seq = told["events"][0]["seq"]
    assert turn.runner.call(rest, "heartbeat_v1")["input_seq"] == seq
    (given,) = take(rest, turn, after=1)["events"]
    assert (given["seq"], given["type"]) == (seq, told["events"][0]["type"])
    assert id in given["data"].values()


@every_question
def test_a_question_is_answered_once(rest: Connection, admin: Connection, turn: Run, kind: str, answer: Answer) -> None:
    """Another answer, even the opposite one, is PT409 already_answered; the same request under its key is not."""
    id = ask(rest, turn, kind=kind)
    first = send(rest, turn.owner, turn.session_id, answer(id), idempotency_key="k")
    assert send(rest, turn.owner, turn.session_id, answer(id), idempotency_key="k")["events"] == first["events"]
    with refused("PT409", "already_answered"):
        send(rest, turn.owner, turn.session_id, answer(id), message())
    assert len(answers(admin, turn)) == 1


@every_question
def test_two_answers_at_once_are_one(
    rest: Connection, connect: Connect, admin: Connection, turn: Run, kind: str, answer: Answer
) -> None:
    """Two people answer the same question: the second waits for the first and is told that it came late."""
    id = ask(rest, turn, kind=kind)
    second = connect("authenticator")

    def reply(connection: Connection) -> Json:
        return send(connection, turn.owner, turn.session_id, answer(id))

    with refused("PT409", "already_answered"):
        behind(admin, rest, lambda: reply(rest), second, lambda: reply(second))
    assert len(answers(admin, turn)) == 1


def test_of_ten_answers_at_once_one_wins(connect: Connect, rest: Connection, admin: Connection, turn: Run) -> None:
    """Nine are refused as already_answered, whatever the order."""
    id = ask(rest, turn)
    connections = [connect("authenticator") for _ in range(10)]

    def reply(connection: Connection) -> str:
        try:
            send(connection, turn.owner, turn.session_id, confirmation(id))
        except psycopg.Error as error:
            return error.diag.message_primary or ""
        return "won"

    won = at_once([lambda c=c: reply(c) for c in connections])  # type: ignore[misc]
    assert sorted(won) == ["already_answered"] * 9 + ["won"]
    assert len(answers(admin, turn)) == 1


def test_an_answer_when_the_first_was_undone(rest: Connection, connect: Connect, admin: Connection, turn: Run) -> None:
    """The second waits, and is taken when the first did not happen after all."""
    id = ask(rest, turn)
    second = connect("authenticator")
    told = behind(
        admin,
        rest,
        lambda: send(rest, turn.owner, turn.session_id, confirmation(id, "deny")),
        second,
        lambda: send(second, turn.owner, turn.session_id, confirmation(id)),
        commit=False,
    )
    assert told["events"][0]["data"]["result"] == "allow"


def test_one_request_does_not_answer_twice(rest: Connection, admin: Connection, turn: Run) -> None:
    """Two answers to one question beside each other are refused together."""
    id = ask(rest, turn)
    with refused("PT409", "already_answered"):
        send(rest, turn.owner, turn.session_id, confirmation(id), confirmation(id, "deny"))
    assert answers(admin, turn) == []


def test_several_questions_are_answered_together(rest: Connection, admin: Connection, turn: Run) -> None:
    """Each of them once, in one request."""
    first, second = ask(rest, turn), ask(rest, turn, n=3)
    told = send(rest, turn.owner, turn.session_id, confirmation(second), confirmation(first, "deny"))
    assert [event["data"]["tool_use_id"] for event in told["events"]] == [second, first]


@pytest.mark.parametrize("answer", [confirmation, custom_result])
@pytest.mark.parametrize("id", ["sevt_toolu_nothing", "", "x" * 200])
def test_nothing_is_answered_that_was_not_asked(rest: Connection, turn: Run, answer: Answer, id: str) -> None:
    """An id that no tool use of the session has is PT400 no_such_tool_use."""
    ask(rest, turn)
    with refused("PT400", "no_such_tool_use"):
        send(rest, turn.owner, turn.session_id, answer(id))


def test_an_answer_without_an_id_is_refused(rest: Connection, turn: Run) -> None:
    """PT400 no_such_tool_use, not a row that answers nothing."""
    ask(rest, turn)
    with refused("PT400", "no_such_tool_use"):
        send(rest, turn.owner, turn.session_id, {"type": "user.tool_confirmation", "result": "allow"})


def test_a_question_is_answered_in_its_own_way(rest: Connection, turn: Run) -> None:
    """A custom tool is not confirmed, and a built-in one gets no result from outside."""
    built_in, custom = ask(rest, turn), ask(rest, turn, n=3, kind="agent.custom_tool_use")
    for wrong in (confirmation(custom), custom_result(built_in)):
        with refused("PT400", "no_such_tool_use"):
            send(rest, turn.owner, turn.session_id, wrong)


def test_questions_of_another_session_are_not_answered_here(rest: Connection, admin: Connection, turn: Run) -> None:
    """Neither the same owner's other session nor a stranger's has this tool use."""
    id = ask(rest, turn)
    for owner in (turn.owner, sign_up(admin, "stranger")):
        other = new_turn(rest, admin, owner)
        with refused("PT400", "no_such_tool_use"):
            send(rest, owner, other.session_id, confirmation(id))
    assert answers(admin, turn) == []


def test_a_long_id_is_compared_whole(rest: Connection, turn: Run) -> None:
    """The index holds the first 128 characters only; ids that differ after them are different."""
    say(rest, turn.runner, 1, "agent.tool_use", id="x" * 200, name="bash", input={})
    with refused("PT400", "no_such_tool_use"):
        send(rest, turn.owner, turn.session_id, confirmation("x" * 199))
    assert send(rest, turn.owner, turn.session_id, confirmation("x" * 200))["events"]


def test_an_ended_run_waits_for_nothing(rest: Connection, admin: Connection, turn: Run) -> None:
    """PT409 not_waiting: without a live run, and when the live one is not the one that asked."""
    id = ask(rest, turn)
    end_turn(rest, admin, turn)
    with refused("PT409", "not_waiting"):
        send(rest, turn.owner, turn.session_id, confirmation(id))
    turn_of(send(rest, turn.owner, turn.session_id, message()), turn.owner)
    with refused("PT409", "not_waiting"):
        send(rest, turn.owner, turn.session_id, confirmation(id))


@pytest.mark.parametrize(
    ("kind", "result", "field"),
    [
        ("agent.tool_use", "agent.tool_result", "tool_use_id"),
        ("agent.mcp_tool_use", "agent.mcp_tool_result", "mcp_tool_use_id"),
    ],
)
def test_a_run_that_went_on_waits_no_more(rest: Connection, turn: Run, kind: str, result: str, field: str) -> None:
    """Once the tool has its result, because it was allowed anyway or the time was up: PT409 not_waiting."""
    id = ask(rest, turn, kind=kind)
    say(rest, turn.runner, 3, result, **{field: id})
    with refused("PT409", "not_waiting"):
        send(rest, turn.owner, turn.session_id, confirmation(id))


def test_a_new_runner_of_the_run_still_waits(rest: Connection, turn: Run) -> None:
    """The question survives the runner: after a new epoch the same run's question is answered."""
    id = ask(rest, turn)
    SERVICE.call(rest, "next_epoch_v1", run_id=turn.id)
    send(rest, turn.owner, turn.session_id, confirmation(id))
    given = turn.at_epoch(2).call(rest, "take_input_v1", after=0)["events"]
    assert [event["type"] for event in given] == ["user.message", "user.tool_confirmation"]


def test_the_session_rests_while_it_waits(rest: Connection, admin: Connection, turn: Run) -> None:
    """Idle with a live run; an interrupt and a message are logged for that run, and start no other."""
    ask(rest, turn)
    assert session_row(admin, turn.session_id)["status"] == "idle"
    told = send(rest, turn.owner, turn.session_id, interrupt(), message())
    assert (told["admitted"], told["run"]["id"], told["session"]["status"]) == (False, str(turn.id), "idle")


def test_an_answer_that_comes_while_the_run_ends(
    rest: Connection, connect: Connect, admin: Connection, turn: Run
) -> None:
    """The end first: the answer waits, and is told that nobody waits for it."""
    id = ask(rest, turn)
    take(rest, turn)
    second = connect("authenticator")

    def finish() -> None:
        turn.runner.call(rest, "finish_run_v1", status="succeeded", last_n=2)

    with refused("PT409", "not_waiting"):
        behind(admin, rest, finish, second, lambda: send(second, turn.owner, turn.session_id, confirmation(id)))
    assert answers(admin, turn) == []

"""send_events_v1: what is said to a conversation stands in its log, and a message finds a run or admits one."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.sql.conversations import (
    LIMIT_SECONDS,
    confirmation,
    create,
    end_turn,
    interrupt,
    message,
    say,
    send,
    session_row,
    take,
    texts,
    turn_of,
    types_of,
)
from tests.sql.people import SERVICE, Connection, Person, column, refused, scalar, sign_up
from tests.sql.runs import HASH, OTHER_HASH, Json, Run, log_of, new_run, row_of


def broadcasts(admin: Connection, run: Run) -> list[list[str]]:
    """The types in each of the session's messages."""
    query = """
      select payload from realtime.messages where topic = %s and event = 'events'
      order by (payload ->> 'first_seq')::int
    """
    payloads = column(admin, query, (f"session:{run.session_id}",))
    return [[event["type"] for event in payload["events"]] for payload in payloads]


def fail_launch(rest: Connection, run: Run) -> None:
    """The launch ends the run that it could not start."""
    SERVICE.call(rest, "fail_launch_v1", run_id=run.id, error={"type": "sandbox_unavailable"})


def runs_of(admin: Connection, session_id: object) -> list[str]:
    """The statuses of the session's runs, oldest first."""
    return column(
        admin, "select status from public.agent_runs where session_id = %s order by created_at", (session_id,)
    )


def test_a_message_admits_a_turn(rest: Connection, admin: Connection, owner: Person) -> None:
    """A session at rest runs: the message and run.created are logged in one append, and the answer has all of it."""
    session_id = create(rest, owner)["session"]["id"]
    answer = send(rest, owner, session_id, message("build it"))
    run = answer["run"]
    assert (answer["admitted"], answer["replayed"]) == (True, False)
    assert (run["kind"], run["status"], run["input"]) == ("claude", "launching", {"after_seq": 0})
    assert (run["limit_seconds"], run["session_id"]) == (LIMIT_SECONDS, session_id)
    assert answer["session"]["status"] == "running"
    assert texts(answer["events"]) == ["build it"]
    assert types_of(admin, session_id) == ["user.message", "run.created"]
    assert broadcasts(admin, turn_of(answer, owner)) == [["user.message", "run.created"]]


def test_events_are_logged_as_given_under_an_id_of_ours(rest: Connection, admin: Connection, turn: Run) -> None:
    """The row has the event's fields without its type; an id that the caller chose does not count."""
    extra: Json = {**message("x"), "id": "sevt_mine"}
    (event,) = send(rest, turn.owner, turn.session_id, extra)["events"]
    query = "select to_jsonb(e) from public.agent_events e where session_id = %s and seq = %s"
    assert scalar(admin, query, (turn.session_id, event["seq"])) == event
    assert (event["type"], event["n"], event["run_id"]) == ("user.message", None, str(turn.id))
    assert event["data"]["content"] == [{"type": "text", "text": "x"}]
    assert set(event["data"]) == {"id", "content"}
    assert event["data"]["id"].startswith("sevt_")
    assert event["data"]["id"] != "sevt_mine"


def test_messages_wait_for_the_live_turn(rest: Connection, admin: Connection, turn: Run) -> None:
    """Without another word a message is queued: the same run answers, nobody launches, one broadcast tells of it."""
    answer = send(rest, turn.owner, turn.session_id, message("and"), message("also"))
    assert (answer["admitted"], answer["run"]["id"]) == (False, str(turn.id))
    assert runs_of(admin, turn.session_id) == ["launching"]
    assert broadcasts(admin, turn)[-1] == ["user.message", "user.message"]
    row = session_row(admin, turn.session_id)
    assert (row["message_seq"], row["input_seq"], row["taken_seq"]) == (4, 4, 0)


def test_an_interrupting_message_comes_after_its_interrupt(rest: Connection, admin: Connection, turn: Run) -> None:
    """on_busy interrupt: one user.interrupt stands before the messages; the answer has those that were sent."""
    answer = send(rest, turn.owner, turn.session_id, message("stop"), message("now"), on_busy="interrupt")
    assert types_of(admin, turn.session_id)[2:] == ["user.interrupt", "user.message", "user.message"]
    assert [event["seq"] for event in answer["events"]] == [4, 5]
    assert broadcasts(admin, turn)[-1] == ["user.interrupt", "user.message", "user.message"]


def test_nothing_is_interrupted_where_nothing_runs(rest: Connection, admin: Connection, owner: Person) -> None:
    """on_busy interrupt or reject, sent to a session at rest, is a message like any other."""
    for on_busy in ("interrupt", "reject"):
        session_id = create(rest, owner)["session"]["id"]
        assert send(rest, owner, session_id, message(), on_busy=on_busy)["admitted"]
        assert types_of(admin, session_id) == ["user.message", "run.created"]


def test_a_rejected_message_leaves_nothing(rest: Connection, admin: Connection, turn: Run) -> None:
    """on_busy reject while a run is live: PT409 session_busy, nothing logged, and the key is free again."""
    with refused("PT409", "session_busy"):
        send(rest, turn.owner, turn.session_id, message(), on_busy="reject", idempotency_key="k")
    assert types_of(admin, turn.session_id) == ["user.message", "run.created"]
    end_turn(rest, admin, turn)
    assert send(rest, turn.owner, turn.session_id, message(), on_busy="reject", idempotency_key="k")["admitted"]


def test_an_interrupt_alone_starts_nothing(rest: Connection, admin: Connection, owner: Person) -> None:
    """Sent to a session at rest it is logged, belongs to no run, and nothing else happens."""
    session_id = create(rest, owner)["session"]["id"]
    answer = send(rest, owner, session_id, interrupt())
    assert (answer["run"], answer["admitted"], answer["session"]["status"]) == (None, False, "idle")
    assert answer["events"][0]["run_id"] is None
    row = session_row(admin, session_id)
    assert (row["input_seq"], row["message_seq"]) == (1, 0)


def test_a_follow_up_begins_where_the_last_turn_ended(rest: Connection, admin: Connection, turn: Run) -> None:
    """The next run is given only what was said after what the last one took."""
    end_turn(rest, admin, turn)
    answer = send(rest, turn.owner, turn.session_id, message("dark mode"))
    follow_up = turn_of(answer, turn.owner)
    assert answer["run"]["input"] == {"after_seq": 1}
    assert texts(take(rest, follow_up, after=1)["events"]) == ["dark mode"]
    assert runs_of(admin, turn.session_id) == ["succeeded", "launching"]


def test_others_do_not_find_the_session(rest: Connection, admin: Connection, turn: Run) -> None:
    """A stranger's message, and one to a session that never was: PT404 session_not_found, and nothing is logged."""
    stranger = sign_up(admin, "stranger")
    for person, session in ((stranger, turn.session_id), (turn.owner, uuid4())):
        with refused("PT404", "session_not_found"):
            send(rest, person, session, message())
        with refused("PT404", "session_not_found"):
            person.call(rest, "admit_waiting_v1", session_id=session, limit_seconds=1)
    assert len(types_of(admin, turn.session_id)) == 2


def test_plans_take_no_messages_and_conversations_no_plans(rest: Connection, admin: Connection, turn: Run) -> None:
    """Without an agent a session is PT409 not_a_conversation, whoever asks; with one it is_a_conversation."""
    plan = new_run(rest, admin, turn.owner)
    with refused("PT409", "not_a_conversation"):
        send(rest, turn.owner, plan.session_id, message())
    with refused("PT409", "not_a_conversation"):
        new_run(rest, admin, turn.owner, kind="claude")
    end_turn(rest, admin, turn)
    with refused("PT409", "is_a_conversation"):
        new_run(rest, admin, turn.owner, session_id=turn.session_id)


def test_an_archived_session_takes_nothing(rest: Connection, admin: Connection, turn: Run) -> None:
    """PT409 session_terminated."""
    end_turn(rest, admin, turn)
    turn.owner.call(rest, "archive_session_v1", session_id=turn.session_id, request_hash=HASH)
    for event in (message(), interrupt()):
        with refused("PT409", "session_terminated"):
            send(rest, turn.owner, turn.session_id, event)


@pytest.mark.parametrize(
    "event",
    [{"type": "agent.message"}, {"type": "session.status_idle"}, {"type": "user.other"}, {}, "user.message", None],
)
def test_only_what_people_say_is_taken(rest: Connection, admin: Connection, turn: Run, event: Json) -> None:
    """Whoever calls SQL past the endpoint cannot write another's words: PT400 bad_event, and nothing is logged."""
    with refused("PT400", "bad_event"):
        send(rest, turn.owner, turn.session_id, message(), event)
    assert len(types_of(admin, turn.session_id)) == 2


@pytest.mark.parametrize(
    ("events", "code"), [({}, "PT400"), ([message()] * 101, "PT413"), ([message("x" * (2 << 20))], "PT413")]
)
def test_too_much_is_refused(rest: Connection, turn: Run, events: object, code: str) -> None:
    """No list, more than a hundred events, or more than 2 MiB of them."""
    with refused(code):
        turn.owner.call(
            rest, "send_events_v1", session_id=turn.session_id, events=events, limit_seconds=1, request_hash=HASH
        )


def test_one_event_is_no_larger_than_the_log_takes(rest: Connection, turn: Run) -> None:
    """A message of more than 256 KiB breaks the log's own CHECK; one with an unreadable number is PT400."""
    with refused("23514"):
        send(rest, turn.owner, turn.session_id, message("x" * (256 << 10)))
    with refused("PT400", "unreadable"):
        send(rest, turn.owner, turn.session_id, {**message(), "x": 10**400})


def test_on_busy_is_one_of_three(rest: Connection, turn: Run) -> None:
    """Another word is PT400; none at all is `queue`."""
    with refused("PT400", "bad_event"):
        send(rest, turn.owner, turn.session_id, message(), on_busy="shout")
    assert send(rest, turn.owner, turn.session_id, message(), on_busy=None)["admitted"] is False


def test_a_key_says_it_once(rest: Connection, admin: Connection, turn: Run) -> None:
    """Sent again under its key a message is answered with the same rows, and stands in the log once."""
    first = send(
        rest, turn.owner, turn.session_id, message("a"), message("b"), on_busy="interrupt", idempotency_key="k"
    )
    before = log_of(admin, turn)
    again = send(
        rest, turn.owner, turn.session_id, message("a"), message("b"), on_busy="interrupt", idempotency_key="k"
    )
    assert (again["events"], again["replayed"], again["admitted"]) == (first["events"], True, False)
    assert again["run"] == first["run"]
    assert log_of(admin, turn) == before
    with refused("PT409", "idempotency_key_reused"):
        send(rest, turn.owner, turn.session_id, message("c"), idempotency_key="k", request_hash=OTHER_HASH)


def test_a_replay_outlives_the_turn(rest: Connection, admin: Connection, owner: Person) -> None:
    """After the run has ended, and even the session, the same request still answers with its run and its rows."""
    session_id = create(rest, owner)["session"]["id"]
    first = send(rest, owner, session_id, message(), idempotency_key="k")
    end_turn(rest, admin, turn_of(first, owner))
    owner.call(rest, "archive_session_v1", session_id=session_id, request_hash=HASH)
    again = send(rest, owner, session_id, message(), idempotency_key="k")
    assert (again["events"], again["admitted"]) == (first["events"], False)
    assert (again["run"]["id"], again["run"]["status"]) == (first["run"]["id"], "succeeded")
    assert again["session"]["status"] == "terminated"


def test_a_failed_launch_is_tried_again_under_its_key(rest: Connection, admin: Connection, owner: Person) -> None:
    """The message stands once; sent again it admits another run for it, once, and the next replay tells of that one."""
    first = create(rest, owner, message(), idempotency_key="k")
    fail_launch(rest, turn_of(first, owner))
    again = create(rest, owner, message(), idempotency_key="k")
    assert (again["admitted"], again["replayed"], again["events"]) == (True, True, first["events"])
    assert again["run"]["id"] != first["run"]["id"]
    assert again["run"]["input"] == {"after_seq": 0}
    third = create(rest, owner, message(), idempotency_key="k")
    assert (third["admitted"], third["run"]["id"]) == (False, again["run"]["id"])
    session_id = first["session"]["id"]
    assert runs_of(admin, session_id) == ["failed", "launching"]
    assert types_of(admin, session_id).count("user.message") == 1
    assert session_row(admin, session_id)["status"] == "running"


def test_a_turn_that_failed_at_work_is_not_tried_again(rest: Connection, admin: Connection, owner: Person) -> None:
    """Once a runner has taken the message, a replay only tells what came of it; before, it gets another run."""
    first = create(rest, owner, message(), idempotency_key="k")
    lost = turn_of(first, owner)
    say(rest, lost.runner, 1, "session.error", error={"type": "x"})
    lost.runner.call(rest, "finish_run_v1", status="failed", last_n=1)
    second = create(rest, owner, message(), idempotency_key="k")
    assert second["admitted"] is True
    turn = turn_of(second, owner)
    take(rest, turn)
    say(rest, turn.runner, 1, "session.error", error={"type": "x"})
    turn.runner.call(rest, "finish_run_v1", status="failed", last_n=1)
    again = create(rest, owner, message(), idempotency_key="k")
    assert (again["admitted"], again["run"]["id"], again["run"]["status"]) == (False, str(turn.id), "failed")


def test_plans_and_conversations_share_their_keys(rest: Connection, admin: Connection, owner: Person) -> None:
    """A key that claimed a plan claims no message, and the other way round: PT409, even for an equal hash."""
    session_id = create(rest, owner)["session"]["id"]
    new_run(rest, admin, owner, idempotency_key="plan")
    with refused("PT409", "idempotency_key_reused"):
        send(rest, owner, session_id, message(), idempotency_key="plan")
    send(rest, owner, session_id, message(), idempotency_key="words")
    with refused("PT409", "idempotency_key_reused"):
        new_run(rest, admin, owner, idempotency_key="words")


def waiting(rest: Connection, run: Run) -> Json:
    """The answer of admit_waiting_v1."""
    return dict(run.owner.call(rest, "admit_waiting_v1", session_id=run.session_id, limit_seconds=60))


def test_what_nobody_was_given_gets_a_turn(rest: Connection, admin: Connection, turn: Run) -> None:
    """After a run that was lost before it took its message, another is admitted for it; one is enough."""
    SERVICE.call(rest, "lose_run_v1", run_id=turn.id, error={"type": "sandbox_lost"})
    answer = waiting(rest, turn)
    assert (answer["admitted"], answer["run"]["input"], answer["run"]["limit_seconds"]) == (True, {"after_seq": 0}, 60)
    assert (answer["events"], answer["session"]["status"]) == ([], "running")
    again = waiting(rest, turn)
    assert (again["admitted"], again["run"]["id"]) == (False, answer["run"]["id"])
    assert runs_of(admin, turn.session_id) == ["lost", "launching"]


def test_what_was_given_gets_no_second_turn(rest: Connection, admin: Connection, turn: Run) -> None:
    """A run that took its message and was lost is not begun again by itself."""
    take(rest, turn)
    SERVICE.call(rest, "lose_run_v1", run_id=turn.id, error={"type": "sandbox_lost"})
    answer = waiting(rest, turn)
    assert (answer["admitted"], answer["run"], answer["session"]["status"]) == (False, None, "idle")
    assert row_of(admin, turn)["status"] == "lost"


def test_a_confirmation_of_nothing_is_refused_with_the_message_beside_it(
    rest: Connection, admin: Connection, turn: Run
) -> None:
    """A request is taken whole or not at all."""
    with refused("PT400", "no_such_tool_use"):
        send(rest, turn.owner, turn.session_id, message(), confirmation("sevt_nothing"))
    assert len(types_of(admin, turn.session_id)) == 2

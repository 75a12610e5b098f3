"""A turn as its runner sees it: it takes what was said, moves status and usage, and ends when all is taken."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.sql.conversations import (
    ask,
    confirmation,
    create,
    end_turn,
    interrupt,
    message,
    new_turn,
    say,
    send,
    session_row,
    take,
    texts,
    turn_of,
    types_of,
)
from tests.sql.people import SERVICE, Connection, column, refused, scalar, sign_up
from tests.sql.runs import Json, Run, events, finish, lose, new_run, next_epoch, row_of

ERROR: Json = {"type": "sandbox_lost", "message": "the sandbox is gone"}
NO_USAGE: Json = {}


def status(admin: Connection, run: Run) -> str:
    """The session's status."""
    return str(session_row(admin, run.session_id)["status"])


def usage(admin: Connection, run: Run) -> Json:
    """The session's usage."""
    return dict(session_row(admin, run.session_id)["usage"])


def spent(n: int, *numbers: object) -> Json:
    """A span.model_request_end as event n, with these numbers in the order of the wire."""
    names = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    data = {"model_usage": dict(zip(names, numbers, strict=False)), "is_error": False}
    return {"n": n, "type": "span.model_request_end", "data": data, "at": "2026-11-21T08:00:00Z"}


def send_batch(rest: Connection, run: Run, *batch: Json) -> None:
    """One append_events_v1."""
    run.runner.call(rest, "append_events_v1", events=list(batch))


def idle_reason(admin: Connection, run: Run) -> Json:
    """The stop_reason of the log's last event, which is session.status_idle."""
    query = "select type, data from public.agent_events where session_id = %s order by seq desc limit 1"
    ((kind, data),) = admin.execute(query, (run.session_id,)).fetchall()
    assert kind == "session.status_idle"
    return dict(data["stop_reason"])


def test_a_runner_takes_what_was_said(rest: Connection, admin: Connection, turn: Run) -> None:
    """User events after the given seq, in order, whole; nothing else of the log; and they count as given."""
    say(rest, turn.runner, 1, "agent.message", content=[])
    send(rest, turn.owner, turn.session_id, interrupt(), message("and"))
    answer = take(rest, turn)
    assert [(event["seq"], event["type"]) for event in answer["events"]] == [
        (1, "user.message"), (4, "user.interrupt"), (5, "user.message"),
    ]  # fmt: skip
    assert [set(event) for event in answer["events"]] == [{"seq", "type", "data"}] * 3
    assert (texts(answer["events"]), answer["last_seq"]) == (["hello", "and"], 5)
    assert session_row(admin, turn.session_id)["taken_seq"] == 5
    assert take(rest, turn, after=5) == {"events": [], "last_seq": 5}
    assert take(rest, turn, after=99) == {"events": [], "last_seq": 99}
    assert session_row(admin, turn.session_id)["taken_seq"] == 5


def test_taking_again_gives_the_same(rest: Connection, admin: Connection, turn: Run) -> None:
    """A runner started again reads from where its job begins; what was given before is not forgotten."""
    send(rest, turn.owner, turn.session_id, message("and"))
    first = take(rest, turn)
    assert take(rest, turn) == first
    next_epoch(rest, turn)
    assert turn.at_epoch(2).call(rest, "take_input_v1", after=0) == first


def test_much_that_was_said_comes_in_pages(rest: Connection, turn: Run) -> None:
    """At most a hundred events at a time, then those after them; only what was answered counts as given."""
    send(rest, turn.owner, turn.session_id, *[message(str(n)) for n in range(100)])
    first = take(rest, turn)
    assert (len(first["events"]), first["last_seq"]) == (100, 101)
    with refused("PT409", "input_pending"):
        finish(rest, turn.runner, 0)
    second = take(rest, turn, after=first["last_seq"])
    assert texts([*first["events"], *second["events"]]) == ["hello", *map(str, range(100))]


def test_large_messages_come_in_pages(rest: Connection, turn: Run) -> None:
    """About 1 MiB at a time, so that a runner never holds all that was said at once."""
    for _ in range(2):
        send(rest, turn.owner, turn.session_id, *[message("x" * 250_000) for _ in range(4)])
    sizes, after = [], 0
    while page := take(rest, turn, after)["events"]:
        sizes.append(len(page))
        after = page[-1]["seq"]
    assert sizes == [5, 4]


@pytest.mark.parametrize("end", ["succeeded", "cancelled"])
def test_a_turn_does_not_end_while_a_message_waits(rest: Connection, admin: Connection, turn: Run, end: str) -> None:
    """PT409 input_pending, and nothing is written; after it is taken the turn ends."""
    take(rest, turn)
    send(rest, turn.owner, turn.session_id, message("one more"))
    with refused("PT409", "input_pending"):
        finish(rest, turn.runner, 0, end)
    assert row_of(admin, turn)["status"] == "launching"
    take(rest, turn, after=1)
    assert finish(rest, turn.runner, 0, end)["status"] == end


@pytest.mark.parametrize("end", ["failed", "timed_out"])
def test_a_turn_that_breaks_off_need_not_have_taken_all(
    rest: Connection, admin: Connection, turn: Run, end: str
) -> None:
    """A failure and a deadline end the run whatever waits; the message stays to be taken by the next."""
    assert finish(rest, turn.runner, 0, end)["status"] == end
    follow_up = turn_of(send(rest, turn.owner, turn.session_id, message("again")), turn.owner)
    assert texts(take(rest, follow_up)["events"]) == ["hello", "again"]


def test_a_cancelled_turn_need_not_have_taken_all(rest: Connection, turn: Run) -> None:
    """Its owner asked it to stop: it ends at once."""
    turn.owner.call(rest, "request_cancel_v1", run_id=turn.id, request_hash="c" * 64)
    assert finish(rest, turn.runner, 0, "cancelled")["status"] == "cancelled"


def test_an_interrupt_or_an_answer_does_not_keep_a_turn(rest: Connection, turn: Run) -> None:
    """Only a message that was not given does."""
    take(rest, turn)
    id = ask(rest, turn)
    send(rest, turn.owner, turn.session_id, interrupt(), confirmation(id))
    assert finish(rest, turn.runner, 2)["status"] == "succeeded"


def test_plans_end_as_they_did(rest: Connection, admin: Connection) -> None:
    """A run of commands has nothing to take."""
    assert finish(rest, new_run(rest, admin).runner, 0)["status"] == "succeeded"


def test_every_answer_tells_of_what_was_said(rest: Connection, turn: Run) -> None:
    """append, heartbeat, preview and finish carry input_seq, the seq of the last user event."""
    send(rest, turn.owner, turn.session_id, interrupt())
    assert say(rest, turn.runner, 1, "agent.message")["input_seq"] == 3
    assert turn.runner.call(rest, "heartbeat_v1")["input_seq"] == 3
    assert turn.runner.call(rest, "preview_v1", previews=[])["input_seq"] == 3
    assert finish(rest, turn.runner, 1, "failed")["input_seq"] == 3


def test_the_status_follows_the_runner(rest: Connection, admin: Connection, turn: Run) -> None:
    """running, idle while it waits, running again; of several in one batch the last counts, others change nothing."""
    say(rest, turn.runner, 1, "session.status_idle")
    assert status(admin, turn) == "idle"
    say(rest, turn.runner, 2, "session.error")
    say(rest, turn.runner, 3, "session.status_terminated")
    assert status(admin, turn) == "idle"
    say(rest, turn.runner, 4, "session.status_running")
    assert status(admin, turn) == "running"
    kinds = ["session.status_idle", "session.status_running", "agent.message", "session.status_idle", "agent.message"]
    send_batch(rest, turn, *[{**event, "type": kind} for event, kind in zip(events(range(5, 10)), kinds, strict=True)])
    assert status(admin, turn) == "idle"


def test_only_the_runners_events_move_the_status(rest: Connection, admin: Connection, turn: Run) -> None:
    """A status event without a number of the runner's, which SQL writes with the row itself, is followed by nobody."""
    for type in ("session.status_idle", "session.status_running"):
        before = status(admin, turn)
        append = "select private.append(%s, null, array[%s], array['{}'::jsonb])"
        admin.execute(append, (turn.session_id, type))
        assert status(admin, turn) == before


def test_a_terminated_session_stays_so(rest: Connection, admin: Connection, turn: Run) -> None:
    """No event of a runner's brings it back, nor does the run's end."""
    admin.execute("update public.agent_sessions set status = 'terminated' where id = %s", (turn.session_id,))
    say(rest, turn.runner, 1, "session.status_running")
    assert status(admin, turn) == "terminated"
    finish(rest, turn.runner, 1, "failed")
    assert status(admin, turn) == "terminated"


def test_usage_is_the_sum_of_the_requests(rest: Connection, admin: Connection, turn: Run) -> None:
    """Over a batch, over batches and over turns; a batch that is sent again counts once."""
    assert usage(admin, turn) == NO_USAGE
    batch = [spent(1, 1, 10, 100, 1000), *events([2]), spent(3, 2, 20, 200, 2000)]
    for _ in range(2):
        send_batch(rest, turn, *batch)
    send_batch(rest, turn, spent(4, 3, 30))
    names = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    assert usage(admin, turn) == dict(zip(names, (6, 60, 300, 3000), strict=True))
    end_turn(rest, admin, turn)
    follow_up = turn_of(send(rest, turn.owner, turn.session_id, message()), turn.owner)
    send_batch(rest, follow_up, spent(1, 4, 40, 0, 0))
    assert usage(admin, turn) == dict(zip(names, (10, 100, 300, 3000), strict=True))


@pytest.mark.parametrize("number", [-5, "7", None, [], {}, True, 1e300, 10**15])
def test_what_is_no_count_counts_nothing(rest: Connection, admin: Connection, turn: Run, number: object) -> None:
    """A runner that sends nonsense is not held up, and spoils no sum."""
    send_batch(rest, turn, spent(1, number, 3.9))
    assert (usage(admin, turn)["input_tokens"], usage(admin, turn)["output_tokens"]) == (0, 3)
    send_batch(rest, turn, {**spent(2), "data": {"model_usage": number}}, spent(3, 1))
    assert usage(admin, turn)["input_tokens"] == 1


def test_sessions_do_not_share_usage(rest: Connection, admin: Connection, turn: Run) -> None:
    """Another session of the same owner has its own."""
    other = new_turn(rest, admin, turn.owner)
    send_batch(rest, turn, spent(1, 5))
    assert usage(admin, other) == NO_USAGE


def test_the_end_says_why_the_session_rests(rest: Connection, admin: Connection, turn: Run) -> None:
    """session.status_idle has the result's stop_reason, and end_turn where there is none that one could read."""
    take(rest, turn)
    finish(rest, turn.runner, 0, result={"stop_reason": {"type": "budget_reached"}})
    assert idle_reason(admin, turn) == {"type": "budget_reached"}
    for result in (None, {}, {"stop_reason": "end"}, {"stop_reason": {"type": 1}}):
        other = new_turn(rest, admin)
        finish(rest, other.runner, 0, "failed", result=result)
        assert idle_reason(admin, other) == {"type": "end_turn"}


def previews_of(admin: Connection, run: Run) -> list[Json]:
    """The payloads of the session's previews."""
    query = "select payload - 'id' from realtime.messages where topic = %s and event = 'previews' and private"
    return column(admin, query, (f"session:{run.session_id}",))


def test_live_text_passes_through(rest: Connection, admin: Connection, turn: Run) -> None:
    """A preview is one private broadcast to the session's listeners; the log and the session stay as they are."""
    before = (types_of(admin, turn.session_id), session_row(admin, turn.session_id))
    preview = {"type": "event_delta", "event_id": "sevt_x", "delta": {"text": "Hel"}}
    turn.runner.call(rest, "preview_v1", previews=[preview])
    assert previews_of(admin, turn) == [
        {"session_id": str(turn.session_id), "run_id": str(turn.id), "previews": [preview]}
    ]
    assert (types_of(admin, turn.session_id), session_row(admin, turn.session_id)) == before


def test_a_preview_does_not_wait_for_the_session(rest: Connection, admin: Connection, turn: Run) -> None:
    """It takes no lock: while someone writes to the session, live text goes on."""
    with admin.transaction():
        admin.execute("select 1 from public.agent_sessions where id = %s for update", (turn.session_id,))
        rest.execute("set lock_timeout = '5s'")
        turn.runner.call(rest, "preview_v1", previews=[{}])


@pytest.mark.parametrize(("previews", "code"), [({}, "PT400"), ([10**400], "PT400"), (["x" * (64 << 10)], "PT413")])
def test_previews_that_do_not_fit_are_refused(
    rest: Connection, admin: Connection, turn: Run, previews: object, code: str
) -> None:
    """No list, an unreadable number, more than 64 KiB: nothing is broadcast."""
    with refused(code):
        turn.runner.call(rest, "preview_v1", previews=previews)
    assert previews_of(admin, turn) == []


def test_a_lost_run_ends_with_its_error(rest: Connection, admin: Connection, turn: Run) -> None:
    """session.error, run.lost and the rest; again, or for a run that has ended, nothing is written."""
    answer = SERVICE.call(rest, "lose_run_v1", run_id=turn.id, error=ERROR)
    assert (answer["status"], answer["error"], "input" in answer) == ("lost", ERROR, False)
    before = types_of(admin, turn.session_id)
    assert before[-3:] == ["session.error", "run.lost", "session.status_idle"]
    assert status(admin, turn) == "idle"
    assert SERVICE.call(rest, "lose_run_v1", run_id=turn.id, error={"type": "late"}) == answer
    assert types_of(admin, turn.session_id) == before
    with refused("PT404", "run_not_found"):
        SERVICE.call(rest, "lose_run_v1", run_id=uuid4(), error=ERROR)


def test_of_two_who_find_a_runner_dead_one_replaces_it(rest: Connection, turn: Run) -> None:
    """next_epoch_v1 rises only from the epoch that the caller saw; the other learns that it has risen."""
    assert SERVICE.call(rest, "next_epoch_v1", run_id=turn.id, expected=1) == 2
    assert SERVICE.call(rest, "next_epoch_v1", run_id=turn.id, expected=1) is None
    assert next_epoch(rest, turn) == 3


def test_the_facts_of_a_launch(rest: Connection, admin: Connection, turn: Run) -> None:
    """The run with its input and the session whole; PT404 for a run that never was."""
    facts = SERVICE.call(rest, "launch_facts_v1", run_id=turn.id)
    assert facts["run"] == row_of(admin, turn)
    assert facts["run"]["input"] == {"after_seq": 0}
    row = session_row(admin, turn.session_id)
    assert {name: facts["session"][name] for name in row} == row
    with refused("PT404", "run_not_found"):
        SERVICE.call(rest, "launch_facts_v1", run_id=uuid4())


def test_what_was_said_is_no_runners_to_say(rest: Connection, admin: Connection, turn: Run) -> None:
    """A runner cannot write a user's event into the log, neither a message nor an answer."""
    for type in ("user.message", "user.tool_confirmation", "user.x"):
        with refused("23514"):
            say(rest, turn.runner, 1, type, content=[])
    assert types_of(admin, turn.session_id) == ["user.message", "run.created"]


def test_the_runner_of_an_ended_run_takes_nothing(rest: Connection, admin: Connection, turn: Run) -> None:
    """PT409 run_finished for input and previews; the log is the owner's alone again."""
    lose(admin, turn)
    for function, arguments in (("take_input_v1", {"after": 0}), ("preview_v1", {"previews": []})):
        with refused("PT409", "run_finished", "the run has lost"):
            turn.runner.call(rest, function, **arguments)


def test_a_session_ends_with_its_owner(rest: Connection, admin: Connection) -> None:
    """A user who goes takes conversations along, with a turn at work and an agent of their own."""
    owner = sign_up(admin)
    agent = owner.call(rest, "create_agent_v1", config={"name": "A"}, request_hash="a" * 64)
    create(rest, owner, message(), agent={"id": agent["id"], "version": 1, "name": "A"})
    admin.execute("delete from auth.users where id = %s", (owner.id,))
    assert scalar(admin, "select count(*) from public.agent_sessions where owner = %s", (owner.id,)) == 0

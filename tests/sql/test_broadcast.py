"""The doorbell: one private message for each batch that was written, and none for what was not."""

from typing import Any

import psycopg
import pytest

from tests.sql.people import Connection
from tests.sql.runs import HASH, Run, append, finish, new_run

LIMIT_BYTES = 200_000


def messages(admin: Connection, run: Run) -> list[dict[str, Any]]:
    """The session's messages by first_seq: topic, extension, event, private, and the payload without its id."""
    query = """
      select jsonb_build_object('topic', topic, 'extension', extension, 'event', event, 'private', private,
        'payload', payload - 'id', 'bytes', octet_length((payload - 'id')::text))
      from realtime.messages where topic = 'session:' || %s::uuid order by (payload ->> 'first_seq')::bigint
    """
    return [row[0] for row in admin.execute(query, (run.session_id,))]


def rows(admin: Connection, run: Run, first: int, last: int) -> list[dict[str, Any]]:
    """These rows of the log as JSON, as REST shows them."""
    query = "select to_jsonb(e) from public.agent_events e where session_id = %s and seq between %s and %s order by seq"
    return [row[0] for row in admin.execute(query, (run.session_id, first, last))]


def ranges(admin: Connection, run: Run) -> list[tuple[int, int]]:
    """(first_seq, last_seq) of the session's messages."""
    return [(m["payload"]["first_seq"], m["payload"]["last_seq"]) for m in messages(admin, run)]


def test_a_batch_is_one_private_message_with_its_events(rest: Connection, admin: Connection, run: Run) -> None:
    """Topic, event, range and rows as the contract says: a subscriber needs no query for what fits."""
    append(rest, run.runner, range(1, 51))
    _, message = messages(admin, run)
    assert (message["topic"], message["extension"]) == (f"session:{run.session_id}", "broadcast")
    assert (message["event"], message["private"]) == ("events", True)
    payload = message["payload"]
    assert set(payload) == {"session_id", "first_seq", "last_seq", "events"}
    assert (payload["session_id"], payload["first_seq"], payload["last_seq"]) == (str(run.session_id), 2, 51)
    assert payload["events"] == rows(admin, run, 2, 51)
    assert {"seq", "run_id", "n", "type", "data", "produced_at", "created_at"} <= set(payload["events"][0])


def test_messages_of_many_batches_follow_each_other(rest: Connection, admin: Connection, run: Run) -> None:
    """With every batch sent twice: each event is in exactly one message, and the ranges join without gap or overlap."""
    for start in range(1, 101, 4):
        for _ in range(2):
            append(rest, run.runner, range(start, start + 4))
    finish(rest, run.runner, 100)
    assert ranges(admin, run) == [(1, 1), *((seq, seq + 3) for seq in range(2, 102, 4)), (102, 103)]
    told = [event["seq"] for message in messages(admin, run) for event in message["payload"]["events"]]
    assert told == list(range(1, 104))


def test_only_what_was_taken_is_told(rest: Connection, admin: Connection, run: Run) -> None:
    """Of a batch with repeats and a hole the message has the new, continuing part alone."""
    append(rest, run.runner, [1, 2])
    append(rest, run.runner, [1, 2, 3, 3, 5])
    assert ranges(admin, run) == [(1, 1), (2, 3), (4, 4)]


@pytest.mark.parametrize("batch", [[], [1], [1, 2], [4], [4, 5]])
def test_a_batch_that_brings_nothing_is_silent(rest: Connection, admin: Connection, run: Run, batch: list[int]) -> None:
    """Nothing taken, nothing told."""
    append(rest, run.runner, [1, 2])
    before = messages(admin, run)
    append(rest, run.runner, batch)
    run.runner.call(rest, "heartbeat_v1")
    assert messages(admin, run) == before


def test_a_large_batch_is_told_by_its_range(rest: Connection, admin: Connection, run: Run) -> None:
    """Over 200 KB the events stay out, and the range sends the reader to the table."""
    append(rest, run.runner, range(1, 201), size=1000)
    message = messages(admin, run)[1]
    assert message["payload"] == {"session_id": str(run.session_id), "first_seq": 2, "last_seq": 201}


def test_the_limit_is_on_the_whole_message(rest: Connection, admin: Connection, run: Run) -> None:
    """A payload just under 200,000 bytes goes out whole; one just over is a range."""
    append(rest, run.runner, [1])
    room = LIMIT_BYTES - messages(admin, run)[1]["bytes"]
    # A time is up to seven characters shorter when its microseconds end in zeros.
    append(rest, run.runner, [2], size=room - 16)
    append(rest, run.runner, [3], size=room + 16)
    fits, too_large = messages(admin, run)[2:]
    assert LIMIT_BYTES - 40 < fits["bytes"] <= LIMIT_BYTES
    assert "events" in fits["payload"]
    assert "events" not in too_large["payload"]


def test_bytes_are_counted_not_characters(rest: Connection, admin: Connection, run: Run) -> None:
    """Text of two bytes a character is measured as what goes over the wire."""
    event = {"n": 1, "type": "command.output", "data": {"text": "é" * 120_000}}
    run.runner.call(rest, "append_events_v1", events=[event])
    assert "events" not in messages(admin, run)[1]["payload"]


def test_events_that_sql_writes_are_told_too(rest: Connection, admin: Connection, run: Run) -> None:
    """Admission, the owner's cancel and the end ring as the runner's batches do: the end's two events once."""
    run.owner.call(rest, "request_cancel_v1", run_id=run.id, request_hash=HASH)
    finish(rest, run.runner, 0, "cancelled")
    told = [[event["type"] for event in message["payload"]["events"]] for message in messages(admin, run)]
    assert told == [["run.created"], ["run.cancel_requested"], ["run.cancelled", "session.status_idle"]]


def test_what_is_undone_is_not_told(rest: Connection, admin: Connection, run: Run) -> None:
    """The message is part of the transaction: rolled back, or refused after its insert, it was never there."""
    before = messages(admin, run)
    with rest.transaction(force_rollback=True):
        append(rest, run.runner, [1, 2])
    assert messages(admin, run) == before
    finish(rest, run.runner, 0)
    before = messages(admin, run)
    with pytest.raises(psycopg.Error):
        append(rest, run.runner, [1])
    assert messages(admin, run) == before


def test_sessions_are_told_apart(rest: Connection, admin: Connection, run: Run) -> None:
    """One statement that writes into two sessions rings at both, each with its own rows only."""
    other = new_run(rest, admin)
    admin.execute(
        """
        insert into public.agent_events (session_id, seq, type, data)
        values (%(a)s, 2, 'session.note', '{}'), (%(b)s, 2, 'session.note', '{}'), (%(a)s, 3, 'session.note', '{}')
        """,
        {"a": run.session_id, "b": other.session_id},
    )
    for session, last in ((run, 3), (other, 2)):
        payload = messages(admin, session)[-1]["payload"]
        assert (payload["first_seq"], payload["last_seq"]) == (2, last)
        assert {event["session_id"] for event in payload["events"]} == {str(session.session_id)}

"""append_events_v1: a log without hole or repeat, whatever is sent, how often, and in what order."""

import random

import pytest

from tests.sql.people import Connection, Person, refused, scalar
from tests.sql.runs import Json, Run, append, events, finish, log_of, lose, new_run, numbers_of, row_of

TOTAL = 20_000
SEED = 20261121


def batches(total: int, chance: random.Random) -> list[range]:
    """1..total cut into batches of 1 to 400."""
    cut, start = [], 1
    while start <= total:
        end = min(total, start + chance.randint(0, 399))
        cut.append(range(start, end + 1))
        start = end + 1
    return cut


def shuffled(cut: list[range], chance: random.Random) -> list[range]:
    """Every batch twice; one in five changes places with its neighbour, and repeats come up to ten batches late."""
    sent = []
    for place, batch in enumerate(cut):
        swapped = place + (1.5 if chance.random() < 0.2 else 0)
        sent += [(swapped, batch), (place + chance.randint(0, 10) + 0.25, batch)]
    return [batch for _, batch in sorted(sent, key=lambda pair: pair[0])]


def test_twenty_thousand_events_sent_twice_and_out_of_order(rest: Connection, admin: Connection, run: Run) -> None:
    """Every batch twice, some early or late, the rest again from what is held: seq 1..N, nothing twice, n in order."""
    chance = random.Random(SEED)
    cut = batches(TOTAL, chance)
    held = 0
    for batch in shuffled(cut, chance):
        taken = append(rest, run.runner, batch)["last_n"]
        assert taken in (held, batch[-1])
        held = taken
    while held < TOTAL:
        held = append(rest, run.runner, range(held + 1, min(held + 400, TOTAL) + 1))["last_n"]
    assert numbers_of(admin, run) == list(range(1, TOTAL + 1))
    assert row_of(admin, run)["last_n"] == TOTAL
    session = "select last_seq from public.agent_sessions where id = %s"
    assert scalar(admin, session, (run.session_id,)) == TOTAL + 1


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ([], []),
        ([1, 2, 3], [1, 2, 3]),
        ([2], []),
        ([1, 3], [1]),
        ([1, 2, 4, 5], [1, 2]),
        ([2, 3, 1], [1, 2, 3]),
        ([1, 1], [1]),
        ([1, 1, 2], [1, 2]),
        ([1, 1, 3], [1]),
        ([1, 1, 3, 4], [1]),
        ([1, 1, 1, 4], [1]),
        ([1, 2, 2, 4, 5], [1, 2]),
        ([2, 2, 1, 1, 3, 3], [1, 2, 3]),
        ([0, -1, 1], [1]),
        ([None, 1], [1]),
        ([9223372036854775807], []),
    ],
)
def test_a_first_batch(rest: Connection, admin: Connection, run: Run, sent: list[int], held: list[int]) -> None:
    """Of a batch, the numbers from 1 up to the first that is missing are taken once each; the rest is not."""
    answer = append(rest, run.runner, sent)
    assert numbers_of(admin, run) == held
    state = {"status": "running", "last_n": len(held), "last_seq": len(held) + 1}
    assert answer == {**state, "input_seq": 0, "cancel_requested": False, "budget_reached": None}


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ([1, 2, 3], 3),
        ([3, 4], 4),
        ([4, 5, 6], 6),
        ([5, 6], 3),
        ([2, 4, 6], 4),
        ([4, 4, 6], 4),
        ([1, 5], 3),
    ],
)
def test_a_later_batch(rest: Connection, admin: Connection, run: Run, sent: list[int], held: int) -> None:
    """With 1..3 held: what is held is dropped, what continues is taken, a hole takes nothing behind it."""
    append(rest, run.runner, [1, 2, 3])
    assert append(rest, run.runner, sent)["last_n"] == held
    assert numbers_of(admin, run) == list(range(1, held + 1))


def test_a_repeat_does_not_change_what_is_held(rest: Connection, admin: Connection, run: Run) -> None:
    """The first text of an event stays, whatever a later batch says under its number."""
    append(rest, run.runner, [1], size=3)
    append(rest, run.runner, [1, 2], size=5)
    query = "select data ->> 'text' from public.agent_events where session_id = %s and n is not null order by n"
    assert admin.execute(query, (run.session_id,)).fetchall() == [("xxx",), ("xxxxx",)]


def test_an_event_is_kept_as_it_was_sent(rest: Connection, admin: Connection, run: Run) -> None:
    """Type, data and the sandbox's time to the microsecond are stored; without a time, the database's own is."""
    data = {"text": 'é\u2028"\\', "deep": [{"a": None}, 1.5], "big": 12345678901234567890}
    sent = [
        {"n": 1, "type": "command.output", "data": data, "at": "2026-11-21T08:00:00.123456Z"},
        {"n": 2, "type": "command.output", "data": {}},
    ]
    run.runner.call(rest, "append_events_v1", events=sent)
    query = """
      select type, data, produced_at = '2026-11-21 08:00:00.123456+00',
        produced_at between created_at and clock_timestamp(), run_id
      from public.agent_events where session_id = %s and n is not null order by n
    """
    first, second = admin.execute(query, (run.session_id,)).fetchall()
    assert first == ("command.output", data, True, False, run.id)
    assert second == ("command.output", {}, False, True, run.id)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"n": 2, "type": "Not a type", "data": {}}, "23514"),
        ({"n": 2, "type": "command.output", "data": []}, "23514"),
        ({"n": 2, "type": "command.output", "data": None}, "23502"),
        ({"n": 2, "data": {}}, "23502"),
        ({"n": "two", "type": "command.output", "data": {}}, "22P02"),
        ({"n": 2, "type": "command.output", "data": {}, "at": "yesterday-ish"}, "22007"),
    ],
)
def test_a_bad_event_takes_its_batch_with_it(
    rest: Connection, admin: Connection, run: Run, event: dict[str, object], code: str
) -> None:
    """A batch with an event that the schema refuses is refused whole; the log stays as it was."""
    before = log_of(admin, run)
    with refused(code):
        run.runner.call(rest, "append_events_v1", events=[*events([1]), event, *events([3])])
    assert log_of(admin, run) == before
    assert row_of(admin, run)["last_n"] == 0


@pytest.mark.parametrize("body", [{"n": 1}, "text", 7])
def test_a_batch_is_an_array(rest: Connection, run: Run, body: object) -> None:
    """Anything but an array of objects is an error, not an empty batch."""
    with refused("22023"):
        run.runner.call(rest, "append_events_v1", events=body if isinstance(body, dict) else [body])


def test_runs_of_a_session_number_for_themselves(rest: Connection, admin: Connection, run: Run) -> None:
    """A session's second run starts at n = 1 again, and its seq goes on where the first ended."""
    append(rest, run.runner, [1, 2])
    finish(rest, run.runner, 2)
    second = new_run(rest, admin, run.owner, session_id=run.session_id)
    answer = append(rest, second.runner, [1, 2])
    assert answer["last_n"] == 2
    assert numbers_of(admin, run) == [1, 2, 1, 2]
    assert answer["last_seq"] == len(log_of(admin, run)) == 8


def test_an_answer_says_whether_to_stop(rest: Connection, run: Run) -> None:
    """From the owner's request on, append, heartbeat and finish answer cancel_requested."""
    assert append(rest, run.runner, [1])["cancel_requested"] is False
    run.owner.call(rest, "request_cancel_v1", run_id=run.id, request_hash="a" * 64)
    assert append(rest, run.runner, [2])["cancel_requested"] is True
    assert run.runner.call(rest, "heartbeat_v1")["cancel_requested"] is True
    assert finish(rest, run.runner, 2, "cancelled")["cancel_requested"] is True


def test_a_finished_run_takes_nothing_new(rest: Connection, admin: Connection, run: Run) -> None:
    """After the end a new event is PT409 run_finished; repeats, holes and [] are answered with the run's status."""
    append(rest, run.runner, [1, 2])
    finish(rest, run.runner, 2)
    before = log_of(admin, run)
    for batch in ([], [1], [1, 2], [4]):
        assert append(rest, run.runner, batch)["status"] == "succeeded"
    for batch in ([3], [1, 2, 3]):
        with refused("PT409", "run_finished", "the run has succeeded"):
            append(rest, run.runner, batch)
    assert log_of(admin, run) == before


def test_a_lost_run_takes_nothing_new(rest: Connection, admin: Connection, run: Run) -> None:
    """A runner that comes back after the sweep gave it up cannot write behind the end of the log."""
    append(rest, run.runner, [1])
    lose(admin, run)
    with refused("PT409", "run_finished", "the run has lost"):
        append(rest, run.runner, [2])
    heartbeat_before = row_of(admin, run)["heartbeat_at"]
    assert run.runner.call(rest, "heartbeat_v1")["status"] == "lost"
    assert row_of(admin, run)["heartbeat_at"] == heartbeat_before


def test_a_heartbeat_changes_nothing_but_its_time(rest: Connection, admin: Connection, run: Run) -> None:
    """heartbeat_v1 answers what append does, leaves a launching run launching, and writes no event."""
    before = log_of(admin, run)
    answer = run.runner.call(rest, "heartbeat_v1")
    state = {"status": "launching", "last_n": 0, "last_seq": 1, "input_seq": 0}
    assert answer == {**state, "cancel_requested": False, "budget_reached": None}
    row = row_of(admin, run)
    assert (row["status"], row["heartbeat_at"] is None) == ("launching", False)
    assert log_of(admin, run) == before


def impostors(run: Run, other: Run) -> dict[str, Person]:
    """Tokens that are signed but not this run's; each with the role runner, which alone may execute the functions."""
    foreign = {"run_id": str(other.id), "session_id": str(other.session_id)}
    return {
        "other session": run.claiming(session_id=foreign["session_id"]),
        "other run": run.claiming(run_id=foreign["run_id"]),
        "no such run": run.claiming(run_id="00000000-0000-4000-8000-000000000000"),
        "no session": run.claiming(session_id=None),
        "no run": run.claiming(run_id=None),
        "wrong aud": run.claiming(aud="authenticated"),
        "no aud": run.claiming(aud=None),
        "aud among others": run.claiming(aud=["runner", "authenticated"]),
        "user's claims": Person("forged", "runner", {**run.owner.claims, "role": "authenticated"}),
        "service's claims": Person("forged", "runner", {"role": "service_role", "aud": "runner"}),
        "other role": run.claiming(role="authenticated"),
        "nothing": Person("forged", "runner", {"role": None}),
    }


@pytest.mark.parametrize("function", ["append_events_v1", "heartbeat_v1", "finish_run_v1"])
def test_tokens_of_others_are_refused(rest: Connection, admin: Connection, run: Run, function: str) -> None:
    """Another run or session, a wrong aud, a user's or service's claims: PT403 not_a_run_token, nothing written."""
    other = new_run(rest, admin)
    arguments: dict[str, Json] = {
        "append_events_v1": {"events": events([1])},
        "finish_run_v1": {"status": "failed", "last_n": 0},
    }
    for name, person in impostors(run, other).items():
        with refused("PT403", "not_a_run_token"):
            person.call(rest, function, **arguments.get(function, {}))
            pytest.fail(name)
    for written in (run, other):
        row = row_of(admin, written)
        assert (row["status"], row["last_n"], row["heartbeat_at"]) == ("launching", 0, None)


@pytest.mark.parametrize("claims", [{"run_id": "x"}, {"session_id": "x"}, {"epoch": "x"}])
def test_claims_that_are_no_ids_are_refused(rest: Connection, run: Run, claims: dict[str, str]) -> None:
    """Claims that do not parse are an error."""
    with refused("22P02"):
        append(rest, run.claiming(**claims), [1])


def test_a_runner_writes_its_own_run_only(rest: Connection, admin: Connection, run: Run) -> None:
    """Two runs side by side: what one runner sends is in its own session's log and moves nothing of the other's."""
    other = new_run(rest, admin)
    append(rest, run.runner, [1, 2])
    assert numbers_of(admin, run) == [1, 2]
    assert numbers_of(admin, other) == []
    assert row_of(admin, other)["status"] == "launching"


@pytest.mark.parametrize("at", ["infinity", "-infinity", "294276-12-31T00:00:00Z", "0044-03-15T00:00:00Z BC"])
def test_a_time_of_no_calendar_is_not_kept(rest: Connection, admin: Connection, run: Run, at: str) -> None:
    """The database's own time stands in for it: readers parse what they get."""
    run.runner.call(rest, "append_events_v1", events=[{"n": 1, "type": "x", "data": {}, "at": at}])
    query = (
        "select produced_at between now() - interval '1 hour' and now() + interval '1 hour' from public.agent_events"
    )
    assert scalar(admin, f"{query} where run_id = %s and n = 1", (run.id,)) is True


@pytest.mark.parametrize("data", [{"x": 10**4000}, {"x": [{"y": -(10**301)}]}])
def test_a_number_of_thousands_of_digits_is_refused(rest: Connection, run: Run, data: Json) -> None:
    """jsonb would keep it whole, and readers could not read the page: PT400, wherever in the event it stands."""
    with refused("PT400", "unreadable"):
        run.runner.call(rest, "append_events_v1", events=[{"n": 1, "type": "x", "data": data}])


def test_numbers_that_anyone_can_read_are_taken(rest: Connection, run: Run) -> None:
    """Only numbers are meant, not texts of digits, and only giants."""
    data = {"small": 1e-300, "large": 10**300, "text": "9" * 5000}
    assert run.runner.call(rest, "append_events_v1", events=[{"n": 1, "type": "x", "data": data}])["last_n"] == 1


def test_a_batch_has_bounds(rest: Connection, run: Run) -> None:
    """More than 2,000 events, or 2 MiB, are PT413: nobody fills a reader's memory with one request."""
    with refused("PT413", "too_large"):
        append(rest, run.runner, range(1, 2002))
    with refused("PT413", "too_large"):
        run.runner.call(rest, "append_events_v1", events=[{"n": 1, "type": "x", "data": {"x": "x" * (2 << 20)}}])
    assert append(rest, run.runner, range(1, 2001))["last_n"] == 2000

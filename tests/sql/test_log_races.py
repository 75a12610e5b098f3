"""Several writers of one session: with explicit turns, where one is seen to wait for the other, and as a race."""

import random
from collections.abc import Callable
from functools import partial

import pytest

from tests.sql.conftest import Connect
from tests.sql.people import Connection, column, refused
from tests.sql.runs import HASH, Run, append, finish, log_of, new_run, next_epoch, numbers_of, row_of
from tests.sql.turns import at_once, behind

BATCH = 7
EVENTS = 420


@pytest.fixture
def second(connect: Connect) -> Connection:
    """A second connection of PostgREST's."""
    return connect("authenticator")


def write_by_sql(admin: Connection, run: Run) -> None:
    """Two events that SQL itself writes."""
    query = "select private.append(%s, %s, array['session.note', 'session.note'], array['{}', '{}']::jsonb[])"
    admin.execute(query, (run.session_id, run.id))


def test_an_append_waits_for_the_one_before(rest: Connection, second: Connection, admin: Connection, run: Run) -> None:
    """The same batch on two connections: the second waits, then finds it held, and nothing is written twice."""
    send = partial(append, runner=run.runner, numbers=[1, 2, 3])
    answer = behind(admin, rest, lambda: send(rest), second, lambda: send(second))
    assert answer["last_n"] == 3
    assert numbers_of(admin, run) == [1, 2, 3]


def test_an_append_takes_the_place_of_one_undone(
    rest: Connection, second: Connection, admin: Connection, run: Run
) -> None:
    """When the first is rolled back, the second takes its numbers and its seq: no hole is left behind."""
    send = partial(append, runner=run.runner, numbers=[1, 2, 3])
    behind(admin, rest, lambda: send(rest), second, lambda: send(second), commit=False)
    assert numbers_of(admin, run) == [1, 2, 3]


def test_an_append_waits_for_events_that_sql_writes(
    rest: Connection, connect: Connect, admin: Connection, run: Run
) -> None:
    """SQL's own events and the runner's, written at the same time, get different places."""
    sweep = connect("supabase_admin")
    behind(admin, sweep, lambda: write_by_sql(sweep, run), rest, lambda: append(rest, run.runner, [1, 2]))
    assert [n for _, n, _ in log_of(admin, run)] == [None, None, None, 1, 2]
    assert numbers_of(admin, run) == [1, 2]


def test_events_that_sql_writes_wait_for_an_append(
    rest: Connection, connect: Connect, admin: Connection, run: Run
) -> None:
    """The other way round as well."""
    sweep = connect("supabase_admin")
    behind(admin, rest, lambda: append(rest, run.runner, [1, 2]), sweep, lambda: write_by_sql(sweep, run))
    assert [n for _, n, _ in log_of(admin, run)] == [None, 1, 2, None, None]
    assert numbers_of(admin, run) == [1, 2]


ACTS: dict[str, Callable[[Connection, Run], object]] = {
    "append": lambda connection, run: append(connection, run.runner, [2]),
    "heartbeat": lambda connection, run: run.runner.call(connection, "heartbeat_v1"),
    "finish": lambda connection, run: finish(connection, run.runner, 1),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_epoch_that_ends_while_the_runner_waits(
    rest: Connection, second: Connection, admin: Connection, run: Run, name: str
) -> None:
    """The old runner's call is on its way when the epoch rises: it waits for the lock, looks again, and is refused."""
    append(rest, run.runner, [1])
    before = log_of(admin, run)
    with refused("PT403", "stale_epoch"):
        behind(admin, rest, lambda: next_epoch(rest, run), second, lambda: ACTS[name](second, run))
    assert log_of(admin, run) == before
    assert row_of(admin, run)["status"] == "running"


@pytest.mark.parametrize("name", ACTS)
def test_an_epoch_that_did_not_rise_after_all(
    rest: Connection, second: Connection, admin: Connection, run: Run, name: str
) -> None:
    """When the rise is rolled back, the runner that waited goes on as if nothing had been."""
    append(rest, run.runner, [1])
    behind(admin, rest, lambda: next_epoch(rest, run), second, lambda: ACTS[name](second, run), commit=False)
    assert row_of(admin, run)["epoch"] == 1


def test_an_event_that_comes_while_the_run_ends(
    rest: Connection, second: Connection, admin: Connection, run: Run
) -> None:
    """An append that waited for the end is refused; session.status_idle stays the log's last event."""
    append(rest, run.runner, [1])
    with refused("PT409", "run_finished"):
        behind(admin, rest, lambda: finish(rest, run.runner, 1), second, lambda: append(second, run.runner, [2]))
    assert log_of(admin, run)[-1][2] == "session.status_idle"


def test_two_ends_at_once(rest: Connection, second: Connection, admin: Connection, run: Run) -> None:
    """The first ending stands; the second waits for it and is told."""
    answer = behind(
        admin, rest, lambda: finish(rest, run.runner, 0, "failed"), second, lambda: finish(second, run.runner, 0)
    )
    assert answer["status"] == "failed"
    assert [kind for _, _, kind in log_of(admin, run)] == ["run.created", "run.failed", "session.status_idle"]


def test_a_cancel_that_comes_while_the_run_ends(
    rest: Connection, second: Connection, admin: Connection, run: Run
) -> None:
    """Who cancels a run that is just ending hears that it has, and nothing is written behind its end."""
    with refused("PT409", "run_finished"):
        behind(
            admin, rest, lambda: finish(rest, run.runner, 0), second,
            lambda: run.owner.call(second, "request_cancel_v1", run_id=run.id, request_hash=HASH),
        )  # fmt: skip
    assert log_of(admin, run)[-1][2] == "session.status_idle"


def ship(connection: Connection, run: Run, seed: int) -> int:
    """A runner that goes on from what is held, in batches of chance size, until everything is. Returns the calls."""
    chance, held, calls = random.Random(seed), 0, 0
    while held < EVENTS:
        batch = range(held + 1, min(held + chance.randint(1, 2 * BATCH), EVENTS) + 1)
        held, calls = append(connection, run.runner, batch)["last_n"], calls + 1
    return calls


def test_writers_of_one_session_at_the_same_time(connect: Connect, admin: Connection, run: Run) -> None:
    """Two senders of the same numbers, the owner's cancel and SQL's own events, all at once: 1..N, each once."""
    sweep, owner = connect("supabase_admin"), connect("authenticator")

    def cancel() -> int:
        for _ in range(20):
            run.owner.call(owner, "request_cancel_v1", run_id=run.id, request_hash=HASH)
        return 20

    def note() -> int:
        for _ in range(30):
            write_by_sql(sweep, run)
        return 30

    runners: list[Callable[[], int]] = [partial(ship, connect("authenticator"), run, seed) for seed in (1, 2)]
    at_once([*runners, cancel, note])
    assert numbers_of(admin, run) == list(range(1, EVENTS + 1))
    kinds = [kind for _, _, kind in log_of(admin, run)]
    assert (kinds.count("session.note"), kinds.count("run.cancel_requested")) == (60, 1)
    last_seq = column(admin, "select last_seq from public.agent_sessions where id = %s", (run.session_id,))
    assert last_seq == [len(kinds)]


def test_two_sessions_do_not_wait_for_each_other(
    rest: Connection, admin: Connection, run: Run, connect: Connect
) -> None:
    """The lock is the session's: while one is held, another session's events are taken."""
    other = new_run(rest, admin)
    second = connect("authenticator")
    second.execute("set lock_timeout = '10s'")
    with rest.transaction():
        append(rest, run.runner, [1])
        assert append(second, other.runner, [1])["last_n"] == 1

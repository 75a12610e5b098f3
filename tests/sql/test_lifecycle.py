"""The run's lifecycle: `run_moves` decides every change of a status, whoever makes it."""

from itertools import product

import psycopg
import pytest

from tests.sql.people import Connection, column, refused, scalar
from tests.sql.runs import Run, append, events, finish, lose, row_of

STATUSES = ("launching", "running", "succeeded", "failed", "cancelled", "timed_out", "lost")
LIVE = ("launching", "running")
MOVES = {
    ("launching", "running"): {"runner"},
    ("launching", "succeeded"): {"runner"},
    ("launching", "failed"): {"runner", "launch"},
    ("launching", "cancelled"): {"runner", "launch", "sweep"},
    ("launching", "timed_out"): {"runner", "sweep"},
    ("launching", "lost"): {"launch", "sweep"},
    ("running", "succeeded"): {"runner"},
    ("running", "failed"): {"runner"},
    ("running", "cancelled"): {"runner", "launch", "sweep"},
    ("running", "timed_out"): {"runner", "sweep"},
    ("running", "lost"): {"launch", "sweep"},
}


def moves(admin: Connection) -> dict[tuple[str, str], set[str]]:
    """The table of moves as it is."""
    rows = admin.execute("select from_status, to_status, made_by from public.run_moves").fetchall()
    return {(start, end): set(made_by) for start, end, made_by in rows}


def put(admin: Connection, run: Run, status: str) -> None:
    """Another run of the same owner in this status, under the same id."""
    admin.execute("delete from public.agent_runs where id = %s", (run.id,))
    admin.execute(
        """
        insert into public.agent_runs (id, session_id, owner, kind, input, limit_seconds, deadline_at, status, ended_at)
        values (%s, %s, %s, 'commands', '{}', 1, now(), %s, case when %s then null else now() end)
        """,
        (run.id, run.session_id, run.owner.id, status, status in LIVE),
    )


def move(admin: Connection, run: Run, status: str) -> None:
    """A change of the status by hand, as the superuser."""
    query = "update public.agent_runs set status = %s, ended_at = case when %s then null else now() end where id = %s"
    admin.execute(query, (status, status in LIVE, run.id))


def test_the_table_of_moves(admin: Connection) -> None:
    """The moves and who makes them are the eleven written here."""
    assert moves(admin) == MOVES


@pytest.mark.parametrize("start", STATUSES)
def test_every_pair_of_statuses_is_allowed_just_as_the_table_says(admin: Connection, run: Run, start: str) -> None:
    """Each status to each status: a direct update passes where the table has the move and raises PT409 otherwise."""
    allowed = moves(admin)
    for end in STATUSES:
        put(admin, run, start)
        if (start, end) in allowed or start == end:
            move(admin, run, end)
        else:
            with refused("PT409", "illegal_move", f"a run that is {start} cannot become {end}"):
                move(admin, run, end)


def test_there_is_no_way_out_of_an_ended_run(admin: Connection) -> None:
    """No move starts in a terminal status, and each terminal status can be reached from both live ones."""
    pairs = set(moves(admin))
    assert {start for start, _ in pairs} == set(LIVE)
    assert set(product(LIVE, set(STATUSES) - set(LIVE))) <= pairs


def test_what_is_live_is_what_has_a_way_out(admin: Connection) -> None:
    """private.is_live, the moves and the index for one live run per session mean the same statuses."""
    assert {status for status in STATUSES if scalar(admin, "select private.is_live(%s)", (status,))} == set(LIVE)
    index = scalar(admin, "select pg_get_expr(indpred, indrelid) from pg_index where indexrelid = %s::regclass",
                   ("public.agent_runs_one_live",))  # fmt: skip
    assert {status for status in STATUSES if f"'{status}'" in index} == set(LIVE)


def test_the_statuses_of_the_moves_are_the_statuses_of_a_run(admin: Connection) -> None:
    """The CHECK on a run's status knows exactly the words that the moves use."""
    words = set(column(admin, "select unnest(array[from_status, to_status]) from public.run_moves"))
    check = scalar(
        admin, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'agent_runs_status_check'"
    )
    assert {part for part in check.split("'") if part.isidentifier() and part != "text"} == words == set(STATUSES)


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "timed_out"])
def test_functions_make_no_move_that_the_table_does_not_have(
    rest: Connection, admin: Connection, run: Run, end: str
) -> None:
    """With its row taken from the table, the runner's ending is refused: the functions hold no second list."""
    append(rest, run.runner, [1])
    taken = admin.execute(
        "delete from public.run_moves where from_status = 'running' and to_status = %s returning *", (end,)
    )
    row = taken.fetchone()
    try:
        with refused("PT400", "not_an_end"):
            finish(rest, run.runner, 1, end)
    finally:
        admin.execute("insert into public.run_moves values (%s, %s, %s)", row)
    assert finish(rest, run.runner, 1, end)["status"] == end


def test_the_first_event_cannot_start_a_run_that_may_not_start(rest: Connection, admin: Connection, run: Run) -> None:
    """append_events_v1 is bound by the table as well: without the move, the event is not taken."""
    admin.execute("delete from public.run_moves where (from_status, to_status) = ('launching', 'running')")
    try:
        with refused("PT409", "illegal_move"):
            append(rest, run.runner, [1])
    finally:
        admin.execute("insert into public.run_moves values ('launching', 'running', array['runner'])")
    assert row_of(admin, run)["last_n"] == 0


@pytest.mark.parametrize("end", ["lost", "cancelled", "timed_out", "failed"])
def test_an_end_frees_the_session_and_is_kept(rest: Connection, admin: Connection, run: Run, end: str) -> None:
    """Whoever ends a run: it has an end, its session is idle, and nothing can end it a second time."""
    lose(admin, run, end)
    query = "select status from public.agent_sessions where id = %s"
    assert scalar(admin, query, (run.session_id,)) == "idle"
    assert row_of(admin, run)["ended_at"] is not None
    for again in set(STATUSES) - {end}:
        with refused("PT409", "illegal_move"):
            lose(admin, run, again)
    assert finish(rest, run.runner, 0, "succeeded")["status"] == end


def test_ending_a_run_leaves_a_terminated_session_terminated(admin: Connection, run: Run) -> None:
    """A session that was closed meanwhile does not come back to life with the end of its run."""
    admin.execute("update public.agent_sessions set status = 'terminated' where id = %s", (run.session_id,))
    lose(admin, run)
    assert scalar(admin, "select status from public.agent_sessions where id = %s", (run.session_id,)) == "terminated"


def test_a_run_that_is_not_there_cannot_end(admin: Connection, run: Run) -> None:
    """end_run raises where there is nothing to end, instead of writing events for it."""
    admin.execute("delete from public.agent_runs where id = %s", (run.id,))
    with pytest.raises(psycopg.errors.NoDataFound):
        lose(admin, run)


def test_the_times_of_a_run_follow_its_life(rest: Connection, admin: Connection, run: Run) -> None:
    """started_at comes with the first event and stays; heartbeat_at with every answer; ended_at with the end."""
    assert {row_of(admin, run)[name] for name in ("started_at", "heartbeat_at", "ended_at")} == {None}
    append(rest, run.runner, [1])
    first = row_of(admin, run)
    assert first["status"] == "running"
    assert first["started_at"] == first["heartbeat_at"]
    append(rest, run.runner, [2])
    second = row_of(admin, run)
    assert second["started_at"] == first["started_at"] < second["heartbeat_at"]
    run.runner.call(rest, "heartbeat_v1")
    assert row_of(admin, run)["heartbeat_at"] > second["heartbeat_at"]
    finish(rest, run.runner, 2)
    assert row_of(admin, run)["ended_at"] > second["heartbeat_at"]


def test_an_empty_batch_starts_a_run(rest: Connection, admin: Connection, run: Run) -> None:
    """A batch that brings nothing is a sign of life all the same."""
    answer = run.runner.call(rest, "append_events_v1", events=events([]))
    assert answer["status"] == row_of(admin, run)["status"]

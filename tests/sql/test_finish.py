"""finish_run_v1 and the epoch: a run ends once, with a complete log, by the runner that is in charge."""

import pytest

from tests.sql.people import SERVICE, Connection, refused, scalar
from tests.sql.runs import Run, append, finish, log_of, lose, new_run, next_epoch, row_of

ENDS = ("succeeded", "failed", "cancelled", "timed_out")


def last_events(admin: Connection, run: Run) -> list[tuple[str, object]]:
    """(type, data) of the last two events of the log."""
    query = "select type, data from public.agent_events where session_id = %s order by seq desc limit 2"
    return admin.execute(query, (run.session_id,)).fetchall()[::-1]


@pytest.mark.parametrize("end", ENDS)
def test_the_end_is_written_with_the_row(rest: Connection, admin: Connection, run: Run, end: str) -> None:
    """Status, result and error stand in the row and in run.<status>; session.status_idle is the log's last event."""
    append(rest, run.runner, [1, 2])
    result, error = {"commands": 1}, {"type": "x"}
    answer = finish(rest, run.runner, 2, end, result=result, error=error)
    assert answer == {
        "status": end, "last_n": 2, "last_seq": 5, "input_seq": 0, "cancel_requested": False, "budget_reached": None,
    }  # fmt: skip
    row = row_of(admin, run)
    assert (row["status"], row["result"], row["error"]) == (end, result, error)
    assert last_events(admin, run) == [
        (f"run.{end}", {"result": result, "error": error}),
        ("session.status_idle", {"stop_reason": {"type": "end_turn"}}),
    ]


@pytest.mark.parametrize("end", ENDS)
def test_finishing_twice_writes_once(rest: Connection, admin: Connection, run: Run, end: str) -> None:
    """The same call again, or another ending after it, answers with what was written first and writes nothing."""
    append(rest, run.runner, [1])
    first = finish(rest, run.runner, 1, end)
    before, row = log_of(admin, run), row_of(admin, run)
    assert finish(rest, run.runner, 1, end) == first
    assert finish(rest, run.runner, 1, "failed", error={"late": True}) == first
    assert finish(rest, run.runner, 99, "succeeded") == first
    assert log_of(admin, run) == before
    assert row_of(admin, run) == row


@pytest.mark.parametrize("claimed", [0, 2, 4, 99, -1, None])
def test_an_end_waits_for_its_events(rest: Connection, admin: Connection, run: Run, claimed: int | None) -> None:
    """Unless the log holds exactly last_n, the end is PT409 events_missing, with the number that is held."""
    append(rest, run.runner, [1, 2, 3])
    before = log_of(admin, run)
    with refused("PT409", "events_missing", "3"):
        run.runner.call(rest, "finish_run_v1", status="succeeded", last_n=claimed)
    assert log_of(admin, run) == before
    assert finish(rest, run.runner, 3)["status"] == "succeeded"


@pytest.mark.parametrize("status", ["lost", "launching", "running", "done", "", "SUCCEEDED", None])
def test_a_runner_cannot_end_as_anything_else(
    rest: Connection, admin: Connection, run: Run, status: str | None
) -> None:
    """lost is the sweep's word, launching and running are no ends, others are no statuses: PT400 not_an_end."""
    with refused("PT400", "not_an_end"):
        run.runner.call(rest, "finish_run_v1", status=status, last_n=0)
    append(rest, run.runner, [1])
    with refused("PT400", "not_an_end"):
        run.runner.call(rest, "finish_run_v1", status=status, last_n=1)
    assert row_of(admin, run)["status"] == "running"


def test_a_run_may_end_before_its_first_event(rest: Connection, admin: Connection, run: Run) -> None:
    """A runner that can do nothing but fail ends its run straight from launching."""
    finish(rest, run.runner, 0, "failed", error={"type": "bad_job"})
    assert [kind for _, _, kind in log_of(admin, run)] == ["run.created", "run.failed", "session.status_idle"]


def test_a_finish_that_comes_after_the_sweep_learns_of_it(rest: Connection, admin: Connection, run: Run) -> None:
    """The runner of a run that was given up as lost is told so, and does not overwrite it."""
    append(rest, run.runner, [1])
    lose(admin, run)
    assert finish(rest, run.runner, 1)["status"] == "lost"
    assert row_of(admin, run)["status"] == "lost"


def test_a_new_epoch_shuts_the_old_one_out(rest: Connection, admin: Connection, run: Run) -> None:
    """After next_epoch_v1 the old token may not append, heartbeat or finish; the new one goes on from what is held."""
    append(rest, run.runner, [1, 2])
    assert next_epoch(rest, run) == 2
    before = log_of(admin, run)
    with refused("PT403", "stale_epoch", "the run is at epoch 2"):
        append(rest, run.runner, [3])
    with refused("PT403", "stale_epoch"):
        run.runner.call(rest, "heartbeat_v1")
    with refused("PT403", "stale_epoch"):
        finish(rest, run.runner, 2)
    assert log_of(admin, run) == before
    assert append(rest, run.at_epoch(2), [2, 3])["last_n"] == 3
    assert finish(rest, run.at_epoch(2), 3)["status"] == "succeeded"


@pytest.mark.parametrize("epoch", [0, 2, None])
def test_an_epoch_that_was_not_given_out_is_refused(rest: Connection, run: Run, epoch: int | None) -> None:
    """A token of a later epoch, of none at all, or without the claim is no better than one of an older."""
    with refused("PT403", "stale_epoch"):
        append(rest, run.claiming(epoch=epoch), [1])


def test_an_ended_run_gets_no_new_epoch(rest: Connection, admin: Connection, run: Run) -> None:
    """next_epoch_v1 answers null for a run that has ended, and raises PT404 for one that never was."""
    finish(rest, run.runner, 0)
    assert next_epoch(rest, run) is None
    assert row_of(admin, run)["epoch"] == 1
    with refused("PT404", "run_not_found"):
        SERVICE.call(rest, "next_epoch_v1", run_id=run.session_id)


def test_the_session_is_free_for_the_next_run(rest: Connection, admin: Connection, run: Run) -> None:
    """While the run lives its session is running; after the end it is idle and takes another."""
    status = "select status from public.agent_sessions where id = %s"
    assert scalar(admin, status, (run.session_id,)) == "running"
    finish(rest, run.runner, 0)
    assert scalar(admin, status, (run.session_id,)) == "idle"
    assert new_run(rest, admin, run.owner, session_id=run.session_id).session_id == run.session_id
    assert scalar(admin, status, (run.session_id,)) == "running"

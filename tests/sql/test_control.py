"""The control plane's functions: the sandbox is recorded, a launch that failed is ended, a sandbox is closed."""

from uuid import uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.people import SERVICE, Connection, refused
from tests.sql.runs import Json, Run, append, finish, log_of, lose, row_of
from tests.sql.turns import behind

ERROR = {"type": "sandbox_unavailable", "message": "E2B did not answer"}


def record(rest: Connection, run: Run, sandbox: str) -> Json:
    """The answer of record_sandbox_v1."""
    return dict(SERVICE.call(rest, "record_sandbox_v1", run_id=run.id, sandbox_id=sandbox, template="base"))


def fail(rest: Connection, run: Run) -> Json:
    """The answer of fail_launch_v1."""
    return dict(SERVICE.call(rest, "fail_launch_v1", run_id=run.id, error=ERROR))


def close(rest: Connection, sandbox: str, reason: str) -> None:
    """close_sandbox_v1."""
    SERVICE.call(rest, "close_sandbox_v1", sandbox_id=sandbox, reason=reason)


def executions(admin: Connection, run: Run) -> list[tuple[object, ...]]:
    """(sandbox, session, owner, template, has ended, reason) of the run's sandboxes, by id."""
    query = """
      select sandbox_id, session_id, owner, template, ended_at is not null, end_reason
      from public.sandbox_executions where run_id = %s order by sandbox_id
    """
    return admin.execute(query, (run.id,)).fetchall()


def test_a_sandbox_is_recorded_with_its_run(rest: Connection, admin: Connection, run: Run) -> None:
    """The run's row and the list of executions carry it; the answer is the run without its input."""
    sandbox = f"a-{run.id}"
    answer = record(rest, run, sandbox)
    assert (answer["sandbox_id"], answer["status"], "input" in answer) == (sandbox, "launching", False)
    assert row_of(admin, run)["sandbox_id"] == sandbox
    assert executions(admin, run) == [(sandbox, run.session_id, run.owner.id, "base", False, None)]


def test_recording_a_sandbox_twice_is_recording_it_once(rest: Connection, admin: Connection, run: Run) -> None:
    """A repeated call changes nothing, and a second sandbox of the run stands beside the first."""
    first, second = f"a-{run.id}", f"b-{run.id}"
    assert record(rest, run, first) == record(rest, run, first)
    record(rest, run, second)
    assert [row[0] for row in executions(admin, run)] == [first, second]
    assert row_of(admin, run)["sandbox_id"] == second


def test_the_launch_sees_a_run_that_ended_meanwhile(rest: Connection, admin: Connection, run: Run) -> None:
    """Recording answers with the run's end, so that the sandbox can be killed, and keeps the sandbox to be found."""
    lose(admin, run)
    assert record(rest, run, f"a-{run.id}")["status"] == "lost"
    assert len(executions(admin, run)) == 1


def test_a_launch_that_failed_ends_its_run(rest: Connection, admin: Connection, run: Run) -> None:
    """The run is failed with the error, and the log says session.error, run.failed, session.status_idle."""
    answer = fail(rest, run)
    assert (answer["status"], answer["error"], "input" in answer) == ("failed", ERROR, False)
    assert [kind for _, _, kind in log_of(admin, run)] == [
        "run.created", "session.error", "run.failed", "session.status_idle",
    ]  # fmt: skip
    query = "select data from public.agent_events where session_id = %s and type = 'session.error'"
    assert admin.execute(query, (run.session_id,)).fetchall() == [({"error": ERROR},)]
    assert fail(rest, run) == answer
    assert len(log_of(admin, run)) == 4


def test_a_run_that_has_started_is_not_failed_by_its_launch(rest: Connection, admin: Connection, run: Run) -> None:
    """The runner lives although the launch saw an error: the run goes on, running or ended."""
    append(rest, run.runner, [1])
    before = log_of(admin, run)
    assert fail(rest, run)["status"] == "running"
    assert log_of(admin, run) == before
    finish(rest, run.runner, 1)
    assert fail(rest, run)["status"] == "succeeded"
    assert row_of(admin, run)["error"] is None


def test_a_launch_fails_while_the_first_event_comes(
    rest: Connection, connect: Connect, admin: Connection, run: Run
) -> None:
    """The first event before the failure: the failure waits, and leaves the started run alone."""
    second = connect("authenticator")
    answer = behind(admin, rest, lambda: append(rest, run.runner, [1]), second, lambda: fail(second, run))
    assert answer["status"] == "running"


def test_the_first_event_comes_while_a_launch_fails(
    rest: Connection, connect: Connect, admin: Connection, run: Run
) -> None:
    """The failure before the first event: the runner waits, and hears that its run has ended."""
    second = connect("authenticator")
    with refused("PT409", "run_finished"):
        behind(admin, rest, lambda: fail(rest, run), second, lambda: append(second, run.runner, [1]))
    assert log_of(admin, run)[-1][2] == "session.status_idle"


@pytest.mark.parametrize("function", ["record_sandbox_v1", "fail_launch_v1", "next_epoch_v1"])
def test_a_run_that_never_was_is_not_found(rest: Connection, function: str) -> None:
    """PT404 run_not_found, not a silent nothing."""
    arguments: dict[str, Json] = {
        "record_sandbox_v1": {"sandbox_id": "x", "template": "base"},
        "fail_launch_v1": {"error": ERROR},
    }
    with refused("PT404", "run_not_found"):
        SERVICE.call(rest, function, run_id=uuid4(), **arguments.get(function, {}))


def test_the_first_reason_of_a_sandbox_stays(rest: Connection, admin: Connection, run: Run) -> None:
    """Closing writes the time and the reason once; later reasons and unknown sandboxes change nothing."""
    sandbox, other = f"a-{run.id}", f"b-{run.id}"
    record(rest, run, sandbox)
    record(rest, run, other)
    close(rest, sandbox, "run_ended")
    ended = admin.execute("select ended_at from public.sandbox_executions where sandbox_id = %s", (sandbox,)).fetchall()
    close(rest, sandbox, "orphan")
    close(rest, "unknown", "orphan")
    assert [row[4:] for row in executions(admin, run)] == [(True, "run_ended"), (False, None)]
    again = admin.execute("select ended_at from public.sandbox_executions where sandbox_id = %s", (sandbox,)).fetchall()
    assert again == ended


def test_a_new_epoch_is_one_higher_for_each_caller(
    rest: Connection, connect: Connect, admin: Connection, run: Run
) -> None:
    """Two who restart the same run at once get different epochs, so that only one of their runners can write."""
    second = connect("authenticator")

    def rise(connection: Connection) -> int:
        return int(SERVICE.call(connection, "next_epoch_v1", run_id=run.id))

    assert behind(admin, rest, lambda: rise(rest), second, lambda: rise(second)) == 3
    with refused("PT403", "stale_epoch"):
        append(rest, run.at_epoch(2), [1])
    assert append(rest, run.at_epoch(3), [1])["last_n"] == 1

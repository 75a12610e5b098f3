"""What sandboxes cost while they run, and which budget a run has used up."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.postgres import SUPERUSER
from tests.sql.conftest import Connect
from tests.sql.conversations import end_turn, message, new_turn, send, turn_of
from tests.sql.limits import allow
from tests.sql.money import (
    cost_of,
    life,
    month,
    priced,
    record,
    run_on,
    sandbox_microusd,
    spends,
    use,
)
from tests.sql.people import SERVICE, Connection, Person, scalar, sign_up
from tests.sql.runs import Json, Run, append, finish, lose, new_run
from tests.sql.turns import at_once, wait_until_blocked

IDLE_SECONDS = 300
# How much longer than a test says a sandbox may have run: the test itself takes its time.
SLACK_SECONDS = 30
ROUNDS = 15


@pytest.fixture(autouse=True)
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


def charged_seconds(admin: Connection, run: Run) -> float:
    """How long the run's sandboxes were charged for."""
    return sum(int(row["quantity"]["milliseconds"]) for row in spends(admin, run, "sandbox")) / 1000


def about(seconds: float, found: float) -> bool:
    """What was charged is that, and what the test took."""
    return seconds <= found < seconds + SLACK_SECONDS


def close(rest: Connection, sandbox: str) -> None:
    """close_sandbox_v1."""
    SERVICE.call(rest, "close_sandbox_v1", sandbox_id=sandbox, reason="succeeded")


def reached(rest: Connection, run: Run) -> Json | None:
    """What a sign of life is answered about budgets."""
    answer: Json = run.runner.call(rest, "heartbeat_v1")
    found: Json | None = answer["budget_reached"]
    return found


def test_a_run_is_charged_for_its_sandbox_at_its_end(rest: Connection, admin: Connection, run: Run) -> None:
    """From when its id was stored; the row of the sandbox has how long, what it cost and how many commands ran."""
    sandbox = record(rest, run)
    run_on(admin, sandbox, 100)
    append(rest, run.runner, [1])
    finish(rest, run.runner, 1)
    row = life(admin, sandbox)
    assert about(100, charged_seconds(admin, run))
    assert row["running_ms"] == charged_seconds(admin, run) * 1000
    assert row["cost_microusd"] == sandbox_microusd(row["running_ms"]) == cost_of(admin, run.session_id)


def test_the_time_until_it_is_killed_is_charged_too(rest: Connection, admin: Connection, run: Run) -> None:
    """And closing again charges nothing more."""
    sandbox = record(rest, run)
    finish(rest, run.runner, 0, "failed")
    run_on(admin, sandbox, 20)
    close(rest, sandbox)
    assert about(20, charged_seconds(admin, run))
    before = life(admin, sandbox)
    close(rest, sandbox)
    assert life(admin, sandbox) == before
    assert before["metered_at"] is None


def test_a_sandbox_that_idles_is_charged_until_it_is_paused(rest: Connection, admin: Connection) -> None:
    """It was woken a day later: what it slept is free."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn)
    end_turn(rest, admin, turn)
    run_on(admin, sandbox, 86_400)
    follow_up = turn_of(send(rest, turn.owner, turn.session_id, message()), turn.owner)
    record(rest, follow_up, sandbox)
    assert about(IDLE_SECONDS, charged_seconds(admin, turn))
    run_on(admin, sandbox, 50)
    end_turn(rest, admin, follow_up)
    assert about(50, charged_seconds(admin, follow_up))
    assert about(IDLE_SECONDS + 50, life(admin, sandbox)["running_ms"] / 1000)


def test_the_sweep_charges_what_idled_away(rest: Connection, admin: Connection) -> None:
    """Once it must be paused by now; a second sweep finds nothing, and nor does one that comes too early."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn)
    end_turn(rest, admin, turn)
    SERVICE.call(rest, "settle_v1")
    assert life(admin, sandbox)["metered_at"] is not None
    run_on(admin, sandbox, 2 * IDLE_SECONDS)
    SERVICE.call(rest, "settle_v1")
    SERVICE.call(rest, "settle_v1")
    assert life(admin, sandbox)["metered_at"] is None
    assert about(IDLE_SECONDS, charged_seconds(admin, turn))


def test_a_working_sandbox_is_not_the_sweeps(rest: Connection, admin: Connection, run: Run) -> None:
    """However long it works."""
    sandbox = record(rest, run)
    run_on(admin, sandbox, 2 * IDLE_SECONDS)
    SERVICE.call(rest, "settle_v1")
    assert charged_seconds(admin, run) == 0
    finish(rest, run.runner, 0, "failed")
    assert about(2 * IDLE_SECONDS, charged_seconds(admin, run))


def test_a_lost_run_is_charged_to_its_last_sign_of_life(rest: Connection, admin: Connection, run: Run) -> None:
    """Its sandbox was gone before the sweep found that out."""
    sandbox = record(rest, run)
    append(rest, run.runner, [1])
    run_on(admin, sandbox, 100)
    admin.execute(
        "update public.agent_runs set heartbeat_at = heartbeat_at - interval '60 seconds' where id = %s", (run.id,)
    )
    lose(admin, run)
    assert about(40, charged_seconds(admin, run))
    run_on(admin, sandbox, 500)
    close(rest, sandbox)
    assert about(40, charged_seconds(admin, run))


def test_a_run_without_sandbox_costs_nothing(admin: Connection, run: Run) -> None:
    """It failed before it had one."""
    lose(admin, run, "failed")
    assert cost_of(admin, run.session_id) == 0


def test_commands_are_counted(rest: Connection, admin: Connection) -> None:
    """Each start of a plan's command, and each use of a shell by Claude; a batch that comes again counts once."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn)
    kinds = [
        ("agent.tool_use", "bash"),
        ("agent.tool_use", "read"),
        ("command.started", None),
        ("agent.tool_use", "bash"),
    ]
    batch = [
        {"n": n, "type": kind, "data": {"name": name}, "at": "2026-11-21T08:00:00Z"}
        for n, (kind, name) in enumerate(kinds, 1)
    ]
    for _ in range(2):
        turn.runner.call(rest, "append_events_v1", events=batch)
    assert life(admin, sandbox)["commands"] == 3


def test_a_plan_is_told_when_its_sandbox_has_used_its_budget_up(rest: Connection, admin: Connection) -> None:
    """Not before; and every answer says so."""
    run = new_run(rest, admin, budget_microusd=sandbox_microusd(100_000))
    sandbox = record(rest, run)
    assert reached(rest, run) is None
    run_on(admin, sandbox, 100)
    told = reached(rest, run)
    assert told is not None
    assert (told["scope"], told["limit_microusd"]) == ("run", sandbox_microusd(100_000))
    assert told["spent_microusd"] >= told["limit_microusd"]
    assert append(rest, run.runner, [1])["budget_reached"]["scope"] == "run"
    assert finish(rest, run.runner, 1, "failed")["budget_reached"] is None


def test_the_answer_to_the_request_that_goes_over_says_so(rest: Connection, admin: Connection) -> None:
    """A session's budget: the batch that spends the last of it is the last that is needed."""
    turn = new_turn(rest, admin, budget_microusd=10_000)
    assert use(rest, turn, 1, "a", input_tokens=9_999)["budget_reached"] is None
    told = use(rest, turn, 2, "b", input_tokens=1)["budget_reached"]
    assert told == {"scope": "session", "spent_microusd": 10_000, "limit_microusd": 10_000}


def test_a_budget_raised_while_it_works_lets_it_work_on(rest: Connection, admin: Connection) -> None:
    """The next answer says nothing of budgets any more."""
    turn = new_turn(rest, admin, budget_microusd=10_000)
    assert use(rest, turn, 1, input_tokens=20_000)["budget_reached"] is not None
    raised = {"budget_microusd": 30_000}
    turn.owner.call(rest, "update_session_v1", session_id=turn.session_id, changes=raised, request_hash="c" * 64)
    assert reached(rest, turn) is None


def test_a_month_stops_a_run_that_has_used_its_promise(rest: Connection, admin: Connection) -> None:
    """Within its promise it goes on, whatever else the month has come to."""
    turn = new_turn(rest, admin)
    promised = scalar(admin, "select reserved_microusd from private.run_costs where run_id = %s", (turn.id,))
    allow(rest, admin, turn.owner, max_month_microusd=1)
    assert use(rest, turn, 1, "a", input_tokens=promised - 1)["budget_reached"] is None
    told = use(rest, turn, 2, "b", input_tokens=1)["budget_reached"]
    assert (told["scope"], told["limit_microusd"]) == ("month", 1)
    allow(rest, admin, turn.owner, max_month_microusd=10 * promised)
    assert reached(rest, turn) is None


def test_other_runs_promises_count_against_the_month(rest: Connection, admin: Connection) -> None:
    """A run may not spend what another one was promised."""
    turn = new_turn(rest, admin)
    promised = scalar(admin, "select reserved_microusd from private.run_costs where run_id = %s", (turn.id,))
    other = new_turn(rest, admin, turn.owner)
    allow(rest, admin, turn.owner, max_month_microusd=2 * promised)
    assert use(rest, turn, 1, "a", input_tokens=promised)["budget_reached"]["scope"] == "month"
    lose(admin, other)
    assert reached(rest, turn) is None


def test_what_sandboxes_run_up_beyond_their_promise_is_the_months(rest: Connection, admin: Connection) -> None:
    """It counts before it is charged: for admission, for the owner who looks, and for the run itself."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn)
    promised = scalar(admin, "select reserved_microusd from private.run_costs where run_id = %s", (turn.id,))
    use(rest, turn, 1, input_tokens=promised)
    allow(rest, admin, turn.owner, max_month_microusd=promised + sandbox_microusd(100_000))
    run_on(admin, sandbox, 40)
    left = month(rest, turn.owner)["remainder_microusd"]
    assert 0 < left <= sandbox_microusd(60_000)
    assert reached(rest, turn) is None
    run_on(admin, sandbox, 60)
    told = reached(rest, turn)
    assert told is not None
    assert told["scope"] == "month"
    assert month(rest, turn.owner)["remainder_microusd"] == 0


def resting(rest: Connection, admin: Connection, owner: Person) -> tuple[Run, str]:
    """A conversation's first run, which has ended, and its sandbox, which idles for longer than it may."""
    turn = new_turn(rest, admin, owner)
    sandbox = record(rest, turn)
    end_turn(rest, admin, turn)
    run_on(admin, sandbox, 2 * IDLE_SECONDS)
    return turn, sandbox


def test_a_sandbox_woken_while_the_sweep_looks_is_metered_on(
    rest: Connection, admin: Connection, connect: Connect
) -> None:
    """The sweep found it idle and is held up by another owner's month; then a message comes, whose run is metered."""
    busy, later = sorted((sign_up(admin) for _ in range(2)), key=lambda person: person.id)
    for _ in range(ROUNDS):  # more than the sweep locks at once
        resting(rest, admin, busy)
    woken, sandbox = resting(rest, admin, later)
    holder, sweep = connect(SUPERUSER), connect("authenticator")
    with ThreadPoolExecutor(1) as pool:
        with holder.transaction():
            holder.execute("select from private.month_costs where owner = %s for update", (busy.id,))
            settling = pool.submit(SERVICE.call, sweep, "settle_v1")
            wait_until_blocked(admin, sweep.info.backend_pid, settling)
            follow_up = turn_of(send(rest, later, woken.session_id, message()), later)
            record(rest, follow_up, sandbox)
        settling.result(IDLE_SECONDS)
    assert life(admin, sandbox)["metered_at"] is not None


def test_two_sweeps_at_once_share_the_sandboxes(admin: Connection, rest: Connection, connect: Connect) -> None:
    """Of many owners: neither waits for the other for ever, and each sandbox is charged once."""
    turns = [new_turn(rest, admin) for _ in range(ROUNDS)]
    sandboxes = [record(rest, turn) for turn in turns]
    for turn, sandbox in zip(turns, sandboxes, strict=True):
        end_turn(rest, admin, turn)
        run_on(admin, sandbox, 2 * IDLE_SECONDS)
    sweeps = [connect("authenticator") for _ in range(4)]
    at_once([lambda sweep=sweep: SERVICE.call(sweep, "settle_v1") for sweep in sweeps])
    SERVICE.call(rest, "settle_v1")
    assert [turn for turn in turns if not about(IDLE_SECONDS, charged_seconds(admin, turn))] == []


def test_a_run_that_nothing_limits_hears_nothing(rest: Connection, admin: Connection) -> None:
    """Whatever it spends."""
    turn = new_turn(rest, admin)
    assert use(rest, turn, 1, model="dear", output_tokens=10**9)["budget_reached"] is None
    assert month(rest, turn.owner)["remainder_microusd"] is None

"""The ledger: money is promised to a run when it is admitted, spent as it is used, and given back when it ends."""

from collections.abc import Iterator

import pytest

from tests.sql.conversations import create, message, new_turn, send, turn_of
from tests.sql.limits import allow
from tests.sql.money import (
    CHEAP,
    DEAR,
    cost_of,
    entries,
    month,
    priced,
    record,
    run_on,
    sandbox_microusd,
    spends,
    tokens_microusd,
    use,
)
from tests.sql.people import SERVICE, Connection, Person, acting, refused, scalar, sign_up
from tests.sql.runs import Run, admit, append, finish, lose, new_run

TURN_SECONDS = 5400
PLAN_ESTIMATE = sandbox_microusd(600_000)
TURN_ESTIMATE = sandbox_microusd(TURN_SECONDS * 1000) + 250_000


@pytest.fixture(autouse=True)
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


@pytest.fixture
def owner(admin: Connection) -> Person:
    """A new user."""
    return sign_up(admin)


def test_admission_promises_the_estimate(rest: Connection, admin: Connection) -> None:
    """A plan its sandbox for as long as it may last; a turn also what turns are estimated at."""
    assert entries(admin, new_run(rest, admin)) == [("reserve", None, PLAN_ESTIMATE)]
    assert entries(admin, new_turn(rest, admin)) == [("reserve", None, TURN_ESTIMATE)]


def test_no_more_than_its_budget_is_promised(rest: Connection, admin: Connection) -> None:
    """A plan's own budget; what is left of a session's."""
    assert entries(admin, new_run(rest, admin, budget_microusd=5)) == [("reserve", None, 5)]
    turn = new_turn(rest, admin, budget_microusd=100_000)
    assert entries(admin, turn) == [("reserve", None, 100_000)]
    use(rest, turn, 1, input_tokens=40_000)
    lose(admin, turn)
    follow_up = turn_of(send(rest, turn.owner, turn.session_id, message()), turn.owner)
    assert entries(admin, follow_up) == [("reserve", None, 60_000)]


def test_the_end_gives_the_promise_back_once(rest: Connection, admin: Connection, run: Run) -> None:
    """However often the end is told."""
    append(rest, run.runner, [1])
    for _ in range(2):
        finish(rest, run.runner, 1)
    assert entries(admin, run) == [("reserve", None, PLAN_ESTIMATE), ("settle", None, PLAN_ESTIMATE)]


@pytest.mark.parametrize("end", ["lost", "failed", "cancelled", "timed_out"])
def test_every_end_gives_it_back(rest: Connection, admin: Connection, run: Run, end: str) -> None:
    """Also those that the control plane writes."""
    lose(admin, run, end)
    assert [entry for entry, _, _ in entries(admin, run)] == ["reserve", "settle"]
    assert month(rest, run.owner)["reserved_microusd"] == 0


def test_a_request_to_a_model_is_spent_with_its_event(rest: Connection, admin: Connection) -> None:
    """The row has the tokens, the price list's date and whose price it is; session, run and month have the sum."""
    turn = new_turn(rest, admin)
    usage = {"input_tokens": 7, "output_tokens": 5, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2}
    use(rest, turn, 1, **usage)
    (row,) = spends(admin, turn)
    assert row["amount_microusd"] == tokens_microusd(CHEAP, usage)
    assert (row["quantity"], row["model"], row["price"], row["is_known"]) == (usage, "cheap", "cheap", True)
    assert (row["prices_as_of"], row["owner"]) == ("2026-11-01", str(turn.owner.id))
    assert cost_of(admin, turn.session_id) == month(rest, turn.owner)["spent_microusd"] == row["amount_microusd"]


def test_a_batch_that_comes_again_is_charged_once(rest: Connection, admin: Connection) -> None:
    """What the log has once is spent once."""
    turn = new_turn(rest, admin)
    for _ in range(3):
        use(rest, turn, 1, input_tokens=1000)
    assert [row["amount_microusd"] for row in spends(admin, turn)] == [1000]


def test_of_one_message_the_last_usage_counts(rest: Connection, admin: Connection) -> None:
    """Told again with more, the difference is added; told again with the same or less, nothing is."""
    turn = new_turn(rest, admin)
    for n, tokens in enumerate((1000, 3000, 3000, 2000), 1):
        use(rest, turn, n, "msg_1", input_tokens=tokens)
    use(rest, turn, 5, "msg_2", input_tokens=10)
    assert [row["amount_microusd"] for row in spends(admin, turn)] == [1000, 2000, 10]


def test_a_plans_commands_cannot_charge_its_owner(rest: Connection, admin: Connection, run: Run) -> None:
    """They can write into their run's log; a plan uses no model, whatever stands there."""
    use(rest, run, 1, output_tokens=10**12)
    assert spends(admin, run) == []


def test_a_request_told_very_often_is_charged_as_fast(rest: Connection, admin: Connection) -> None:
    """Each time by its last row, and not by the sum of all that came before."""
    turn = new_turn(rest, admin)
    spans = [
        {"n": n, "type": "span.model_request_end", "at": None,
         "data": {"model_request_start_id": "a", "model": "cheap", "model_usage": {"input_tokens": n}}}
        for n in range(1, 301)
    ]  # fmt: skip
    turn.runner.call(rest, "append_events_v1", events=spans)
    assert [row["amount_microusd"] for row in spends(admin, turn)] == [1] * 300
    query = (
        "explain select request_microusd from public.ledger where session_id = %s and request_id = 'a' order by id desc"
    )
    admin.execute("set enable_seqscan = off")
    plan = "\n".join(row[0] for row in admin.execute(f"{query} limit 1", (turn.session_id,)))
    assert "ledger_of_request" in plan
    assert "Sort" not in plan


def test_an_unknown_model_says_so(rest: Connection, admin: Connection) -> None:
    """It is charged as the dearest, and the row names that one."""
    turn = new_turn(rest, admin)
    use(rest, turn, 1, model="brand-new", output_tokens=10)
    use(rest, turn, 2, "b", model=None, output_tokens=10)
    for row in spends(admin, turn):
        assert (row["price"], row["is_known"], row["amount_microusd"]) == ("dear", False, DEAR["output"] * 10 // 1000)


def test_rubbish_in_a_span_costs_nothing_and_stops_nothing(rest: Connection, admin: Connection) -> None:
    """No event of a runner's makes its own log refuse it."""
    turn = new_turn(rest, admin)
    for n, usage in enumerate(("text", None, [], 7, {"input_tokens": "x"}), 1):
        use(rest, turn, n, f"id-{n}", usage=usage)  # model_usage is an object here; below it is not
    for n, data in enumerate(("text", None, [], 7), 6):
        event = {"n": n, "type": "span.model_request_end", "data": {"model_usage": data, "model": n}, "at": None}
        turn.runner.call(rest, "append_events_v1", events=[event])
    assert sum(row["amount_microusd"] for row in spends(admin, turn)) == 0


def test_a_refused_admission_leaves_no_row(rest: Connection, admin: Connection, owner: Person) -> None:
    """Neither a promise nor a run, a session or a claim on the key."""
    allow(rest, admin, owner, max_month_microusd=PLAN_ESTIMATE - 1)
    with refused("PT402", "budget_exceeded"):
        admit(rest, owner, idempotency_key="k")
    for table in ("ledger", "agent_sessions", "idempotency_keys"):
        assert scalar(admin, f"select count(*) from public.{table} where owner = %s", (owner.id,)) == 0


def test_a_refusal_says_what_was_asked_and_what_is_left(rest: Connection, admin: Connection, owner: Person) -> None:
    """In words, and for programs."""
    allow(rest, admin, owner, max_month_microusd=PLAN_ESTIMATE - 1)
    detail = "the run is estimated at $0.0195, and of this month $0.0195 is left"
    with refused("PT402", "budget_exceeded", detail):
        admit(rest, owner)


def test_a_month_holds_as_many_promises_as_it_has_money_for(rest: Connection, admin: Connection, owner: Person) -> None:
    """The first two fit; the third does once one has ended."""
    allow(rest, admin, owner, max_month_microusd=2 * PLAN_ESTIMATE)
    first = new_run(rest, admin, owner)
    new_run(rest, admin, owner)
    with refused("PT402", "budget_exceeded"):
        admit(rest, owner)
    lose(admin, first)
    new_run(rest, admin, owner)
    assert month(rest, owner)["remainder_microusd"] == 0


def test_what_a_run_spends_is_not_promised_twice(rest: Connection, admin: Connection, owner: Person) -> None:
    """While it is within its promise, the month's remainder stays; what is beyond it is taken from the month."""
    allow(rest, admin, owner, max_month_microusd=1_000_000)
    turn = new_turn(rest, admin, owner, budget_microusd=100_000)
    assert month(rest, owner)["remainder_microusd"] == 900_000
    use(rest, turn, 1, input_tokens=60_000)
    told = month(rest, owner)
    assert (told["spent_microusd"], told["reserved_microusd"], told["remainder_microusd"]) == (60_000, 40_000, 900_000)
    use(rest, turn, 2, "b", input_tokens=60_000)
    told = month(rest, owner)
    assert (told["spent_microusd"], told["reserved_microusd"], told["remainder_microusd"]) == (120_000, 0, 880_000)


def test_a_session_without_money_takes_no_message(rest: Connection, admin: Connection) -> None:
    """PT402, and nothing is written; with a raised budget it goes on."""
    turn = new_turn(rest, admin, budget_microusd=1000)
    use(rest, turn, 1, input_tokens=1000)
    lose(admin, turn)
    before = scalar(admin, "select last_seq from public.agent_sessions where id = %s", (turn.session_id,))
    with refused("PT402", "budget_exceeded"):
        send(rest, turn.owner, turn.session_id, message())
    assert scalar(admin, "select last_seq from public.agent_sessions where id = %s", (turn.session_id,)) == before
    raised = {"budget_microusd": 5000}
    turn.owner.call(rest, "update_session_v1", session_id=turn.session_id, changes=raised, request_hash="c" * 64)
    assert send(rest, turn.owner, turn.session_id, message())["admitted"] is True


def test_waiting_messages_wait_for_money_too(rest: Connection, admin: Connection) -> None:
    """Nobody is there to refuse: they go on waiting until the month, or the budget, has room."""
    turn = new_turn(rest, admin)
    lose(admin, turn)
    allow(rest, admin, turn.owner, max_month_microusd=1)
    waiting = {"session_id": turn.session_id, "limit_seconds": TURN_SECONDS}
    assert turn.owner.call(rest, "admit_waiting_v1", **waiting)["admitted"] is False
    assert SERVICE.call(rest, "admit_waiting_for_v1", **waiting)["admitted"] is False
    allow(rest, admin, turn.owner)
    assert turn.owner.call(rest, "admit_waiting_v1", **waiting)["admitted"] is True


def test_last_months_money_is_another_months(rest: Connection, admin: Connection, owner: Person) -> None:
    """A month begins with nothing spent; what a live run was promised goes with it."""
    turn = new_turn(rest, admin, owner)
    use(rest, turn, 1, input_tokens=50_000)
    admin.execute("update private.month_costs set month = month - interval '1 month' where owner = %s", (owner.id,))
    told = month(rest, owner)
    assert (told["spent_microusd"], told["reserved_microusd"]) == (0, TURN_ESTIMATE - 50_000)


def test_no_row_is_changed_or_taken_away(admin: Connection, run: Run) -> None:
    """Not even by the database's owner."""
    for statement in (
        "update public.ledger set amount_microusd = 0 where owner = %s",
        "delete from public.ledger where owner = %s",
    ):
        with refused("PT403", "ledger_is_append_only"):
            admin.execute(statement, (run.owner.id,))
    with refused("PT403", "ledger_is_append_only"):
        admin.execute("truncate public.ledger")


def test_a_deleted_session_has_cost_what_it_cost(rest: Connection, admin: Connection) -> None:
    """Its rows stay in the ledger, with what its sandbox had run up."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn)
    use(rest, turn, 1, input_tokens=10)
    lose(admin, turn, "failed")
    run_on(admin, sandbox, 10)
    turn.owner.call(rest, "delete_session_v1", session_id=turn.session_id)
    kinds = [kind for entry, kind, _ in entries(admin, turn) if entry == "spend"]
    assert kinds.count("model") == 1
    assert kinds.count("sandbox") >= 1
    assert month(rest, turn.owner)["spent_microusd"] >= 10 + sandbox_microusd(10_000)


def test_with_its_owner_goes_the_ledger(rest: Connection, admin: Connection) -> None:
    """A user who is deleted, in the middle of a run, leaves nothing."""
    turn = new_turn(rest, admin)
    record(rest, turn)
    use(rest, turn, 1, input_tokens=10)
    admin.execute("delete from auth.users where id = %s", (turn.owner.id,))
    for table in ("public.ledger", "private.month_costs", "private.run_costs"):
        assert scalar(admin, f"select count(*) from {table} where owner = %s", (turn.owner.id,)) == 0


def test_owners_see_their_own_rows(rest: Connection, admin: Connection, run: Run) -> None:
    """And nobody else's."""
    with acting(rest, run.owner):
        assert scalar(rest, "select count(*) from public.ledger") == 1
    with acting(rest, sign_up(admin, "stranger")):
        assert scalar(rest, "select count(*) from public.ledger") == 0


def test_embeddings_are_spent_without_a_run(rest: Connection, admin: Connection, owner: Person) -> None:
    """What the endpoints use for an owner; an unknown model at the dearest price, a part of a millionth as a whole."""
    session = create(rest, owner)["session"]["id"]
    for model, tokens, microusd, known in (
        ("small", 1000, 20, True),
        ("huge", 1000, 130, False),
        ("small", 1, 1, True),
    ):
        charge = {"owner": owner.id, "session_id": session, "model": model, "tokens": tokens}
        SERVICE.call(rest, "charge_embeddings_v1", **charge)
        query = "select amount_microusd, is_known from public.ledger where owner = %s order by id desc limit 1"
        assert admin.execute(query, (owner.id,)).fetchone() == (microusd, known)
    SERVICE.call(rest, "charge_embeddings_v1", owner=owner.id, session_id=None, model="small", tokens=50)
    assert month(rest, owner)["spent_microusd"] == 152
    assert scalar(admin, "select cost_microusd from public.agent_sessions where id = %s", (session,)) == 151


def test_the_sweep_settles_what_a_crash_left(rest: Connection, admin: Connection) -> None:
    """A run that has ended with its promise open, which no function of ours leaves; twice is once."""
    run = new_run(rest, admin)
    admin.execute("update public.agent_runs set status = 'lost', ended_at = now() where id = %s", (run.id,))
    assert SERVICE.call(rest, "settle_v1")["reservations"] == 1
    assert SERVICE.call(rest, "settle_v1")["reservations"] == 0
    assert [entry for entry, _, _ in entries(admin, run)] == ["reserve", "settle"]


def test_a_live_runs_promise_is_left_alone(rest: Connection, admin: Connection, run: Run) -> None:
    """By any number of sweeps."""
    SERVICE.call(rest, "settle_v1")
    assert [entry for entry, _, _ in entries(admin, run)] == ["reserve"]


def test_a_run_of_another_owner_is_charged_to_its_own(rest: Connection, admin: Connection, owner: Person) -> None:
    """Two owners' months are apart."""
    turn = new_turn(rest, admin)
    use(rest, turn, 1, input_tokens=1000)
    assert month(rest, owner)["spent_microusd"] == 0
    assert month(rest, turn.owner)["spent_microusd"] == 1000

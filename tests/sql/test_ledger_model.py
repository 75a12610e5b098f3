"""The ledger against what was used: chance histories of runs, requests, sandboxes, ends and sweeps."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.sql.conversations import message, new_turn, send, turn_of
from tests.sql.limits import allow
from tests.sql.money import CHEAP, DEAR, cost_of, priced, record, run_on, sandbox_microusd, tokens_microusd, use
from tests.sql.people import SERVICE, Connection, Person, scalar, sign_up
from tests.sql.runs import Run, lose, new_run

HISTORIES, STEPS = 1000, 6
PRICE_OF = {"cheap": CHEAP, "dear": DEAR, "unheard-of": DEAR}
TOKENS = st.integers(0, 5000)


class Money(RuleBasedStateMachine):
    """What one owner's runs use, and what the ledger says of it when the history is over."""

    def __init__(self, rest: Connection, admin: Connection, owner: Person) -> None:
        super().__init__()
        self.rest, self.admin, self.owner = rest, admin, owner
        self.spent_before = self._spent_this_month()
        self.runs: list[Run] = []
        self.live: Run | None = None
        self.sandbox: str | None = None
        self.sandboxes: set[str] = set()
        self.n, self.is_plan = 0, False
        # By session and request: the most that any of its usages costs.
        self.requests: dict[tuple[str, str], int] = {}

    def _begin(self, run: Run, *, is_plan: bool = False) -> None:
        self.runs.append(run)
        self.live, self.n, self.is_plan = run, 0, is_plan

    @precondition(lambda self: self.live is None)
    @rule(budget=st.sampled_from([None, None, 1, 10**6]))
    def plan(self, budget: int | None) -> None:
        """A plan of commands in a session of its own."""
        self._begin(new_run(self.rest, self.admin, self.owner, budget_microusd=budget), is_plan=True)
        self.sandbox = None

    @precondition(lambda self: self.live is None)
    @rule(goes_on=st.booleans())
    def turn(self, goes_on: bool) -> None:
        """A conversation's first turn, or the next of the last one."""
        last = self.runs[-1] if self.runs else None
        kind = "select kind from public.agent_runs where id = %s"
        if goes_on and last is not None and scalar(self.admin, kind, (last.id,)) == "claude":
            self._begin(turn_of(send(self.rest, self.owner, last.session_id, message()), self.owner))
        else:
            self._begin(new_turn(self.rest, self.admin, self.owner))
            self.sandbox = None

    @precondition(lambda self: self.live is not None)
    @rule()
    def get_a_sandbox(self) -> None:
        """A new one, or the one that the session had."""
        assert self.live is not None
        self.sandbox = record(self.rest, self.live, self.sandbox or f"sbx-{uuid4()}")
        self.sandboxes.add(self.sandbox)

    @precondition(lambda self: self.sandbox is not None)
    @rule(seconds=st.sampled_from([0.5, 3, 100, 10_000]))
    def time_passes(self, seconds: float) -> None:
        """While a run works, or after it."""
        assert self.sandbox is not None
        run_on(self.admin, self.sandbox, seconds)

    @precondition(lambda self: self.live is not None)
    @rule(
        id=st.sampled_from("abc"), model=st.sampled_from(list(PRICE_OF)), input=TOKENS, output=TOKENS, read=TOKENS,
        times=st.sampled_from([1, 1, 2]),
    )  # fmt: skip
    def ask_the_model(self, id: str, model: str, input: int, output: int, read: int, times: int) -> None:
        """One request, told once or in a batch that comes twice; of the same message the dearest usage counts."""
        assert self.live is not None
        self.n += 1
        usage = {"input_tokens": input, "output_tokens": output, "cache_read_input_tokens": read}
        for _ in range(times):
            use(self.rest, self.live, self.n, id, model, **usage)
        if self.is_plan:
            return  # it has no model, whatever it says
        key = (str(self.live.session_id), id)
        self.requests[key] = max(self.requests.get(key, 0), tokens_microusd(PRICE_OF[model], usage))

    @precondition(lambda self: self.live is not None)
    @rule(status=st.sampled_from(["succeeded", "failed", "lost", "timed_out", "cancelled"]))
    def end(self, status: str) -> None:
        """By whoever."""
        assert self.live is not None
        lose(self.admin, self.live, status)
        self.live = None

    @precondition(lambda self: self.live is None and self.sandbox is not None)
    @rule()
    def close(self) -> None:
        """The sandbox is gone."""
        assert self.sandbox is not None
        self._close(self.sandbox)
        self.sandbox = None

    def _close(self, sandbox: str) -> None:
        SERVICE.call(self.rest, "close_sandbox_v1", sandbox_id=sandbox, reason="succeeded")

    @rule()
    def sweep(self) -> None:
        """It has nothing to settle that somebody works with."""
        SERVICE.call(self.rest, "settle_v1")

    def teardown(self) -> None:
        """Every sum of the ledger is what was used."""
        if self.live is not None:
            self.end("lost")
        for sandbox in self.sandboxes:
            self._close(sandbox)
        ids = [run.id for run in self.runs]
        self._promises_are_given_back(ids)
        model, sandbox = (self._spent(ids, kind) for kind in ("model", "sandbox"))
        assert model == sum(self.requests.values())
        assert sandbox == self._metered(ids)
        assert self._spent_this_month() - self.spent_before == model + sandbox
        assert sum(cost_of(self.admin, session) for session in {run.session_id for run in self.runs}) == model + sandbox
        query = "select coalesce(sum(spent_microusd), 0) from private.run_costs where run_id = any(%s)"
        assert scalar(self.admin, query, (ids,)) == model + sandbox

    def _promises_are_given_back(self, ids: list[object]) -> None:
        query = """
          select run_id, array_agg(entry || ' ' || amount_microusd order by id) from public.ledger
          where run_id = any(%s) and entry <> 'spend' group by run_id
        """
        promises = dict(self.admin.execute(query, (ids,)).fetchall())
        assert set(promises) == set(ids)
        for reserved, settled in promises.values():
            assert settled == reserved.replace("reserve", "settle")

    def _spent(self, ids: list[object], kind: str) -> int:
        query = "select coalesce(sum(amount_microusd), 0) from public.ledger where run_id = any(%s) and kind = %s"
        return int(scalar(self.admin, query, (ids, kind)))

    def _spent_this_month(self) -> int:
        return int(scalar(self.admin, "select private.spent_this_month(%s)", (self.owner.id,)))

    def _metered(self, ids: list[object]) -> int:
        """What the sandboxes' own rows say, whose every part is reckoned here again."""
        parts = "select (quantity ->> 'milliseconds')::int from public.ledger where run_id = any(%s) and kind = %s"
        cost = sum(sandbox_microusd(part) for (part,) in self.admin.execute(parts, (ids, "sandbox")))
        query = "select coalesce(sum(cost_microusd), 0) from public.sandbox_executions where run_id = any(%s)"
        assert scalar(self.admin, query, (ids,)) == cost
        return cost


@pytest.fixture
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("prices")
def test_the_ledgers_sums_are_what_was_used(rest: Connection, admin: Connection) -> None:
    """Whatever happens in whatever order: model, sandbox, run, session and month agree, and no promise stays open."""
    owner = sign_up(admin)
    allow(rest, admin, owner, submits_per_minute=10**6, messages_per_minute=10**6, max_concurrent_sandboxes=10**5)
    chances = settings(
        max_examples=HISTORIES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(lambda: Money(rest, admin, owner), settings=chances)

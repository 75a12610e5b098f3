"""The log against a model of a dozen lines: chance sequences of append, finish, cancel, epochs, losses and new runs."""

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.sql.people import Connection
from tests.sql.runs import HASH, append, finish, lose, new_run, next_epoch

ENDS = ("succeeded", "failed", "cancelled", "timed_out")
LIVE = ("launching", "running")
Entry = tuple[int | None, str]


def continuing(held: int, numbers: list[int]) -> list[int]:
    """What of a batch continues the numbering."""
    taken = []
    while held + 1 in numbers:
        held += 1
        taken.append(held)
    return taken


class Log(RuleBasedStateMachine):
    """One session and its runs, each step made in the database and in the model, and the two compared."""

    def __init__(self, rest: Connection, admin: Connection) -> None:
        super().__init__()
        self.rest, self.admin = rest, admin
        self.log: list[Entry] = []
        self.run = new_run(rest, admin)
        self._begin()

    def _begin(self) -> None:
        self.status, self.epoch, self.held, self.cancelled = "launching", 1, 0, False
        self.log.append((None, "run.created"))

    def _end(self, status: str) -> None:
        self.status = status
        self.log += [(None, f"run.{status}"), (None, "session.status_idle")]

    def _answer(self) -> dict[str, object]:
        return {
            "status": self.status,
            "last_n": self.held,
            "last_seq": len(self.log),
            "input_seq": 0,
            "cancel_requested": self.cancelled,
            "budget_reached": None,
        }

    def _said(self, expected: str | None, step: Any) -> None:
        """The step answers with the model's state, or is refused with the expected word."""
        if expected is not None:
            with pytest.raises(psycopg.Error) as caught:
                step()
            assert caught.value.diag.message_primary == expected
        else:
            assert step() == self._answer()

    @rule(offsets=st.lists(st.integers(-3, 8), max_size=9), age=st.sampled_from([0, 0, 0, 1]))
    def append(self, offsets: list[int], age: int) -> None:
        """Numbers around those that are held, with repeats and holes, in any order; sometimes by an old runner."""
        numbers = [self.held + offset for offset in offsets]
        taken = continuing(self.held, numbers)
        refusal = "stale_epoch" if age else "run_finished" if taken and self.status not in LIVE else None
        if refusal is None and self.status in LIVE:
            self.held += len(taken)
            self.log += [(n, "command.output") for n in taken]
            self.status = "running"
        self._said(refusal, lambda: append(self.rest, self.run.at_epoch(self.epoch - age), numbers))

    @rule(
        off=st.sampled_from([0, 0, 1, -1]), status=st.sampled_from([*ENDS, "lost"]), age=st.sampled_from([0, 0, 0, 1])
    )
    def finish(self, off: int, status: str, age: int) -> None:
        """An end with the right or a wrong count, as something or other."""
        refusal, claimed = ("stale_epoch" if age else None), self.held + off
        if refusal is None and self.status in LIVE:
            refusal = "not_an_end" if status == "lost" else "events_missing" if off else None
            if refusal is None:
                self._end(status)
        self._said(refusal, lambda: finish(self.rest, self.run.at_epoch(self.epoch - age), claimed, status))

    @rule()
    def heartbeat(self) -> None:
        """A sign of life changes nothing."""
        self._said(None, lambda: self.run.at_epoch(self.epoch).call(self.rest, "heartbeat_v1"))

    @rule()
    def cancel(self) -> None:
        """The owner's request, once or again."""
        refusal = None if self.status in LIVE else "run_finished"
        if refusal is None and not self.cancelled:
            self.cancelled = True
            self.log.append((None, "run.cancel_requested"))

        def ask() -> dict[str, object]:
            self.run.owner.call(self.rest, "request_cancel_v1", run_id=self.run.id, request_hash=HASH)
            return self._answer()

        self._said(refusal, ask)

    @rule()
    def rise(self) -> None:
        """A new runner, when there is something left to run."""
        risen = next_epoch(self.rest, self.run)
        self.epoch += self.status in LIVE
        assert risen == (self.epoch if self.status in LIVE else None)

    @precondition(lambda self: self.status in LIVE)
    @rule()
    def lose(self) -> None:
        """The sweep gives the run up."""
        lose(self.admin, self.run)
        self._end("lost")

    @precondition(lambda self: self.status not in LIVE)
    @rule()
    def again(self) -> None:
        """The session's next run."""
        self.run = new_run(self.rest, self.admin, self.run.owner, session_id=self.run.session_id)
        self._begin()

    @invariant()
    def the_log_is_the_models(self) -> None:
        """Row for row, with seq 1..N."""
        query = "select seq, n, type from public.agent_events where session_id = %s order by seq"
        rows = self.admin.execute(query, (self.run.session_id,)).fetchall()
        assert rows == [(seq, n, kind) for seq, (n, kind) in enumerate(self.log, 1)]


def test_the_log_is_what_the_model_says(rest: Connection, admin: Connection) -> None:
    """Whatever is called in whatever order, log, answers and refusals are those of the model."""
    chances = settings(
        max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )

    class OfThisTest(Log):
        """The machine with this test's connections."""

        def __init__(self) -> None:
            super().__init__(rest, admin)

    run_state_machine_as_test(OfThisTest, settings=chances)

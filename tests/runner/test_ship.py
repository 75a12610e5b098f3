"""The shipper against a log that fails in every way: all events arrive, once, in order, and the run ends."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sandbox_scripts import log as log_module
from sandbox_scripts import ship
from sandbox_scripts.errors import RunFinished, SpoolLost, Superseded
from sandbox_scripts.job import Ending, Job
from sandbox_scripts.log import Log
from sandbox_scripts.ship import Shipper
from sandbox_scripts.spool import Spool
from tests.runner.conftest import Bench, command, until
from tests.runner.log_server import Call, Fault, LogServer, Refusal, slow

APPEND, HEARTBEAT, FINISH = "append_events_v1", "heartbeat_v1", "finish_run_v1"
DONE = Ending("succeeded", {"commands": 1})


class Ship:
    """A spool and its shipper in this process."""

    def __init__(self, bench: Bench) -> None:
        self.job = Job.load(str(bench.job(command("true"))))
        self.spool = Spool(self.job.path("spool.ndjson"))
        self.shipper = Shipper(self.spool, Log(self.job), self.job.path("doorbell"))

    def write(self, count: int, **data: Any) -> None:
        for _ in range(count):
            self.spool.append("t", {"k": self.spool.n, **data})


@pytest.fixture
def vessel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ship]:
    """Not started yet; with short pauses, so that faults cost a test little."""
    monkeypatch.setattr(ship, "BACKOFF_FIRST_SECONDS", 0.002)
    monkeypatch.setattr(ship, "BACKOFF_CAP_SECONDS", 0.02)
    vessel = Ship(bench)
    yield vessel
    bench.log.faults.clear()
    bench.log.forbidden = 403
    if vessel.shipper._thread.is_alive():
        vessel.write(1)
        vessel.shipper.close()


def held(log: LogServer) -> list[int]:
    return [event["n"] for event in log.events]


def gaps(calls: list[Call]) -> list[float]:
    return [later.at - earlier.at for earlier, later in pairwise(calls)]


def test_the_first_event_goes_at_once_and_the_following_together(vessel: Ship, log: LogServer) -> None:
    """One event is not kept waiting for company; what comes while it travels goes in one batch after it."""
    log.fault(APPEND, slow(0.1))
    vessel.shipper.start(restarted=False)
    vessel.write(1)
    log.wait(lambda: len(log.calls) == 1)
    vessel.write(50)
    log.wait(lambda: log.last_n == 51)
    assert [call.numbers() for call in log.called(APPEND)] == [[1], list(range(2, 52))]


def test_what_comes_within_the_linger_goes_together(
    vessel: Ship, log: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trickle makes one request per linger, not one per event; the run's end does not wait for it."""
    monkeypatch.setattr(ship, "LINGER_SECONDS", 1000)
    vessel.shipper.start(restarted=False)
    vessel.write(1)
    log.wait(lambda: log.last_n == 1)
    for _ in range(5):
        vessel.write(1)
    vessel.shipper.finish(DONE)
    assert [call.numbers() for call in log.called(APPEND)] == [[1], [2, 3, 4, 5, 6]]


def test_a_batch_has_at_most_200_rows_and_64_kib_and_full_ones_do_not_linger(vessel: Ship, log: LogServer) -> None:
    """What waits in full batches goes one after the other, one request in flight."""
    vessel.write(1000)
    vessel.write(20, text="x" * 10_000)
    vessel.shipper.start(restarted=False)
    vessel.shipper.finish(DONE)
    calls = log.called(APPEND)
    assert [len(call.numbers()) for call in calls][:5] == [200] * 5
    assert max(call.size for call in calls) <= ship.BATCH_BYTES + 100
    assert held(log) == list(range(1, 1021))


def test_the_wire_carries_the_spools_bytes_and_the_keys(vessel: Ship, log: LogServer) -> None:
    """Every event as spooled; the publishable key and the bearer on every call; ended after finish."""
    vessel.write(3, text="é\n")
    vessel.shipper.start(restarted=False)
    vessel.shipper.finish(DONE)
    assert log.events == list(vessel.spool.events())
    assert [call.name for call in log.calls][-2:] == [FINISH, "ended"]
    for call in log.called(APPEND) + log.called(FINISH):
        assert call.headers["apikey"] == "sb_publishable_test"
        assert call.headers["authorization"] == "Bearer egress"
    assert log.called("ended")[0].headers["authorization"] == "Bearer egress"
    assert log.finished == {"status": "succeeded", "last_n": 3, "result": {"commands": 1}, "error": None}


FAULTS: list[Callable[[], Fault]] = [
    lambda: Fault(None),
    lambda: Fault(None, applied=True),
    lambda: Fault(500),
    lambda: Fault(500, applied=True),
    lambda: Fault(502, body=b"<html>", applied=True),
    lambda: Fault(200, body=b"not json", applied=True),
    lambda: Fault(200, body=b"[]"),
    lambda: Fault(429, headers={"Retry-After": "0"}),
    lambda: Fault(503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    lambda: Fault(404),
    lambda: Fault(409, body=b'{"message": "duplicate key"}'),
]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_fails_every_event_arrives_once_and_in_order(vessel: Ship, log: LogServer, seed: int) -> None:
    """Dropped, cut, failed and unintelligible answers, before and after the call took effect."""
    dice = random.Random(seed)
    for name in (APPEND, FINISH, HEARTBEAT, "ended"):
        log.fault(name, *(dice.choice(FAULTS)() for _ in range(12)))
    vessel.shipper.start(restarted=bool(seed % 2))
    while vessel.spool.n < 600:
        vessel.write(dice.randint(1, 90))
        behind = vessel.spool.n - dice.randint(0, 150)
        log.wait(lambda behind=behind: log.last_n >= behind)
    vessel.shipper.finish(DONE)
    assert held(log) == list(range(1, vessel.spool.n + 1))
    assert (log.status, log.finished and log.finished["last_n"]) == ("succeeded", vessel.spool.n)
    assert log.called("ended")


def test_an_answer_that_holds_less_or_more_moves_the_place(vessel: Ship, log: LogServer) -> None:
    """A log that lost events gets them again; one that has them already is not sent them."""
    vessel.write(10)
    log.last_n, log.events = 4, [{"n": n} for n in range(1, 5)]
    vessel.shipper.start(restarted=True)
    log.wait(lambda: log.last_n == 10)
    assert log.called(APPEND)[0].numbers() == [5, 6, 7, 8, 9, 10]
    with log.changed:
        log.last_n, log.events = 2, log.events[:2]
    vessel.write(1)
    log.wait(lambda: log.last_n == 11)
    assert held(log) == list(range(1, 12))


def test_retry_after_is_obeyed(vessel: Ship, log: LogServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 and 503 say how long to stay away, and nothing is sent meanwhile: no heartbeat either."""
    monkeypatch.setattr(ship, "HEARTBEAT_SECONDS", 0.1)
    log.fault(APPEND, Fault(429, headers={"Retry-After": "1"}), Fault(503, headers={"Retry-After": "1"}))
    vessel.write(1)
    vessel.shipper.start(restarted=False)
    log.wait(lambda: log.last_n == 1)
    assert [call.name for call in log.calls][:3] == [APPEND] * 3
    assert min(gaps(log.calls[:3])) >= 1


def test_backoff_grows_is_capped_and_jittered(vessel: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.1 s doubling to 5 s, times a random 0.5 to 1.5; one hour of outage does not overflow it."""
    monkeypatch.setattr(ship, "BACKOFF_FIRST_SECONDS", 0.1)
    monkeypatch.setattr(ship, "BACKOFF_CAP_SECONDS", 5.0)
    slept: list[float] = []
    monkeypatch.setattr(ship.time, "sleep", slept.append)
    for _ in range(2000):
        vessel.shipper._pause(None)
    assert 0.05 <= slept[0] <= 0.15
    assert 0.4 <= slept[3] <= 1.2
    assert max(slept) <= 7.5
    assert len({round(seconds, 3) for seconds in slept[100:]}) > 50


def test_a_request_without_an_answer_has_a_deadline(
    vessel: Ship, log: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says nothing is given up on, and the batch goes again."""
    monkeypatch.setattr(log_module, "REQUEST_SECONDS", 0.2)
    log.fault(APPEND, Fault(None, seconds=3))
    vessel.write(2)
    vessel.shipper.start(restarted=False)
    log.wait(lambda: log.last_n == 2, 2.5)


@pytest.mark.parametrize("poisoned", [{1}, {7}, {3, 4, 200, 201}, {250}])
def test_a_poison_event_is_found_and_replaced(vessel: Ship, log: LogServer, poisoned: set[int]) -> None:
    """The batch is halved until the event is alone; it is replaced under its number, and the others arrive."""
    log.poison = lambda event: event["n"] in poisoned and event["type"] == "t"
    vessel.write(250)
    vessel.shipper.start(restarted=False)
    vessel.shipper.finish(DONE)
    assert held(log) == list(range(1, 251))
    assert {event["n"] for event in log.events if event["type"] != "t"} == poisoned
    told = log.of("run.event_refused")[0]
    assert told["type"] == "t"
    assert told["bytes"] > 50
    assert "unsupported Unicode" in told["reason"]
    assert len(log.called(APPEND)) < 60


def test_a_limit_of_a_proxy_on_the_body_costs_no_event(vessel: Ship, log: LogServer) -> None:
    """413 for large batches halves them; what fits alone is never replaced."""
    vessel.write(200, text="x" * 200)
    real, log.perform = log.perform, lambda call: refuse_large(call)  # type: ignore[method-assign]

    def refuse_large(call: Call) -> dict[str, Any]:
        if call.size > 10_000:
            raise Refusal(413, "too large")
        return real(call)

    vessel.shipper.start(restarted=False)
    vessel.shipper.finish(DONE)
    assert log.of("run.event_refused") == []
    assert held(log) == list(range(1, 201))


@pytest.mark.parametrize("status", [401, 403])
def test_superseded_stops_at_once_and_for_good(vessel: Ship, log: LogServer, status: int) -> None:
    """A refused token: the alarm, no further request, and finish raises it."""
    log.forbidden = status
    vessel.write(1)
    vessel.shipper.start(restarted=False)
    vessel.shipper.close()
    assert isinstance(vessel.shipper.alarm, Superseded)
    with pytest.raises(Superseded):
        vessel.shipper.finish(DONE)
    assert len(log.calls) == 1


def test_a_run_that_was_finished_elsewhere_stops(vessel: Ship, log: LogServer) -> None:
    """409 run_finished: the alarm; functions is told, so that the sandbox is not paid for."""
    log.status = "lost"
    vessel.write(1)
    vessel.shipper.start(restarted=False)
    vessel.shipper.close()
    assert isinstance(vessel.shipper.alarm, RunFinished)
    assert [call.name for call in log.calls] == [APPEND, "ended"]


def test_a_heartbeat_that_tells_of_the_end_stops_too(vessel: Ship, log: LogServer) -> None:
    """A silent run learns it from the next heartbeat."""
    log.status = "cancelled"
    vessel.shipper.start(restarted=True)
    vessel.shipper.close()
    assert isinstance(vessel.shipper.alarm, RunFinished)


def test_a_log_that_holds_more_than_the_spool_is_an_alarm_but_the_run_can_end(vessel: Ship, log: LogServer) -> None:
    """A disk that forgot events must not go on; the finish counts what the log holds."""
    log.last_n, log.status = 9, "running"
    vessel.write(1)
    vessel.shipper.start(restarted=True)
    vessel.shipper.await_answer()
    assert isinstance(vessel.shipper.alarm, SpoolLost)
    vessel.shipper.finish(Ending("failed", error={"type": "spool_lost"}))
    assert log.finished is not None
    assert (log.finished["status"], log.finished["last_n"]) == ("failed", 9)


def test_heartbeats_come_only_when_nothing_else_was_answered(
    vessel: Ship, log: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy run needs none; a silent one sends them regularly."""
    monkeypatch.setattr(ship, "HEARTBEAT_SECONDS", 0.3)
    vessel.shipper.start(restarted=False)
    for n in range(1, 10):
        vessel.write(1)
        log.wait(lambda n=n: log.last_n == n)
    busy = [call.name for call in log.calls]
    log.wait(lambda: len(log.called(HEARTBEAT)) >= 3)
    assert HEARTBEAT not in busy
    assert min(gaps(log.called(HEARTBEAT))) >= 0.25


def test_cancel_is_learnt_from_any_answer(vessel: Ship, log: LogServer) -> None:
    """The append's answer is enough."""
    log.cancel_requested = True
    vessel.write(1)
    vessel.shipper.start(restarted=False)
    until(lambda: vessel.shipper.cancel_requested)
    assert log.called(HEARTBEAT) == []


@pytest.mark.parametrize("ring", ["create", "touch", "write", "replace"])
def test_the_doorbell_brings_a_heartbeat_at_once(vessel: Ship, log: LogServer, ring: str) -> None:
    """However functions rings it; long before the next regular heartbeat."""
    bell = Path(vessel.job.path("doorbell"))
    if ring != "create":
        bell.write_text("")
        os.utime(bell, ns=(1, 1))
    vessel.shipper = Shipper(vessel.spool, Log(vessel.job), str(bell))
    vessel.write(1)
    vessel.shipper.start(restarted=False)
    log.wait(lambda: log.last_n == 1)
    log.cancel_requested = True
    if ring == "replace":
        (bell.parent / "new").write_text("")
        (bell.parent / "new").replace(bell)
    elif ring == "write":
        bell.write_text("cancel")
    else:
        bell.touch()
    until(lambda: vessel.shipper.cancel_requested, ship.HEARTBEAT_SECONDS - 1)
    assert len(log.called(HEARTBEAT)) in (1, 2)  # a write may be seen as truncation and content


def test_finish_goes_back_for_events_the_log_misses(vessel: Ship, log: LogServer) -> None:
    """409 events_missing names what the log holds; the rest goes again, then finish again."""
    vessel.write(5)
    vessel.shipper.start(restarted=False)
    log.wait(lambda: log.last_n == 5)
    with log.changed:
        log.last_n, log.events = 3, log.events[:3]
    vessel.shipper.finish(DONE)
    assert held(log) == [1, 2, 3, 4, 5]
    assert len(log.called(FINISH)) == 2


def test_an_ending_that_is_refused_is_sent_plainer(vessel: Ship, log: LogServer) -> None:
    """A result that the log does not take must not keep the run from ending."""
    log.fault(FINISH, Fault(413))
    vessel.write(1)
    vessel.shipper.start(restarted=False)
    vessel.shipper.finish(DONE)
    assert log.finished is not None
    assert log.finished["status"] == "succeeded"
    assert log.finished["result"] is None
    assert log.finished["error"]["type"] == "ending_refused"


def test_ended_is_told_a_few_times_and_then_left_to_the_sweep(vessel: Ship, log: LogServer) -> None:
    """finish() returns although functions never answers well."""
    log.fault("ended", *[Fault(503) for _ in range(20)])
    vessel.shipper.start(restarted=False)
    vessel.shipper.finish(DONE)
    assert len(log.called("ended")) == ship.ENDED_TRIES
    assert log.status == "succeeded"


def test_a_log_that_takes_nothing_is_not_asked_in_a_loop(
    vessel: Ship, log: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of 200 that hold no more than before are spaced out like failures."""
    nothing = json.dumps({"last_n": 0, "cancel_requested": False, "status": "running"}).encode()
    log.fault(APPEND, *[Fault(200, body=nothing) for _ in range(8)])
    paused: list[float | None] = []
    monkeypatch.setattr(vessel.shipper, "_pause", paused.append)
    vessel.write(ship.BATCH_ROWS)
    vessel.shipper.start(restarted=False)
    log.wait(lambda: log.last_n == ship.BATCH_ROWS)
    assert paused == [None] * 8


def test_an_ending_that_was_decided_before_is_known_before_the_first_answer(vessel: Ship, log: LogServer) -> None:
    """A restart after the finish was taken: the log's terminal status is ours, not someone else's."""
    log.status = "succeeded"
    vessel.shipper.start(restarted=True, ending=DONE)
    vessel.shipper.close()
    assert vessel.shipper.alarm is None
    assert [call.name for call in log.calls] == [HEARTBEAT, FINISH, "ended"]

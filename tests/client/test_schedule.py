"""When the table is read, by a clock that the tests move."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandstream.backoff import Backoff
from sandstream.errors import UnavailableError
from sandstream.schedule import Schedule, WatchSettings

SETTINGS = WatchSettings(
    poll_first=2.0, poll_cap=15.0, after_joining=(0.0, 1.0, 3.0), retry_first=0.25, retry_cap=8.0, deadline=60.0
)


def reads(schedule: Schedule, start: float, until: float) -> list[float]:
    """The times at which a reader reads who finds nothing new."""
    times, now = [], start
    while (now := max(now, schedule.next(is_behind=False))) <= until:
        schedule.begin(now)
        schedule.succeeded()
        times.append(now)
    return times


def test_the_first_read_waits_for_nothing() -> None:
    """What the table holds is read before any subscription stands."""
    assert Schedule(SETTINGS, 100.0).next(is_behind=False) == 100.0


def test_the_table_is_read_again_after_joining() -> None:
    """SUBSCRIBED may be seconds early, so what is appended meanwhile is looked for three times."""
    schedule = Schedule(SETTINGS, 0.0)
    schedule.begin(0.0)
    schedule.joined(0.5)
    assert reads(schedule, 0.5, 4.0) == [0.5, 1.5, 3.5]


def test_polls_slow_down_while_a_subscription_stands() -> None:
    """A lost broadcast is found within 2 s on a busy session and within 15 s on a silent one."""
    schedule = Schedule(SETTINGS, 0.0)
    schedule.begin(0.0)
    schedule.joined(0.0)
    times = reads(schedule, 3.0, 120.0)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert max(gaps) == 15.0
    assert gaps == sorted(gaps)
    schedule.news(200.0)
    assert schedule.next(is_behind=False) == 202.0


def test_polls_do_not_slow_down_without_a_subscription() -> None:
    """While Realtime is away the polls are all there is."""
    schedule = Schedule(SETTINGS, 0.0)
    assert reads(schedule, 0.0, 10.0) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_being_behind_makes_a_read_due_at_once() -> None:
    """A gap is not waited with."""
    schedule = Schedule(SETTINGS, 0.0)
    schedule.begin(0.0)
    assert schedule.next(is_behind=True) <= 0.0


def test_a_failed_read_is_waited_with_even_when_behind() -> None:
    """A Supabase that is away is not asked in a tight loop, and not before it said so."""
    schedule = Schedule(SETTINGS, 0.0)
    schedule.failed(0.0, UnavailableError("away"))
    assert schedule.next(is_behind=True) >= SETTINGS.retry_first / 2
    schedule.failed(1.0, UnavailableError("away", retry_after=20.0))
    assert schedule.next(is_behind=True) == 21.0


def test_a_promise_that_the_table_does_not_keep_is_waited_with() -> None:
    """Neither is one that answers, and does not hold what was announced."""
    schedule = Schedule(SETTINGS, 0.0)
    schedule.in_vain(0.0)
    assert schedule.next(is_behind=True) > 0.0


def test_the_deadline_counts_from_the_first_failure_in_a_row() -> None:
    """An answer in between starts the time anew."""
    schedule = Schedule(SETTINGS, 0.0)
    schedule.failed(0.0, UnavailableError("away"))
    schedule.succeeded()
    schedule.failed(50.0, UnavailableError("away"))
    schedule.failed(109.0, UnavailableError("away"))
    with pytest.raises(UnavailableError):
        schedule.failed(110.0, UnavailableError("away"))


@given(st.floats(0.01, 5.0), st.floats(1.0, 60.0), st.integers(1, 5000))
def test_backoff_grows_to_its_cap_and_never_beyond(first: float, cap: float, failures: int) -> None:
    """Also after days of failing, and never to nothing."""
    backoff = Backoff(first, cap, failures=failures)
    delay = backoff.next()
    assert min(first, cap) / 2 <= delay <= cap
    assert not math.isinf(delay)
    backoff.reset()
    assert backoff.next() <= first

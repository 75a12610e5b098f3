"""Races with explicit turns: one connection holds a lock, another is seen to wait for it, then the first goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from tests.sql.people import Connection, scalar

T = TypeVar("T")

DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.002


def behind(
    admin: Connection,
    first: Connection,
    act: Callable[[], object],
    second: Connection,
    then: Callable[[], T],
    *,
    commit: bool = True,
) -> T:
    """What `then` (on `second`) answers, begun while `act` (on `first`) is not committed, and seen to wait for it.

    Raises what `then` raises, and AssertionError when it does not come to wait: that is how a lost lock shows.
    """
    with ThreadPoolExecutor(1) as pool:
        with first.transaction(force_rollback=not commit):
            act()
            future = pool.submit(then)
            wait_until_blocked(admin, second.info.backend_pid, future)
        return future.result(DEADLINE_SECONDS)


def wait_until_blocked(admin: Connection, pid: int, action: Future[T]) -> None:
    """Returns when the server says that backend `pid` waits for a lock that another one holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not scalar(admin, "select pg_blocking_pids(%s) <> '{}'", (pid,)):
        assert not action.done(), f"it did not wait: {action.exception() or action.result()}"
        assert time.monotonic() < deadline, "it neither waited nor ended"
        time.sleep(POLL_SECONDS)


def at_once(actions: Iterable[Callable[[], T]]) -> list[T]:
    """The results of all actions, each in a thread, let go at the same moment. Raises what the first failure raised."""
    actions = list(actions)
    gate = Barrier(len(actions))

    def go(action: Callable[[], T]) -> T:
        gate.wait(DEADLINE_SECONDS)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result(DEADLINE_SECONDS) for future in [pool.submit(go, action) for action in actions]]

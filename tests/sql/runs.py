"""Sessions and runs to test with, each admitted as its owner would."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from tests.sql.people import SERVICE, Connection, Person, sign_up

Json = dict[str, Any]
HASH = "a" * 64
OTHER_HASH = "b" * 64


@dataclass(frozen=True)
class Run:
    """An admitted run, with its owner and the runner that holds its token."""

    id: UUID
    session_id: UUID
    owner: Person
    runner: Person

    def at_epoch(self, epoch: int) -> Person:
        """The same run's runner with a token of another epoch."""
        return self.claiming(epoch=epoch)

    def claiming(self, **claims: object) -> Person:
        """The run's runner with other claims; None takes a claim away."""
        merged = {**self.runner.claims, **claims}
        return replace(self.runner, claims={name: value for name, value in merged.items() if value is not None})


def admit(rest: Connection, owner: Person, **changes: object) -> Json:
    """The answer of admit_run_v1 for a plan of one command."""
    request: Json = {
        "kind": "commands",
        "input": {"commands": [{"command": "true"}]},
        "limit_seconds": 600,
        "request_hash": HASH,
    }
    return dict(owner.call(rest, "admit_run_v1", **{**request, **changes}))


def new_run(rest: Connection, admin: Connection, owner: Person | None = None, **changes: object) -> Run:
    """A run in the status launching, by default of a new user in a new session."""
    owner = owner or sign_up(admin)
    row = admit(rest, owner, **changes)["run"]
    claims = {
        "role": "runner", "aud": "runner", "sub": row["id"], "run_id": row["id"], "session_id": row["session_id"],
        "epoch": row["epoch"],
    }  # fmt: skip
    return Run(UUID(row["id"]), UUID(row["session_id"]), owner, Person("runner", "runner", claims))


def watcher(of_session: UUID, owner: Person, **claims: object) -> Person:
    """Who holds a watch token for the session; None takes a claim away."""
    said = {"role": "watcher", "aud": "watcher", "sub": str(owner.id), "session_id": str(of_session), **claims}
    return Person("watcher", "watcher", {name: value for name, value in said.items() if value is not None})


def events(numbers: Iterable[int], size: int = 0) -> list[Json]:
    """Events with these n, as the runner sends them; `size` characters of text each."""
    return [
        {"n": n, "type": "command.output", "data": {"n": n, "text": "x" * size}, "at": "2026-11-21T08:00:00.123456Z"}
        for n in numbers
    ]


def append(rest: Connection, runner: Person, numbers: Iterable[int], size: int = 0) -> Json:
    """The answer of append_events_v1 to events with these n."""
    return dict(runner.call(rest, "append_events_v1", events=events(numbers, size)))


def finish(rest: Connection, runner: Person, last_n: int, status: str = "succeeded", **values: object) -> Json:
    """The answer of finish_run_v1."""
    return dict(runner.call(rest, "finish_run_v1", status=status, last_n=last_n, **values))


def lose(admin: Connection, run: Run, status: str = "lost") -> None:
    """What the sweep will do: end the run from outside, as the only function that ends runs does."""
    admin.execute("select private.end_run(%s, %s, null, null)", (run.id, status))


def next_epoch(rest: Connection, run: Run) -> int | None:
    """The epoch of a new runner, or None when the run has ended."""
    epoch = SERVICE.call(rest, "next_epoch_v1", run_id=run.id)
    return None if epoch is None else int(epoch)


def log_of(admin: Connection, run: Run) -> list[tuple[int, int | None, str]]:
    """The session's log in order: (seq, n, type)."""
    query = "select seq, n, type from public.agent_events where session_id = %s order by seq"
    return admin.execute(query, (run.session_id,)).fetchall()


def numbers_of(admin: Connection, run: Run) -> list[int]:
    """The runner's numbers in the log, in the order of seq, checked to have no hole and no repeat in seq."""
    rows = log_of(admin, run)
    assert [seq for seq, _, _ in rows] == list(range(1, len(rows) + 1))
    return [n for _, n, _ in rows if n is not None]


def row_of(admin: Connection, run: Run) -> Json:
    """The run's row."""
    cursor = admin.execute("select to_jsonb(r) from public.agent_runs r where id = %s", (run.id,))
    (row,) = cursor.fetchall()
    return dict(row[0])

"""Runs of plans by the driver of the tests, and what the log says of their steps."""

from __future__ import annotations

from typing import Any

from tests.runner.conftest import Bench
from tests.runner.log_server import LogServer
from tests.runner.test_commands import finished

# Ends when the file is there.
UNTIL = "until [ -e {} ]; do sleep 0.01; done"
LINES = 20
TICKER = f"echo run >> runs.{{0}}; for i in $(seq {LINES}); do echo {{0}} $i; echo err {{0}} $i >&2; sleep 0.05; done"


class PlansBench(Bench):
    """A run of plans, by the driver of these tests."""

    program = ("-m", "tests.runner.plans_runner")

    def plans(self, *plans: list[dict[str, Any]], **fields: Any) -> None:
        """Write the job file."""
        self.job(kind="plans", input={"plans": plans}, **fields)


def step(index: int, text: str, *needs: int, **fields: Any) -> dict[str, Any]:
    """An entry of a plan."""
    return {"index": index, "command": text, "timeout_seconds": 30, "needs": needs, **fields}


def outcome(log: LogServer, plan: int = 0) -> dict[str, Any]:
    """What the driver was told of a plan."""
    found: dict[str, Any] = finished(log)["result"]["outcomes"][plan]
    return found


def results(log: LogServer, plan: int = 0) -> dict[int, dict[str, Any]]:
    return {result["index"]: result for result in outcome(log, plan)["results"]}


def story(log: LogServer) -> list[tuple[str, int]]:
    """Which step was started or completed, in the log's order."""
    words = {"command.started": "started", "command.completed": "completed"}
    with log.changed:
        return [(words[event["type"]], event["data"]["index"]) for event in log.events if event["type"] in words]


def most_at_once(log: LogServer) -> int:
    running = peak = 0
    for word, _ in story(log):
        running += 1 if word == "started" else -1
        peak = max(peak, running)
    return peak


def ring(bench: Bench) -> None:
    (bench.directory / "doorbell").touch()

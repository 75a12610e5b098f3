"""What the driver writes into the spool: each event once, whoever tells it again."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...spool import Spool

REQUIRES_ACTION = "requires_action"
WATCHDOG = "unknown_error"


class Record:
    """The run's events by their ids. A restarted runner that reads the CLI's output again repeats none."""

    def __init__(self, spool: Spool, run_id: str) -> None:
        self._spool = spool
        self._prefix = run_id[:8]
        self._ids: set[str] = set()
        self._counts: dict[str, int] = {}
        self._asking: list[str] = []
        self._budget: dict[str, Any] = {}
        for event in spool.events():
            self._fold(event["type"], event["data"])

    def asking(self) -> list[str]:
        """The event ids that the log waits for an answer to; empty when the last status was another."""
        return self._asking

    def has(self, event_id: str) -> bool:
        """Whether an event of that id was written."""
        return event_id in self._ids

    def told(self, kind: str) -> bool:
        """Whether an event of that type was written."""
        return kind in self._counts

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event that carries its own id, unless it is there. Raise OSError."""
        if data["id"] not in self._ids:
            self._spool.append(kind, data)
            self._fold(kind, data)

    def say(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event of the driver's own, with the next id of its type. Raise OSError."""
        number = self._counts.get(kind, 0) + 1
        name = kind.rpartition(".")[2]
        self.add(kind, {"id": f"sevt_{self._prefix}_{name}_r{number}", **data})

    def running(self) -> None:
        """The log no longer waits for anyone. Raise OSError."""
        self.say("session.status_running", {})

    def ask(self, event_ids: list[str]) -> None:
        """The log waits for answers to these. Raise OSError."""
        self.say("session.status_idle", {"stop_reason": {"type": REQUIRES_ACTION, "event_ids": event_ids}})

    def reached(self, budget: dict[str, Any]) -> None:
        """This budget is spent: said once, and again only when it was raised meanwhile. Raise OSError."""
        if _limit(budget) != _limit(self._budget):
            self.say("budget.reached", budget)

    def error(self, message: str, **more: Any) -> None:
        """A session.error that no new try mends by itself. Raise OSError."""
        error = {"type": WATCHDOG, "message": message, "retry_status": {"type": "exhausted"}, **more}
        self.say("session.error", {"error": error})

    def _fold(self, kind: str, data: dict[str, Any]) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if "id" in data:
            self._ids.add(str(data["id"]))
        if kind == "session.status_idle":
            self._asking = list(data.get("stop_reason", {}).get("event_ids") or ())
        elif kind == "session.status_running":
            self._asking = []
        elif kind == "budget.reached":
            self._budget = data


def _limit(budget: dict[str, Any]) -> tuple[Any, Any]:
    return budget.get("scope"), budget.get("limit_microusd")

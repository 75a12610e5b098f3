"""What was answered, and what it cost: tests compare the product's books with these."""

from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

ENTRIES = 20_000

Outcome = Literal["complete", "cut", "failed", "hung", "abandoned"]


@dataclass(frozen=True)
class Entry:
    """One answer. What did not come out whole says so in `outcome`: a client owes nothing for it."""

    message_id: str
    model: str
    usage: dict[str, Any]
    prompt: str
    session: str | None
    """The CLI's session, where the CLI asked."""
    outcome: Outcome
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())


class Ledger:
    """The newest answers, oldest first, each once."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=ENTRIES)

    def add(self, entry: Entry) -> None:
        """At the time when the answer ends."""
        self._entries.append(entry)

    def listed(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [asdict(entry) for entry in self._entries]

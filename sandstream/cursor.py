"""The order of events: which of those that arrive come next, and whether some are missing. No clock, no network."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from sandstream.events import Event

# Past this, broadcasts that came too early are let go and read from the table instead.
EARLY_BELLS_KEPT = 256


class Bell(BaseModel):
    """One broadcast: a range of `seq`, and the events themselves unless they were too large."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    session_id: UUID
    first_seq: int
    last_seq: int
    events: tuple[Event, ...] = ()


class Cursor:
    """A place in one log: every event up to `last` was handed on, and the log is known to hold events up to `known`."""

    def __init__(self, after: int) -> None:
        self.last = after
        self.known = after
        self._early: list[Bell] = []

    @property
    def is_behind(self) -> bool:
        """Whether the log holds events that have not arrived here."""
        return self.known > self.last

    def hear(self, seq: int) -> None:
        """Note that the log holds this `seq`."""
        self.known = max(self.known, seq)

    def ring(self, bell: Bell) -> list[Event]:
        """The events that come next, now that this broadcast is here. One that came too early waits for its turn."""
        self.hear(bell.last_seq)
        if bell.first_seq <= self.last + 1:
            return self.take(bell.events)
        if bell.events and len(self._early) < EARLY_BELLS_KEPT:
            self._early.append(bell)
        return []

    def take(self, events: Iterable[Event]) -> list[Event]:
        """The events that come next, now that these are here. Repeats and what lies past a hole are dropped."""
        taken = self._continue(events)
        if self._early and taken:
            taken += self._resume()
        return taken

    def _continue(self, events: Iterable[Event]) -> list[Event]:
        taken = []
        for event in sorted(events, key=lambda event: event.seq):
            self.hear(event.seq)
            if event.seq == self.last + 1:
                self.last = event.seq
                taken.append(event)
        return taken

    def _resume(self) -> list[Event]:
        """What the broadcasts that came too early add, after the hole before them has been filled."""
        taken = []
        waiting, self._early = sorted(self._early, key=lambda bell: bell.first_seq), []
        for bell in waiting:
            if bell.first_seq <= self.last + 1:
                taken += self._continue(bell.events)
            else:
                self._early.append(bell)
        return taken

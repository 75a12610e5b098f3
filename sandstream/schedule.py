"""When a watch reads the table. Times are seconds of one monotonic clock, given by the caller."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sandstream.backoff import Backoff
from sandstream.errors import UnavailableError


@dataclass(frozen=True)
class WatchSettings:
    """Times are in seconds."""

    page_size: int = 1000
    """Hosted Supabase gives no more in one answer."""
    poll_first: float = 2.0
    """The table is read after so long without news, in case a broadcast was lost …"""
    poll_cap: float = 15.0
    """… then after twice as long, up to this. Without a subscription it stays at `poll_first`."""
    after_joining: tuple[float, ...] = (0.0, 1.0, 3.0)
    """Hosted Realtime says SUBSCRIBED up to three seconds before it delivers."""
    retry_first: float = 0.25
    retry_cap: float = 10.0
    deadline: float = math.inf
    """Supabase may be away for so long at a stretch."""


class Schedule:
    """The times at which a read is due, and those before which none may start."""

    def __init__(self, settings: WatchSettings, now: float) -> None:
        self._settings = settings
        self._due = [now]
        self._not_before = now
        self._interval = settings.poll_first
        self._poll_at = now + settings.poll_first
        self._backoff = Backoff(settings.retry_first, settings.retry_cap)
        self._away_since: float | None = None
        self._joined = False

    def joined(self, now: float) -> None:
        """Broadcasts come from now on: what was appended before is read, and again shortly after."""
        self._joined = True
        self._due += [now + wait for wait in self._settings.after_joining]

    def lost(self, now: float) -> None:
        """No broadcast comes: the polls are all there is."""
        self._joined = False
        self._interval = self._settings.poll_first
        self._poll_at = min(self._poll_at, now + self._interval)

    def soon(self, now: float) -> None:
        """Something may have been missed."""
        self._due.append(now)

    def news(self, now: float) -> None:
        """Events came: the session is busy."""
        self._interval = self._settings.poll_first
        self._poll_at = now + self._interval

    def next(self, *, is_behind: bool) -> float:
        """When the next read is due."""
        wanted = -math.inf if is_behind else min([*self._due, self._poll_at])
        return max(wanted, self._not_before)

    def is_allowed(self, now: float) -> bool:
        """Whether any read may start now."""
        return now >= self._not_before

    def begin(self, now: float) -> bool:
        """A read starts, and serves for all that were due. Returns whether it was one of the polls."""
        self._due = [due for due in self._due if due > now]
        is_poll = now >= self._poll_at
        if is_poll and self._joined:
            self._interval = min(self._interval * 2, self._settings.poll_cap)
        self._poll_at = now + self._interval
        return is_poll

    def succeeded(self) -> None:
        """Supabase answered as it should."""
        self._away_since = None
        self._backoff.reset()

    def failed(self, now: float, error: UnavailableError) -> None:
        """Wait before the next read. Raises the error when Supabase has been away for too long."""
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= self._settings.deadline:
            raise error
        wait = max(self._backoff.next(), error.retry_after or 0.0)
        self._not_before = now + min(wait, self._settings.deadline)
        self._due.append(self._not_before)

    def in_vain(self, now: float) -> None:
        """The table did not hold what a broadcast had promised: never read it in a tight loop."""
        self._not_before = now + self._backoff.next()

"""Watching a session: each event of its log exactly once, in order, as soon as it can be had.

Two sources feed one cursor: the table, which is complete, and Realtime's broadcasts, which are quick but may be lost,
repeated or early. A broadcast that continues the log is handed on as it is; anything else only makes the table be read
again. It is also read after every (re-)subscription, and now and then in case a broadcast was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx

from sandstream.access import SupabaseAccess, Tokens
from sandstream.backoff import Backoff
from sandstream.cursor import Bell, Cursor
from sandstream.doorbell import Doorbell
from sandstream.errors import UnavailableError
from sandstream.events import DELETED, Event, is_final
from sandstream.log import Log, State, http_client
from sandstream.previews import Previews, Show
from sandstream.schedule import Schedule, WatchSettings

__all__ = ["SupabaseAccess", "WatchSettings", "watch"]

IDLE, TERMINATED = "idle", "terminated"
# The events that tell whether a run is on; the others say nothing about it.
STATUS_EVENTS = ("run.created", "session.status_")
# A slow reader's broadcasts past this are let go, and read from the table when it is ready for them.
BELLS_KEPT = 256


async def watch(
    access: SupabaseAccess,
    session_id: UUID | str,
    after: int = 0,
    *,
    follow: bool = False,
    deadline: float | None = None,
    settings: WatchSettings | None = None,
    on_previews: Show | None = None,
) -> AsyncGenerator[Event, None]:
    """The session's events past `after`: exactly once each, in order of `seq`, without a hole.

    What the table holds comes at once, then what is appended. Ends when the session is at rest and its last event has
    been handed on; with `follow` it waits for the next run instead, until the session is terminated or deleted.
    Supabase may be away: the watch goes on when it is back, unless `deadline` seconds have passed at a stretch without
    an answer.

    `on_previews` is given what is about to be said (`event_start` and `event_delta` as they were broadcast), but not
    of an event that was handed on before. It is called on the event loop, and must neither block nor raise.

    Raises NotFoundError for a session that is not the caller's, NotAuthenticatedError when the token is refused and
    its source has no other, another RefusedError for another refusal, UnavailableError past the deadline.
    """
    settings = settings or WatchSettings()
    if deadline is not None:
        settings = replace(settings, deadline=deadline)
    session = UUID(str(session_id))
    async with _http(access) as http:
        tokens = Tokens(access.token)
        previews = Previews(on_previews)
        watching = _Watch(Log(access, tokens, http, session), after, settings, previews, follow=follow)
        doorbell = Doorbell(access, tokens, session, watching, Backoff(settings.retry_first, settings.retry_cap))
        async with watching.listening(doorbell), contextlib.aclosing(watching.events()) as events:
            async for event in events:
                yield event


@contextlib.asynccontextmanager
async def _http(access: SupabaseAccess) -> AsyncIterator[httpx.AsyncClient]:
    if access.http is not None:
        yield access.http
        return
    async with http_client(access.url) as http:
        yield http


class _Watch:
    """One watch while it lasts. Broadcasts and answers only arrive beside it; `events` alone moves the cursor."""

    def __init__(self, log: Log, after: int, settings: WatchSettings, previews: Previews, *, follow: bool) -> None:
        self._log = log
        self._previews = previews
        self._follow = follow
        self._page_size = settings.page_size
        self._cursor = Cursor(after)
        self._schedule = Schedule(settings, time.monotonic())
        self._bells: deque[Bell] = deque(maxlen=BELLS_KEPT)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[list[Event] | State] | None = None
        self._known_before = after
        self._state_wanted = True
        # Whether the last status event was an end; None while none has been seen.
        self._ended: bool | None = None
        self._newest = 0
        self._at_rest_with = -1
        self._deleted = False

    @contextlib.asynccontextmanager
    async def listening(self, doorbell: Doorbell) -> AsyncIterator[None]:
        """Subscribed while inside; afterwards nothing is left running."""
        staying = asyncio.create_task(doorbell.stay())
        staying.add_done_callback(lambda _: self._wake.set())
        self._tasks.add(staying)
        try:
            yield
        finally:
            running = [*self._tasks, *([self._reading] if self._reading else [])]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events, until the session is at rest."""
        while True:
            self._wake.clear()
            events = self._arrived()
            # Before the events are handed on: the next page comes while the reader is busy with this one.
            self._read_if_due()
            for event in events:
                yield event
            if events:
                continue
            if self._at_rest_with >= self._cursor.last:
                return
            await self._sleep()

    def rang(self, bell: Bell | None) -> None:
        """A broadcast; None for one that makes no sense."""
        if bell is None:
            self._schedule.soon(time.monotonic())
        else:
            self._bells.append(bell)
        self._wake.set()

    def previewed(self, message: Any) -> None:
        """A broadcast of what is about to be said."""
        self._previews.heard(message)

    def joined(self) -> None:
        """The subscription stands."""
        self._schedule.joined(time.monotonic())
        self._wake.set()

    def lost(self) -> None:
        """The subscription is gone."""
        self._schedule.lost(time.monotonic())
        self._wake.set()

    def _arrived(self) -> list[Event]:
        """What comes next of all that has arrived. Raises what ends the watch."""
        for task in self._tasks:
            if task.done():
                task.result()
        events: list[Event] = []
        while self._bells:
            events += self._cursor.ring(self._bells.popleft())
        if self._reading is not None and self._reading.done():
            finished, self._reading = self._reading, None
            events += self._answered(finished)
        if events:
            self._schedule.news(time.monotonic())
            self._note(events)
        return events

    def _answered(self, read: asyncio.Task[list[Event] | State]) -> list[Event]:
        try:
            answer = read.result()
        except UnavailableError as error:
            self._schedule.failed(time.monotonic(), error)
            return []
        self._schedule.succeeded()
        if isinstance(answer, State):
            self._learn(answer)
            return []
        return self._paged(answer)

    def _paged(self, page: list[Event]) -> list[Event]:
        events = self._cursor.take(page)
        if events and len(page) >= self._page_size:
            self._schedule.soon(time.monotonic())
        elif not events and self._cursor.last < self._known_before:
            self._schedule.in_vain(time.monotonic())
        return events

    def _learn(self, state: State) -> None:
        self._cursor.hear(state.last_seq)
        self._state_wanted = self._cursor.is_behind
        # A state from before the newest event says nothing: a run may have begun since.
        if self._cursor.is_behind or state.last_seq < self._newest:
            return
        ended = self._ended if state.ended is None else state.ended
        if state.status == TERMINATED or (state.status == IDLE and ended and not self._follow):
            self._at_rest_with = self._cursor.last

    def _note(self, events: list[Event]) -> None:
        self._newest = events[-1].seq
        self._previews.stored(events)
        if events[-1].type == DELETED:
            # There is no row left that could be asked.
            self._at_rest_with, self._deleted = self._newest, True
        for event in events:
            if event.type.startswith(STATUS_EVENTS):
                self._ended = is_final(event)
                self._state_wanted = self._state_wanted or self._ended

    def _read_if_due(self) -> None:
        now = time.monotonic()
        if self._reading is not None or self._deleted:
            return
        if now >= self._schedule.next(is_behind=self._cursor.is_behind):
            self._state_wanted = self._schedule.begin(now) or self._state_wanted
            self._known_before = self._cursor.known
            self._reading = asyncio.create_task(self._log.page(self._cursor.last, self._page_size))
        elif self._state_wanted and self._schedule.is_allowed(now):
            self._reading = asyncio.create_task(self._log.state(with_end=self._ended is None))
        if self._reading is not None:
            self._reading.add_done_callback(lambda _: self._wake.set())

    async def _sleep(self) -> None:
        """Until something arrives or a read is due."""
        due = self._schedule.next(is_behind=self._cursor.is_behind) - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self._reading else max(due, 0.0)):
                await self._wake.wait()

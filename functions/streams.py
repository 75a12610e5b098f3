"""Server-sent events: one tail per watched session, however many readers it has.

A tail follows the log with the same code as the clients (`sandstream.watch`: a doorbell, then the table), under the JWT
of those who read it, so that RLS decides here too. A reader takes what the tail holds, and reads the table only for
what is older than that.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from pydantic import ValidationError

from functions.errors import NotAuthenticated
from functions.identity import Caller
from functions.settings import Settings
from functions.store import Store
from sandstream.access import SupabaseAccess, expiry
from sandstream.errors import SandstreamError
from sandstream.events import Event
from sandstream.log import http_client
from sandstream.watch import watch

TAIL_EVENTS = 1000
TAIL_BYTES = 4 * 1024 * 1024
PAGE_EVENTS = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Line:
    """One event as an SSE message: encoded once, for all readers."""

    seq: int
    message: bytes


class Tail:
    """The newest events of one session's log, as one owner sees it."""

    def __init__(self, after: int) -> None:
        self.readers = 0
        self.ended = False
        self.newest = after
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._tokens: dict[str, float] = {}
        self._grown = asyncio.Event()

    def admit(self, token: str) -> None:
        """Counts a reader in, and keeps their token: the freshest one is used."""
        self.readers += 1
        self._tokens[token] = expiry(token)

    async def token(self) -> str:
        """The token that lasts longest. Raises NotAuthenticated when none is left."""
        if not self._tokens:
            raise NotAuthenticated("nobody reads this session any more")
        return max(self._tokens, key=lambda token: self._tokens[token])

    def add(self, line: Line) -> None:
        """Appends the next event and wakes the readers."""
        self._lines.append(line)
        self._bytes += len(line.message)
        while len(self._lines) > TAIL_EVENTS or self._bytes > TAIL_BYTES:
            self._bytes -= len(self._lines.popleft().message)
        self.newest = line.seq
        self._wake()

    def end(self) -> None:
        """Nothing follows: readers end once they have read what there is."""
        self.ended = True
        self._wake()

    def since(self, seq: int) -> list[Line] | None:
        """The lines after `seq`, or None when the tail does not reach back so far."""
        if seq >= self.newest:
            return []
        if not self._lines or self._lines[0].seq > seq + 1:
            return None
        return [line for line in self._lines if line.seq > seq]

    async def growth(self, seq: int, until: float) -> bool:
        """True when there is something after `seq` or nothing will follow; False once it is `until` (Unix time)."""
        try:
            async with asyncio.timeout(max(0.0, until - time.time())):
                while self.newest <= seq and not self.ended:
                    await self._grown.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class Streams:
    """All tails of this process."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._tails: dict[tuple[UUID, UUID], Tail] = {}
        self._tasks: dict[tuple[UUID, UUID], asyncio.Task[None]] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Streams"]:
        """Ends every tail when the app stops. They share one HTTP client."""
        async with http_client(self._settings.supabase_url) as self._http:
            try:
                yield self
            finally:
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def follow(self, caller: Caller, session_id: UUID, after: int, last_seq: int) -> AsyncIterator[bytes]:
        """The session's events after `after`, each once, in order, as SSE messages; ends after the terminal one.

        The caller has been shown to see the session, and `last_seq` was the end of its log then. Ends early when the
        caller's token expires: a client goes on from its last id with a new one.
        """
        key = (caller.owner, session_id)
        tail = self._join(key, caller.token, last_seq)
        try:
            async for lines in self._batches(tail, caller, session_id, after):
                yield b"".join(line.message for line in lines)
        finally:
            self._leave(key, tail)

    async def _batches(self, tail: Tail, caller: Caller, session_id: UUID, after: int) -> AsyncIterator[list[Line]]:
        position = after
        while True:
            lines = tail.since(position)
            if lines is None:
                lines = await self._read(caller, session_id, position)
            if lines:
                yield lines
                position = lines[-1].seq
            elif tail.ended or not await tail.growth(position, expiry(caller.token)):
                return

    async def _read(self, caller: Caller, session_id: UUID, after: int) -> list[Line]:
        rows = await self._store.as_user(caller.token).events(session_id, after, PAGE_EVENTS)
        return [encode(Event.model_validate(row)) for row in rows]

    def _join(self, key: tuple[UUID, UUID], token: str, last_seq: int) -> Tail:
        tail = self._tails.get(key)
        if tail is None or tail.ended:
            tail = self._tails[key] = Tail(last_seq)
            tail.admit(token)
            self._tasks[key] = asyncio.create_task(self._fill(key, tail, last_seq))
        else:
            tail.admit(token)
        return tail

    def _leave(self, key: tuple[UUID, UUID], tail: Tail) -> None:
        tail.readers -= 1
        if tail.readers == 0 and self._tails.get(key) is tail:
            del self._tails[key]
            self._tasks.pop(key).cancel()

    async def _fill(self, key: tuple[UUID, UUID], tail: Tail, after: int) -> None:
        settings = self._settings
        access = SupabaseAccess(settings.supabase_url, settings.supabase_publishable_key, tail.token, self._http)
        try:
            async with aclosing(watch(access, key[1], after=after)) as events:
                async for event in events:
                    tail.add(encode(event))
        except (SandstreamError, NotAuthenticated, ValidationError) as error:
            log.info("tail_ended", session_id=str(key[1]), error=str(error))
        finally:
            tail.end()


def encode(event: Event) -> Line:
    """An event as its line. JSON has no raw newline, so the data is one line of the message."""
    return Line(event.seq, b"id: %d\ndata: %b\n\n" % (event.seq, event.model_dump_json().encode()))

"""Server-sent events: one tail per watched session, however many readers it has.

A tail follows the log with the same code as the clients (`sandstream.watch`: a doorbell, then the table), under the JWT
of those who read it, so that RLS decides here too. A reader takes what the tail holds, and reads the table only for
what is older than that. What is about to be said comes with the same tail, for the readers that ask for it.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from functions.drafts import Drafts
from functions.errors import NotAuthenticated
from functions.events import as_wire
from functions.identity import Caller
from functions.rest import Row
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
# JSON leaves these as they are, and not a few clients take them for ends of lines.
LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}

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
        self.drafts = Drafts()
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._tokens: dict[str, float] = {}
        self._grown = asyncio.Event()

    def admit(self, token: str) -> None:
        """Counts a reader in, and keeps their token: the freshest one is used."""
        self.readers += 1
        fresh = {each: ends for each, ends in self._tokens.items() if ends > time.time()}
        self._tokens = {**fresh, token: expiry(token)}

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

    def hear(self, previews: list[dict[str, Any]]) -> None:
        """Keeps what is about to be said, and wakes the readers."""
        if self.drafts.heard(previews):
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

    async def growth(self, seq: int, until: float, draft: int | None = None) -> bool:
        """True when there is something after `seq` or nothing will follow; False once it is `until` (Unix time).

        With `draft`, the place of the last preview that was seen, also when there are newer ones.
        """
        try:
            async with asyncio.timeout(max(0.0, until - time.time())):
                while self.newest <= seq and not self.ended and (draft is None or self.drafts.last <= draft):
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

    async def follow(
        self, caller: Caller, session: Row, after: int, kinds: frozenset[str] = frozenset()
    ) -> AsyncGenerator[bytes, None]:
        """The session's events after `after`, each once, in order, as SSE messages; ends after the terminal one.

        `session` is the row as the caller sees it. A session of plans ends with its run, a conversation when it is
        terminated or deleted. Between the events come the previews of the `kinds` that are asked for. Ends early when
        the caller's token expires: a client goes on from its last id with a new one.
        """
        key = (caller.owner, UUID(session["id"]))
        tail = self._join(key, caller.token, session)
        try:
            async for messages in self._batches(tail, caller, key[1], after, kinds):
                yield b"".join(messages)
        finally:
            self._leave(key, tail)

    async def _batches(
        self, tail: Tail, caller: Caller, session_id: UUID, after: int, kinds: frozenset[str]
    ) -> AsyncIterator[list[bytes]]:
        position, draft = after, 0
        expires = expiry(caller.token)
        while True:
            lines = tail.since(position)
            if lines is None and not (lines := await self._read(caller, session_id, position)):
                return  # the log went with its session
            if lines:
                yield [line.message for line in lines]
                position = lines[-1].seq
                continue
            drafts, draft = tail.drafts.since(draft, kinds), tail.drafts.last
            if drafts:
                yield [each.message for each in drafts]
                continue  # while a slow reader took them, there may have come more
            if tail.ended or not await tail.growth(position, expires, draft if kinds else None):
                return

    async def _read(self, caller: Caller, session_id: UUID, after: int) -> list[Line]:
        rows = await self._store.as_user(caller.token).events(session_id, after, PAGE_EVENTS)
        return [encode(Event.model_validate(row)) for row in rows]

    def _join(self, key: tuple[UUID, UUID], token: str, session: Row) -> Tail:
        tail = self._tails.get(key)
        if tail is None or tail.ended:
            tail = self._tails[key] = Tail(session["last_seq"])
            tail.admit(token)
            is_conversation = session["agent_id"] is not None
            self._tasks[key] = asyncio.create_task(self._fill(key, tail, is_conversation=is_conversation))
        else:
            tail.admit(token)
        return tail

    def _leave(self, key: tuple[UUID, UUID], tail: Tail) -> None:
        tail.readers -= 1
        if tail.readers == 0 and self._tails.get(key) is tail:
            del self._tails[key]
            self._tasks.pop(key).cancel()

    async def _fill(self, key: tuple[UUID, UUID], tail: Tail, *, is_conversation: bool) -> None:
        settings = self._settings
        access = SupabaseAccess(settings.supabase_url, settings.supabase_publishable_key, tail.token, self._http)
        try:
            watching = watch(access, key[1], after=tail.newest, follow=is_conversation, on_previews=tail.hear)
            async with aclosing(watching) as events:
                async for event in events:
                    tail.drafts.stored(event)
                    tail.add(encode(event))
        except (SandstreamError, NotAuthenticated, ValidationError) as error:
            log.info("tail_ended", session_id=str(key[1]), error=str(error))
        finally:
            tail.end()


def encode(event: Event) -> Line:
    """An event as its line. Its data is one line whatever it holds.

    The official SDK passes over messages without an `event`; a browser's EventSource takes `message` for its default.
    """
    data = json.dumps(as_wire(event), ensure_ascii=False, separators=(",", ":")).translate(LINE_ENDS)
    return Line(event.seq, b"event: message\nid: %d\ndata: %b\n\n" % (event.seq, data.encode()))

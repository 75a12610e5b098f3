"""A conversation at a terminal: what is said live, questions where they come up, Ctrl-C to interrupt."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from uuid import UUID

from rich.console import Console
from rich.text import Text

from sandstream import tools
from sandstream.client import Sandstream
from sandstream.conversation import text
from sandstream.errors import ConflictError, SandstreamError
from sandstream.events import Event, Preview
from sandstream.keyboard import Keyboard, on_ctrl_c
from sandstream.screen import Screen
from sandstream.turn import Turn, last_turn

TITLE_LENGTH = 60
HISTORY_PAGE = 500
YES = ("y", "yes")

# What a turn's end means for the shell. 130 is what a shell says of a program that was interrupted.
INTERRUPTED = 130
EXIT_CODES = {"end_turn": 0, "requires_action": 3, "budget_reached": 4}


class WaitsForUserError(SandstreamError):
    """Claude waits for an answer that cannot be given here. The session goes on waiting."""


class LeftError(Exception):
    """The person left without waiting for the end."""


class Chat:
    """One conversation, shown on `console`. Without a keyboard nobody can be asked; with `json_lines` events are
    printed for programs, and nobody is asked either."""

    def __init__(
        self, client: Sandstream, console: Console, *, keyboard: Keyboard | None = None, json_lines: bool = False
    ) -> None:
        self._client = client
        self._console = console
        self._screen = Screen(console)
        self._keyboard = None if json_lines else keyboard
        self._json_lines = json_lines
        self._session: UUID | None = None
        self._after = 0
        self._working = False
        # What was just typed, and is on the screen already.
        self._line = ""
        self._turn = Turn()
        self._question: asyncio.Task[None] | None = None
        self._asked = ""
        self._interrupting: asyncio.Task[None] | None = None
        self._main: asyncio.Task[int] | None = None
        self._end: Exception | None = None

    async def run(self, prompt: str | None, session_id: UUID | None, agent: str = "default") -> int:
        """Goes on with a session or begins one: says `prompt`, or what is typed line by line; the exit code.

        Raises WaitsForUserError, and what the client raises.
        """
        self._main = asyncio.ensure_future(self._converse(prompt, session_id, agent))
        with on_ctrl_c(self._ctrl_c):
            try:
                return await self._main
            except asyncio.CancelledError:
                if self._end is None:
                    raise
            finally:
                await self._drop_tasks()
        if isinstance(self._end, LeftError):
            return INTERRUPTED
        raise self._end

    async def _converse(self, prompt: str | None, session_id: UUID | None, agent: str) -> int:
        code = 0
        if session_id is not None:
            await self._resume(session_id)
            if prompt is None and self._turn.is_open:
                code = await self._follow(0)
        if prompt is not None:
            return await self._say(prompt, agent)
        while (line := await self._typed()) is not None:
            self._line = line
            if line.strip():
                code = await self._say(line, agent)
        return code

    async def _say(self, words: str, agent: str) -> int:
        """One message and the turn that answers it."""
        if self._session is None:
            session = await self._client.create_session(words, agent=agent, title=title(words))
            self._session, begins = session.id, 0
            self._announce(f"session {session.id}")
        else:
            begins = (await self._client.send(self._session, words)).seq
        if not self._turn.is_open:
            self._turn = Turn()
        return await self._follow(begins)

    async def _resume(self, session_id: UUID) -> None:
        """Reads a session's log, and shows its last turn when that is still open."""
        session = await self._client.session(session_id)
        if not session.is_conversation:
            raise SandstreamError(f"session {session_id} runs plans of commands; there is nobody to talk to")
        self._session = session_id
        events = last_turn(await self._history(session_id))
        self._turn = Turn.of(events)
        if self._turn.is_open:
            for event in events:
                self._show(event)

    async def _history(self, session_id: UUID) -> list[Event]:
        events: list[Event] = []
        while True:
            page = await self._client.events(session_id, self._after, HISTORY_PAGE)
            events += page.data
            self._after = page.data[-1].seq if page.data else self._after
            if not page.has_more:
                return events

    async def _follow(self, begins: int) -> int:
        """Shows what comes until a turn that began after seq `begins` has ended; the exit code."""
        assert self._session is not None  # noqa: S101 all callers have set it
        self._working = True
        self._attend()
        items = self._client.watch(self._session, self._after, follow=True, previews=True)
        async with contextlib.aclosing(items):
            async for item in items:
                self._show(item)
                if isinstance(item, Event):
                    self._turn.add(item)
                    self._after = item.seq
                    self._attend()
                    if self._turn.ended and item.seq > begins:
                        break
        self._working = False
        return self._ended()

    def _ended(self) -> int:
        self._announce("\n" + self._turn.summary)
        if self._turn.interrupted:
            return INTERRUPTED
        return 1 if self._turn.failed else EXIT_CODES.get(self._turn.stop_reason, 1)

    def _show(self, item: Event | Preview) -> None:
        if not self._json_lines:
            if not self._was_typed(item):
                self._screen.show(item)
        elif isinstance(item, Event):
            sys.stdout.write(item.model_dump_json() + "\n")
            sys.stdout.flush()

    def _was_typed(self, item: Event | Preview) -> bool:
        """Whether it is what was just typed, which is asked once."""
        if not (self._line and isinstance(item, Event) and item.type == "user.message"):
            return False
        if text(item.data.get("content")) != self._line:
            return False
        self._line = ""
        return True

    def _announce(self, words: str) -> None:
        if not self._json_lines:
            self._screen.note(words)

    def _attend(self) -> None:
        """Asks what is to be asked, and stops asking what somebody else has answered."""
        waiting = self._turn.waits_for
        if self._question is not None and self._asked not in [use.id for use in waiting]:
            self._question.cancel()
            self._question = None
        if waiting and self._question is None:
            if self._keyboard is None or waiting[0].type == "agent.custom_tool_use":
                raise WaitsForUserError(waits(waiting[0], self._session))
            self._asked = waiting[0].id
            self._question = asyncio.create_task(self._ask(waiting[0], self._keyboard))
            self._question.add_done_callback(self._answered)

    async def _ask(self, use: Event, keyboard: Keyboard) -> None:
        assert self._session is not None  # noqa: S101 there is a turn
        self._screen.question(f"Allow {tools.label(use)}? [y/N] ")
        allowed = (await keyboard.line() or "").strip().lower() in YES
        self._screen.answered()
        # Somebody else was quicker: their answer is in the log, and will be shown.
        with contextlib.suppress(ConflictError):
            if allowed:
                await self._client.allow(self._session, use.id)
            else:
                await self._client.deny(self._session, use.id)

    def _answered(self, question: asyncio.Task[None]) -> None:
        if not question.cancelled() and (error := question.exception()) is not None:
            self._leave_with(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    async def _typed(self) -> str | None:
        if self._keyboard is None:
            return None
        self._console.print(Text("\n> ", style="bold"), end="")
        return await self._keyboard.line()

    def _ctrl_c(self) -> None:
        """The first interrupts the turn; the second, or one with no turn to interrupt, leaves."""
        if self._interrupting is not None or not self._working:
            self._leave_with(LeftError())
            return
        self._announce("\ninterrupting; Ctrl-C again leaves without waiting")
        self._interrupting = asyncio.create_task(self._interrupt())

    async def _interrupt(self) -> None:
        assert self._session is not None  # noqa: S101 there is a turn
        try:
            await self._client.interrupt(self._session)
        except SandstreamError as error:
            self._leave_with(error)

    def _leave_with(self, error: Exception) -> None:
        self._end = error
        if self._main is not None:
            self._main.cancel()

    async def _drop_tasks(self) -> None:
        tasks = [task for task in (self._question, self._interrupting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def title(words: str) -> str:
    """A session's title: how its first message begins."""
    first = " ".join(words.split())
    return first if len(first) <= TITLE_LENGTH else first[: TITLE_LENGTH - 1] + "…"


def waits(use: Event, session_id: UUID | None) -> str:
    """What Claude waits for, and how to go on."""
    wants = tools.label(use)
    if use.type == "agent.custom_tool_use":
        return f"Claude waits for the result of {wants}: send a user.custom_tool_result for {use.id}"
    return f"Claude asks whether it may: {wants}\nanswer at a terminal: sandstream chat --session {session_id}"

"""One start of the CLI, held through the Agent SDK: prompts, questions, interrupts, watchdogs, until its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    PermissionResultAllow,
    PermissionResultDeny,
)

from ...control import CANCELLED, TIMED_OUT
from ...errors import Unavailable
from ...stop import Stop
from .blocks import event_id
from .cli import config_directory
from .custom import CustomTools
from .departure import Departure
from .end import ASK, EXHAUSTED, HURRY, STOP, End
from .input import prompt
from .lines import Line
from .live import Live
from .memory import Mirror
from .questions import Questions
from .tap import Tap
from .transport import FifoTransport, Output
from .watchdogs import Watchdogs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from claude_agent_sdk import ToolPermissionContext

    from .desk import Desk, Launch
    from .watchdogs import Bite

POLL_SECONDS = 0.02
LISTEN_AGAIN_SECONDS = 0.5
MIRROR_SECONDS = 30.0
OUTPUT_SECONDS = 5.0
LAST_SECONDS = 60.0
TEXT_CHARS = 2000
NOT_CONFIRMED = "Nobody confirmed this in time."
DENIED = "The user denied this."


def hold(desk: Desk, launch: Launch, events: list[dict[str, Any]]) -> None:
    """From the first prompt, or the place where a runner before stopped, to the end of the process.

    The end is then in the desk's memo. Raise OSError and what cuts the run off (RunnerError); the process is gone then
    too.
    """
    logging.getLogger("claude_agent_sdk").addHandler(logging.NullHandler())  # what matters of it is told in the log
    asyncio.run(Conversation(desk, launch, events).hold())


class Conversation:
    """Its state. All happens in one event loop, looked at every `POLL_SECONDS`."""

    def __init__(self, desk: Desk, launch: Launch, events: list[dict[str, Any]]) -> None:
        self._desk, self._attaches = desk, launch.attaches
        self._record, self._memo, self._limits = desk.record, desk.memo, desk.limits
        self._process, self._stdin = launch.process, launch.stdin
        self._mirror, self._live = Mirror(desk.job), Live(desk.job)
        self._dogs = Watchdogs(desk.limits, desk.memo, self._process)
        self._tap = Tap(desk, launch, self._live, self._dogs.hear)
        self._questions = Questions(
            desk.record, desk.memo, desk.limits.confirmation, self._tap.open_uses, self._is_late
        )
        self._output = Output(self._process.path("stdout"), desk.limits.line_bytes, lambda: not self._process.running())
        self._prompts = sum(message.get("type") == "user" for message in self._stdin.sent())
        self._unheard = events
        self._queue: list[dict[str, Any]] = []
        self._saved = 0
        self._interrupted_at: float | None = None
        self._listening: asyncio.Task[list[dict[str, Any]]] | None = None
        self._listen_at = 0.0
        self._preparing: asyncio.Task[dict[str, Any]] | None = None
        self._prepared_seq = 0
        self._ended_at: float | None = None

    async def hold(self) -> None:
        """See hold()."""
        if not self._attaches:
            self._memo.begin_turn()
        self._client = ClaudeSDKClient(self._options(), self._transport())
        self._connected = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())
        try:
            ending = self._memo.ending
            await self._leave(End(*ending) if ending else await self._converse())
        except BaseException:
            Stop.running(self._process, self._desk.job.grace_seconds).finish(POLL_SECONDS)
            raise
        finally:
            await self._close()

    def _options(self) -> ClaudeAgentOptions:
        return ClaudeAgentOptions(
            can_use_tool=self._may_use,
            session_store=self._mirror,  # type: ignore[arg-type] # with a transport of one's own it needs no more
            session_store_flush="eager",
            env={"CLAUDE_CONFIG_DIR": config_directory()},
        )

    def _transport(self) -> FifoTransport:
        custom = CustomTools(self._desk.agent.custom_tools, self._questions.ask)
        return FifoTransport(self._stdin, self._output, self._tap.take, custom, self._attaches)

    async def _read(self) -> None:
        """Connect, and read until the output ends: as long as it can through the SDK, and the rest without it."""
        if not self._memo.closing and not self._process.ended():
            with contextlib.suppress(Exception):  # the SDK raises plain ones; what they mean shows in the process
                await self._client.connect()
                self._connected.set()
                async for _ in self._client.receive_messages():
                    pass
        async for line in self._output.lines():
            self._tap.take(line)
            if isinstance(line, Line) and line.value.get("type") == "transcript_mirror":
                self._mirror.mirror(line.value)

    async def _converse(self) -> End:
        while True:
            end = self._cut_short() or await self._look()
            if end is not None:
                return end
            await asyncio.sleep(POLL_SECONDS)

    def _cut_short(self) -> End | None:
        """What the run's control says, but for a spent budget: that lets the turn end. Raise the shipper's alarm."""
        verdict = self._desk.control.check()
        if verdict == CANCELLED:
            return End(CANCELLED, STOP)
        if verdict == TIMED_OUT:
            message = f"the run went over {self._desk.job.limit_seconds:g} seconds"
            self._record.error(message, watchdog="turn_overdue")
            return End(TIMED_OUT, STOP, {"type": EXHAUSTED}, {"type": "run_timed_out", "message": message})
        return None

    async def _look(self) -> End | None:
        """One look at everything."""
        self._tap.show()
        self._listen()
        if self._process.ended():
            self._stdin.end()  # the feeder would wait for ever, and hold the streams open
            return self._gone() if self._reading.done() or self._long_ended() else None
        bite = self._dogs.look_at_line(self._output.reader.overlong)
        if bite is not None:
            return self._bitten(bite)
        if not self._tap.replayed(self._output.taken) or not (self._connected.is_set() or self._memo.closing):
            return self._bitten(self._dogs.look_at_start())
        self._hear()
        self._heed_budget()
        self._questions.tick()
        if self._turning():
            self._interrupt_again()
            busy, waiting = bool(self._tap.fold.running_tools), self._questions.waiting()
            return self._overdue_interrupt() or self._bitten(self._dogs.look(busy, waiting))
        self._interrupted_at = None
        self._questions.drop()
        if self._queue and not self._memo.closing and self._memo.budget is None:
            await self._speak()
            return None
        return self._ended() if await self._nothing_waits() else None

    def _turning(self) -> bool:
        """Whether a prompt has no result yet."""
        return bool(self._prompts > self._tap.fold.results)

    def _long_ended(self) -> bool:
        """The CLI is gone, and something that it left behind keeps its output open."""
        self._ended_at = self._ended_at or time.monotonic()
        return time.monotonic() >= self._ended_at + OUTPUT_SECONDS

    def _gone(self) -> End:
        """The CLI has exited by itself."""
        self._hear()
        if self._turning() or not self._prompts:
            written = self._process.exit()
            code = written.code if written else None
            message = f"Claude ended with exit code {code} and without a result. {self._tap.complaint()}".strip()
            return self._fail("claude_ended", message, {})
        return self._ended()

    def _ended(self) -> End:
        """The last turn's end is the run's."""
        return End.of_turn(self._tap.fold.outcome if self._prompts else None, self._is_spent())

    def _is_spent(self) -> bool:
        """Whether the budget stops what is not done: the turn, unless the user had stopped it, or what waits."""
        return self._memo.budget is not None and (bool(self._queue) or self._memo.interrupt_seq <= self._memo.turn_seq)

    def _bitten(self, bite: Bite | None) -> End | None:
        if bite is None:
            return None
        return self._fail(bite.name, bite.message, {"watchdog": bite.name}, bite.status)

    def _fail(self, kind: str, message: str, more: dict[str, str], status: str = "failed") -> End:
        self._record.error(message, **more)
        return End(status, STOP, {"type": EXHAUSTED}, {"type": kind, "message": message})

    def _listen(self) -> None:
        """Fetch what the user said, in the background, when the log has spoken of more than is known."""
        if self._listening is not None:
            if self._listening.done():
                self._listened(self._listening)
        elif self._desk.control.input_seq() > self._desk.inbox.after and time.monotonic() >= self._listen_at:
            self._listening = asyncio.ensure_future(asyncio.to_thread(self._desk.inbox.take))

    def _listened(self, listening: asyncio.Task[list[dict[str, Any]]]) -> None:
        self._listening = None
        self._listen_at = time.monotonic()
        try:
            self._unheard = self._unheard + listening.result()
        except Unavailable:
            self._listen_at += LISTEN_AGAIN_SECONDS

    async def _nothing_waits(self) -> bool:
        """Ask the log once more before the end: it refuses the end of a run that was not told of a message."""
        if self._memo.closing:
            return True
        if self._listening is None:
            self._listening = asyncio.ensure_future(asyncio.to_thread(self._desk.inbox.take))
        await asyncio.wait([self._listening])
        self._listened(self._listening)
        self._hear()
        return not self._queue or self._memo.budget is not None

    def _hear(self) -> None:
        """Act on what the user said, in the order of the log."""
        if not self._unheard:
            return
        events, self._unheard = self._unheard, []
        self._queue += self._desk.unsaid(events)
        for event in events:
            if event["type"] == "user.interrupt":
                self._interrupt(int(event["seq"]))
            elif event["type"] != "user.message":
                self._questions.answer(event)

    def _interrupt(self, seq: int) -> None:
        """Stop the turn; where none is under way, the one that would have been next does not begin."""
        if seq <= self._memo.interrupt_seq:
            return
        self._memo.interrupt_seq = seq
        if self._turning():
            self._stop_turn()
        elif self._queue and int(self._queue[0]["seq"]) < seq:
            self._memo.skipped.append(int(self._queue.pop(0)["seq"]))
        self._memo.save()

    def _interrupt_again(self) -> None:
        """A runner before this one heard the interrupt, and may not have lived to pass it on."""
        if self._attaches and self._interrupted_at is None and self._memo.interrupt_seq > self._memo.turn_seq:
            self._stop_turn()

    def _heed_budget(self) -> None:
        """A spent budget stops the turn as an interrupt does, and nothing more is said to Claude.

        It is noted before it is told: a runner after this one ends the run for the same reason.
        """
        budget = self._desk.control.budget()
        if self._memo.budget is None and budget is not None and (self._turning() or self._queue):
            self._memo.budget = budget
            self._memo.save()
        if self._memo.budget is not None:
            self._record.reached(self._memo.budget)
            if self._turning() and self._interrupted_at is None:
                self._stop_turn()

    def _stop_turn(self) -> None:
        self._interrupted_at = time.monotonic()
        self._asking_to_stop = asyncio.ensure_future(self._ask_to_stop())

    def _is_late(self) -> bool:
        """What is denied now leaves Claude a moment to say so, before the run times out."""
        return self._desk.control.left() < min(LAST_SECONDS, self._desk.job.limit_seconds / 10)

    async def _ask_to_stop(self) -> None:
        with contextlib.suppress(Exception):  # whatever it answers, the clock of the interrupt decides
            await self._client.interrupt()

    def _overdue_interrupt(self) -> End | None:
        since = self._interrupted_at
        if since is None or time.monotonic() < since + self._limits.interrupt:
            return None
        return End.spent(HURRY) if self._is_spent() else End(CANCELLED, HURRY)

    async def _speak(self) -> None:
        """The next message becomes the next turn, once it is prepared; meanwhile it may be interrupted."""
        event = self._queue[0]
        if self._preparing is None:
            self._prepared_seq = int(event["seq"])
            self._preparing = asyncio.ensure_future(self._prepare(event))
        if not self._preparing.done():
            return
        message, self._preparing = self._preparing.result(), None
        if self._prepared_seq != int(event["seq"]):
            return  # that one was taken back
        self._queue.pop(0)
        self._memo.begin_turn(self._prepared_seq)
        self._dogs.heard()
        await self._client.query(_once(message))
        self._prompts += 1

    async def _prepare(self, event: dict[str, Any]) -> dict[str, Any]:
        if self._prompts > self._saved:
            self._saved = self._prompts
            await asyncio.to_thread(self._desk.save_files)
        recalled = () if self._prompts or self._memo.launch > 1 else self._memo.recalled
        return await asyncio.to_thread(prompt, event, self._desk.job.session_id, self._desk.attachments, recalled)

    async def _may_use(
        self, tool: str, _input: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        """The SDK's permission callback: the policy, or a person's answer."""
        decision = self._desk.agent.permission(tool)
        if decision == "allow":
            return PermissionResultAllow()
        if decision == "deny" or not context.tool_use_id:
            return PermissionResultDeny(message=f"{tool} is not enabled in this session.")
        answer = await self._questions.ask(event_id(context.tool_use_id))
        if answer and answer.get("result") == "allow":
            return PermissionResultAllow()
        return PermissionResultDeny(message=(answer.get("deny_message") or DENIED) if answer else NOT_CONFIRMED)

    async def _leave(self, end: End) -> None:
        """End the process as `end` says, keep what is to be kept, and write the end down. Raise OSError."""
        departure = Departure(self._process, self._stdin, self._record, self._desk.job.grace_seconds)
        self._memo.close_input(end.noted())
        self._questions.drop()
        if end.how == ASK:
            await departure.ask(self._limits.exit)
        else:
            await (departure.stop() if end.how == STOP else departure.hurry())
        await asyncio.wait([self._reading], timeout=OUTPUT_SECONDS)
        self._tap.show()
        self._tap.close()
        if end.is_spent:
            self._desk.tell_budget(self._tap.fold.cost_microusd)
        self._questions.tick()
        if self._preparing is not None:
            await asyncio.wait([self._preparing])  # it uses what saving uses
        await self._client.disconnect()  # which hands the rest of the transcript over
        await self._keep_transcript()
        await asyncio.to_thread(self._desk.save_files)
        self._write_down(end)

    async def _keep_transcript(self) -> None:
        if not await asyncio.to_thread(self._mirror.close, MIRROR_SECONDS):
            self._record.say("session.transcript_not_saved", {"reason": "the log did not take it in time"})

    def _write_down(self, end: End) -> None:
        fold, memo = self._tap.fold, self._memo
        outcome = fold.outcome
        cost = memo.cost_microusd + fold.cost_microusd
        turns = memo.turns + fold.results
        text = outcome.text[-TEXT_CHARS:] if outcome else ""
        result = {"stop_reason": end.stop_reason, "turns": turns, "cost_microusd": cost, "text": text}
        hopeless = not self._prompts and end.error is not None
        memo.end_launch([end.status, result, end.error], cost, turns, hopeless)

    async def _close(self) -> None:
        self._reading.cancel()
        busy = [task for task in (self._reading, self._listening, self._preparing) if task is not None]
        await asyncio.gather(*busy, return_exceptions=True)
        await self._client.disconnect()
        self._mirror.close(0)
        self._live.close()
        self._output.reader.close()
        self._stdin.close()
        self._process.close()


async def _once(message: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield message

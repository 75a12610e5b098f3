"""What is there before the CLI starts, and as often as there is something to say to it, the start."""

from __future__ import annotations

import os
import time

from ...control import BUDGET_REACHED, TIMED_OUT
from ...errors import CallFailed, JobInvalid, Unavailable
from ...job import Ending
from ...log import Functions
from ...prctl import adopt_orphans, conceal
from ...process import Process
from ...redact import literal_forms
from . import cli, files, memory, repository, sdk
from .agent import Agent
from .end import END_TURN, FAILED, SUCCEEDED
from .input import Inbox, message_uuid
from .memo import Memo
from .record import Record
from .stdin import Stdin
from .watchdogs import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .. import Run

    T = TypeVar("T")

# By then the first events are in the log, whatever the import of the SDK does to the processor.
FIRST_EVENTS = 2
FIRST_EVENTS_SECONDS = 2.0
RETRY_SECONDS = 0.3
# For the log's word about the budget that the CLI says it has spent.
BUDGET_SECONDS = 2.0


def drive(run: Run) -> Ending:
    """Hold the conversation, or go on with it. Raise JobInvalid, OSError, and what cuts the run off (RunnerError)."""
    desk = Desk(run)
    try:
        return desk.work()
    finally:
        desk.close()


class Launch:
    """One start of the CLI, made now or found again (`attaches`)."""

    def __init__(self, process: Process, stdin: Stdin, attaches: bool) -> None:
        self.process, self.stdin, self.attaches = process, stdin, attaches


class Desk:
    """What the conversation works with."""

    def __init__(self, run: Run) -> None:
        job = run.job
        self.job, self.control = job, run.control
        try:
            self.agent = Agent(job.input["agent"])
            self.limits = Limits(job.input.get("limits") or {})
            after = int(job.input["after_seq"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JobInvalid(f"input: {type(error).__name__}: {error}") from error
        self.forms = literal_forms(job.redact)
        self.adopts = adopt_orphans()
        if job.credentials == "env":
            conceal()  # token and key stay readable in /proc/self/environ otherwise
        self.record, self._spool = Record(run.spool, job.run_id), run.spool
        self.memo = Memo(job.path("claude.json"))
        self.functions = Functions(job)
        # Two threads may ask at once: one for news, one for attachments and files.
        self._news = Functions(job)
        self.inbox = Inbox(self._news, after)
        self.attachments = Inbox(self.functions, after)

    def work(self) -> Ending:
        """Start the CLI as often as there is something to say to it."""
        program = cli.find()
        if program is None or sdk.find() is None:
            return self._lacking()
        while True:
            events = self._take()
            verdict = self._verdict()
            if not self._started() and self._done(verdict, events):
                return self._ended(verdict, events)
            self._prepare()
            launch = self._launch(program)
            self.control.await_shipped(FIRST_EVENTS, FIRST_EVENTS_SECONDS)
            sdk.load()
            from .conversation import hold  # names the SDK's classes

            hold(self, launch, events)

    def close(self) -> None:
        """Drop the connections."""
        self.functions.close()
        self._news.close()

    def unsaid(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages among them that no CLI was given yet."""
        said = {message.get("uuid") for stdin in self._stdins() for message in stdin}
        return [event for event in events if event["type"] == "user.message" and not self._was_said(event, said)]

    def result(self, stop_reason: str, **more: Any) -> dict[str, Any]:
        """A run's result."""
        counts = {"turns": self.memo.turns, "cost_microusd": self.memo.cost_microusd}
        return {"stop_reason": {"type": stop_reason}, **counts, "text": "", **more}

    def save_files(self) -> None:
        """Keep the working directory outside. What does not fit is told, and does no harm to the run."""
        if self.memo.spares_files:
            return
        try:
            files.save(self.functions, self.job.working_directory)
        except files.TooLarge as error:
            self.record.say("sandbox.files_not_saved", {"reason": str(error)})
        except (CallFailed, OSError) as error:
            self.record.say("sandbox.files_not_saved", {"reason": f"{type(error).__name__}: {error}"[:200]})

    def directory(self, launch: int) -> str:
        """Where one start of the CLI has its files."""
        return os.path.join(self.job.path("children"), f"claude-{launch}")

    def _was_said(self, event: dict[str, Any], said: set[Any]) -> bool:
        seq = int(event["seq"])
        return seq in self.memo.skipped or message_uuid(self.job.session_id, seq) in said

    def _stdins(self) -> list[list[dict[str, Any]]]:
        directories = [self.directory(launch) for launch in range(1, self.memo.launch + 1)]
        return [list(_sent(directory)) for directory in directories if os.path.isdir(directory)]

    def _lacking(self) -> Ending:
        message = "the sandbox's template has no Claude Code"
        self.record.error(message)
        return Ending("failed", self.result("retries_exhausted"), {"type": "template_lacks_claude", "message": message})

    def _verdict(self) -> str | None:
        """What keeps the CLI from another start: the run's control, or the run's own budget."""
        return self.control.check() or (BUDGET_REACHED if self.budget_left() == 0 else None)

    def _done(self, verdict: str | None, events: list[dict[str, Any]]) -> bool:
        return self.memo.hopeless or verdict is not None or not self.unsaid(events)

    def _ended(self, verdict: str | None, events: list[dict[str, Any]]) -> Ending:
        """As the last start of the CLI ended, but for what a spent budget leaves unsaid: the next run has to say it."""
        if self.memo.last is None:
            return self._untouched(verdict)
        ending = Ending(*self.memo.last)
        if ending.status == FAILED or verdict != BUDGET_REACHED or not self.unsaid(events):
            return ending
        self.tell_budget()
        return Ending(SUCCEEDED, {**(ending.result or {}), "stop_reason": {"type": BUDGET_REACHED}})

    def tell_budget(self, cost_microusd: int = 0) -> None:
        """Say which budget is spent, as the log has it; `cost_microusd` is what the CLI has cost since its start.

        Where the log finds none spent it is the run's own, which the CLI keeps by itself. Raise OSError.
        """
        if self.memo.budget is None:
            self.control.await_shipped(self._spool.n, BUDGET_SECONDS)
            self.memo.budget = self.control.budget() or self._own_budget(cost_microusd)
            self.memo.save()
        self.record.reached(self.memo.budget)

    def _own_budget(self, cost_microusd: int) -> dict[str, Any]:
        limit = int(self.job.input.get("budget_microusd") or 0)
        return {
            "scope": "run",
            "spent_microusd": self.memo.cost_microusd + cost_microusd,
            "limit_microusd": limit,
        }

    def budget_left(self) -> int | None:
        """What the next start of the CLI may cost, in millionths of a dollar; None without a limit."""
        budget = self.job.input.get("budget_microusd")
        return None if budget is None else max(0, int(budget) - self.memo.cost_microusd)

    def _untouched(self, verdict: str | None) -> Ending:
        """The end of a run in which nothing was said to Claude."""
        if verdict == TIMED_OUT:
            message = f"the run went over {self.job.limit_seconds:g} seconds"
            return Ending(TIMED_OUT, self.result("retries_exhausted"), {"type": "run_timed_out", "message": message})
        if verdict == BUDGET_REACHED:
            self.tell_budget()
            return Ending(SUCCEEDED, self.result(BUDGET_REACHED))
        return Ending(verdict or SUCCEEDED, self.result(END_TURN))

    def _take(self) -> list[dict[str, Any]]:
        """The user's events since the run was admitted. Waits for the log, unless the run is cut short."""
        self.inbox = Inbox(self._news, int(self.job.input["after_seq"]))
        return self._insist(self.inbox.take) or []

    def _started(self) -> bool:
        return os.path.exists(os.path.join(self.directory(self.memo.launch), "wrapper"))

    def _prepare(self) -> None:
        """Once per run: what the sandbox lacks of the session."""
        if self.memo.prepared:
            return
        os.makedirs(self.job.working_directory, exist_ok=True)
        told = map(self.record.told, ("sandbox.files_restored", "sandbox.files_lost"))
        if self.job.input.get("fresh") and not any(told):
            self._bring_files_back()
        repository.clone_all(self.job.input.get("resources") or [], self.record, self.control.check)
        if self.job.input.get("resume"):
            self._restore_transcript()
        if self.job.input.get("lost_after_seq") is not None:
            self.memo.recalled = self._recall(int(self.job.input["lost_after_seq"]))
        self.memo.prepared = True
        self.memo.save()

    def _bring_files_back(self) -> None:
        told = self._insist(lambda: files.bring_back(self.functions, self.job.working_directory))
        if told is None:
            self.memo.spares_files = True
        else:
            self.memo.spares_files = files.left_behind(*told)
            self.record.say(*told)

    def _restore_transcript(self) -> None:
        config = cli.config_directory()
        if memory.local_transcript(config, self.job.session_id) is not None:
            return
        self.control.await_shipped(FIRST_EVENTS, FIRST_EVENTS_SECONDS)
        sdk.load()
        from claude_agent_sdk import project_key_for_directory

        project = os.path.join(config, "projects", project_key_for_directory(self.job.working_directory))
        self._insist(lambda: memory.restore(self.functions, self.job.session_id, project))

    def _recall(self, after: int) -> list[dict[str, Any]]:
        """What a lost run was told, and Claude's transcript does not have."""
        transcript = memory.local_transcript(cli.config_directory(), self.job.session_id)
        heard = memory.uuids(transcript) if transcript else set()
        told = self._insist(Inbox(self.functions, after).take) or []
        until, session_id = int(self.job.input["after_seq"]), self.job.session_id
        messages = [event for event in told if event["type"] == "user.message" and int(event["seq"]) <= until]
        return [event for event in messages if message_uuid(session_id, int(event["seq"])) not in heard]

    def _insist(self, ask: Callable[[], T]) -> T | None:
        """The log's answer, waited for. None when the run was cut short meanwhile."""
        while True:
            try:
                return ask()
            except Unavailable:
                if self.control.check() is not None:
                    return None
                time.sleep(RETRY_SECONDS)

    def _launch(self, program: str) -> Launch:
        directory, attaches = self.directory(self.memo.launch), self._started()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not attaches and self.memo.budget is not None:
            self.memo.budget = None  # it was raised
            self.memo.save()
        stdin = Stdin(directory)
        resumes = memory.local_transcript(cli.config_directory(), self.job.session_id) is not None
        start = cli.invocation(self.job, self.agent, program, directory, resumes, self.budget_left())
        name = os.path.basename(directory)
        process = Process.open(self.job, name, start.command, self.adopts, start.environment)
        return Launch(process, stdin, attaches)


def _sent(directory: str) -> list[dict[str, Any]]:
    stdin = Stdin(directory)
    try:
        return list(stdin.sent())
    finally:
        stdin.close()

"""A plan of commands, one after the other.

A command that fails is tried up to three times when it is `retryable`, and then the plan goes on; one that is not ends
the plan. Where the plan stands is a fold over the spool's events and nothing else, so a restart reads it from there.

`command.completed` comes once per command and speaks of the last attempt. The output limit holds per attempt, for both
streams together.

A budget that is spent ends the command under way, and the plan. Once `budget.reached` is spooled this holds for good,
whatever later answers say.
"""

from __future__ import annotations

from ..control import BUDGET_REACHED, CANCELLED, TIMED_OUT
from ..errors import JobInvalid
from ..job import Ending
from ..output import Tail
from ..prctl import adopt_orphans, conceal
from ..process import Process
from ..redact import Redactor, literal_forms, redact_text
from ..stop import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import Run

ATTEMPTS = 3
RETRY_FIRST_SECONDS = 0.5
# How soon new output is seen. The end of a command is seen at once.
POLL_SECONDS = 0.02
STREAMS = ("stdout", "stderr")
_SIGNALS = range(129, 193)


class Command:
    """One entry of the plan."""

    def __init__(self, raw: dict[str, Any]) -> None:
        """Raise JobInvalid."""
        try:
            self.command = str(raw["command"])
            self.timeout = float(raw["timeout"])
            self.retryable = bool(raw.get("retryable", False))
        except (KeyError, TypeError, ValueError) as error:
            raise JobInvalid(f"input: {type(error).__name__}: {error}") from error


class Progress:
    """Where the plan stands."""

    def __init__(self) -> None:
        self.index = 0
        self.attempt = 1
        self.running = False
        self.offsets = dict.fromkeys(STREAMS, 0)
        self.failed = 0
        self.last: dict[str, Any] = {}
        self.budget: dict[str, Any] | None = None

    def fold(self, kind: str, data: dict[str, Any]) -> None:
        """Take in one event."""
        if kind == "command.started":
            self.running, self.attempt = True, data["attempt"]
            self.offsets = dict.fromkeys(STREAMS, 0)
        elif kind == "command.output":
            self.offsets[data["stream"]] = data["offset"] + data["bytes"]
        elif kind == "command.retrying":
            self.running, self.attempt = False, data["attempt"] + 1
        elif kind == "command.completed":
            self.running, self.attempt = False, 1
            self.index += 1
            self.failed += _failed(data)
            self.last = data
        elif kind == "budget.reached":
            self.budget = data


class Outcome:
    """How an attempt went; `cut_short` says why it was ended, if it was.

    That is cancelled, timed_out (the run), budget_reached or timeout.
    """

    def __init__(self, process: Process, cut_short: str | None, tails: dict[str, Tail]) -> None:
        written = process.exit()
        self.exit_code = written.code if written else None
        self.milliseconds = round(process.seconds() * 1000)
        self.cut_short = cut_short
        self.sizes = {stream: tail.size() for stream, tail in tails.items()}
        self.truncated = any(tail.offset < tail.size() for tail in tails.values())

    def failed(self) -> bool:
        """Whether the attempt did not succeed."""
        return self.exit_code != 0 or self.cut_short is not None

    def completed(self, index: int, attempts: int) -> dict[str, Any]:
        """The data of command.completed. `signal` as a shell says it: the exit code less 128."""
        data: dict[str, Any] = {"index": index, "exit_code": self.exit_code}
        if self.exit_code in _SIGNALS:
            data["signal"] = (self.exit_code or 0) - 128
        data.update(
            duration_ms=self.milliseconds, attempts=attempts, timed_out=self.cut_short in ("timeout", TIMED_OUT)
        )
        if self.cut_short == CANCELLED:
            data["cancelled"] = True
        elif self.cut_short == BUDGET_REACHED:
            data["budget_reached"] = True
        data.update(bytes=self.sizes, truncated=self.truncated)
        return data


def drive(run: Run) -> Ending:
    """Run the plan, or the rest of it. Raise JobInvalid, OSError, and what cuts the run off (RunnerError)."""
    return _Plan(run).run()


class _Plan:
    def __init__(self, run: Run) -> None:
        self._job, self._spool, self._control = run.job, run.spool, run.control
        self._commands = [Command(raw) for raw in run.job.input.get("commands", ())]
        self._forms = literal_forms(run.job.redact)
        self._adopts = adopt_orphans()
        if run.job.credentials == "env":
            conceal()  # the token stays readable in /proc/self/environ otherwise
        self._progress = Progress()
        for event in run.spool.events():
            self._progress.fold(event["type"], event["data"])

    def run(self) -> Ending:
        while (ending := self._ending()) is None:
            command = self._commands[self._progress.index]
            if not self._progress.running:
                self._emit("command.started", self._started(command))
            outcome = self._attempt(command)
            if self._tries_again(command, outcome):
                self._retry(outcome)
            else:
                self._emit("command.completed", outcome.completed(self._progress.index, self._progress.attempt))
        return ending

    def _ending(self) -> Ending | None:
        """The run's end, when the plan has come to it. A command under way is always seen to its own end first."""
        progress, last = self._progress, self._progress.last
        if progress.running:
            return None
        result = {"commands": len(self._commands), "completed": progress.index, "failed": progress.failed}
        if last.get("cancelled"):
            return Ending(CANCELLED, result)
        if last.get("timed_out") and self._control.check() == TIMED_OUT:
            return self._late(result)
        if last.get("budget_reached"):
            return self._spent(result)
        if last and _failed(last) and not self._commands[progress.index - 1].retryable:
            told = {key: last[key] for key in ("index", "exit_code", "timed_out")}
            message = f"command {last['index']} failed"
            return Ending("failed", result, {"type": "command_failed", "message": message, **told})
        if progress.index == len(self._commands):
            return Ending("succeeded", result)
        return self._cut_off(result)

    def _cut_off(self, result: dict[str, Any]) -> Ending | None:
        """The end of a plan with commands left."""
        verdict = self._check()
        if verdict == BUDGET_REACHED:
            return self._spent(result)
        return self._late(result) if verdict == TIMED_OUT else Ending(verdict, result) if verdict else None

    def _check(self) -> str | None:
        """What the control says, with a spent budget told before anything is ended for it."""
        verdict, budget = self._control.check(), self._control.budget()
        if self._progress.budget is not None:
            return BUDGET_REACHED
        if verdict in (CANCELLED, TIMED_OUT) or budget is None:
            return verdict if verdict != BUDGET_REACHED else None  # raised between the two looks
        self._emit("budget.reached", budget)
        return BUDGET_REACHED

    def _spent(self, result: dict[str, Any]) -> Ending:
        budget = self._progress.budget or {"scope": "run"}
        message = f"the budget of the {budget['scope']} is spent"
        stopped = {"stop_reason": {"type": BUDGET_REACHED}, **result}
        return Ending("failed", stopped, {"type": BUDGET_REACHED, "message": message})

    def _late(self, result: dict[str, Any]) -> Ending:
        message = f"the run went over {self._job.limit_seconds:g} seconds"
        return Ending(TIMED_OUT, result, {"type": "run_timed_out", "message": message})

    def _started(self, command: Command) -> dict[str, Any]:
        text = redact_text(command.command, self._forms)
        timeout = int(command.timeout) if command.timeout.is_integer() else command.timeout
        progress = self._progress
        return {"index": progress.index, "command": text, "attempt": progress.attempt, "timeout_seconds": timeout}

    def _attempt(self, command: Command) -> Outcome:
        """Start or find the process and follow it to its end; whatever happens here, none of it is left running."""
        progress = self._progress
        name = f"{progress.index}-{progress.attempt}"
        process = Process.open(self._job, name, command.command, self._adopts)
        tails = {
            stream: Tail(process.path(stream), stream, progress.offsets[stream], Redactor(self._forms))
            for stream in STREAMS
        }
        try:
            return Outcome(process, self._follow(process, command, tails), tails)
        except BaseException:
            Stop.running(process, self._job.grace_seconds).finish(POLL_SECONDS)
            raise
        finally:
            process.close()
            for tail in tails.values():
                tail.close()

    def _follow(self, process: Process, command: Command, tails: dict[str, Tail]) -> str | None:
        """Ship the output until the process and all it started are gone; say why it was cut short, if it was."""
        # A runner before this one may have ended the command for the budget, and not lived to say so.
        stop, cut_short = None, BUDGET_REACHED if self._progress.budget is not None else None
        while stop is None or not stop.step():
            process.wait(POLL_SECONDS)
            self._ship(tails, final=False)
            if stop is None and (process.exit() is not None or not process.running()):
                stop = Stop.leftovers(process)
            elif stop is None and (cut_short := self._verdict(process, command)):
                stop = Stop.running(process, self._job.grace_seconds)
        self._ship(tails, final=True)
        return cut_short

    def _verdict(self, process: Process, command: Command) -> str | None:
        return self._check() or ("timeout" if process.seconds() >= command.timeout else None)

    def _ship(self, tails: dict[str, Tail], final: bool) -> None:
        """Spool what is due of both streams, within the attempt's limit."""
        for tail in tails.values():
            while True:
                allowance = self._job.output_limit_bytes - sum(tail.offset for tail in tails.values())
                data = tail.read(allowance, final)
                if data is None:
                    break
                self._emit("command.output", {"index": self._progress.index, "attempt": self._progress.attempt, **data})

    def _tries_again(self, command: Command, outcome: Outcome) -> bool:
        ended = outcome.cut_short in (CANCELLED, TIMED_OUT, BUDGET_REACHED)
        return outcome.failed() and command.retryable and not ended and self._progress.attempt < ATTEMPTS

    def _retry(self, outcome: Outcome) -> None:
        """A restart in the middle of the delay goes on without the rest of it."""
        progress = self._progress
        index, attempt = progress.index, progress.attempt
        seconds = RETRY_FIRST_SECONDS * 2 ** (attempt - 1)
        told = {"index": index, "attempt": attempt, "exit_code": outcome.exit_code, "delay_ms": round(seconds * 1000)}
        self._emit("command.retrying", told)
        self._control.sleep(seconds)

    def _emit(self, kind: str, data: dict[str, Any]) -> None:
        self._spool.append(kind, data)
        self._progress.fold(kind, data)


def _failed(completed: dict[str, Any]) -> bool:
    cut_short = completed["timed_out"] or completed.get("cancelled") or completed.get("budget_reached")
    return bool(completed["exit_code"] != 0 or cut_short)

"""One attempt of one step: its process, its output on the way to the log, and why it was ended, if it was.

The output limit holds per attempt, for both streams together.
"""

from __future__ import annotations

from ..control import BUDGET_REACHED, CANCELLED, TIMED_OUT
from ..output import Tail
from ..process import Process
from ..redact import Redactor, redact_text
from ..stop import Stop
from .progress import STREAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..job import Job
    from .progress import Progress

ATTEMPTS = 3
RETRY_FIRST_SECONDS = 0.5
_SIGNALS = range(129, 193)


class Step:
    """One command of a plan."""

    def __init__(
        self,
        index: int,
        command: str,
        timeout_seconds: float,
        retryable: bool = False,
        needs: Sequence[int] = (),
        tolerant: bool = False,
    ) -> None:
        """`needs` are the indexes of the steps that it waits for.

        They have to succeed; one that is `tolerant` has only to come to its end.
        """
        self.index = index
        self.command = command
        self.timeout_seconds = float(timeout_seconds)
        self.retryable = retryable
        self.needs = tuple(needs)
        self.tolerant = tolerant


class Attempt:
    """To be advanced until it is over, then told, then closed."""

    def __init__(self, job: Job, progress: Progress, step: Step, forms: list[bytes]) -> None:
        """Start the process, or find it again. Raise OSError."""
        self.step = step
        self._job, self._progress = job, progress
        self._place = progress.place(step.index)
        # A runner before this one may have ended the command for the budget, and not lived to say so.
        self._cut_short = BUDGET_REACHED if progress.budget is not None else None
        self._stop: Stop | None = None
        self.process = Process.open(job, f"{step.index}-{self._place.attempt}", step.command)
        self._tails = {
            stream: Tail(self.process.path(stream), stream, self._place.offsets[stream], Redactor(forms))
            for stream in STREAMS
        }

    def advance(self) -> bool:
        """Ship what is due, and end what has to end. True when the process and all it started are gone."""
        self._ship(final=False)
        if self._stop is None:
            self._stop = self._due_stop()
        if self._stop is None or not self._stop.step():
            return False
        self._ship(final=True)
        return True

    def quit(self) -> None:
        """From now on it only has to end; see gone()."""
        self._stop = Stop.running(self.process, self._job.grace_seconds)

    def gone(self) -> bool:
        """A step towards the end, with nothing said of it."""
        return self._stop is not None and self._stop.step()

    def close(self) -> None:
        """Give back what the runner holds of it."""
        self.process.close()
        for tail in self._tails.values():
            tail.close()

    def tell(self) -> None:
        """Say how it went: that it is tried again, or that the step is completed."""
        written = self.process.exit()
        exit_code = written.code if written else None
        if self._tries_again(exit_code):
            self._retry(exit_code)
        else:
            self._progress.emit("command.completed", self._completed(exit_code))

    def _due_stop(self) -> Stop | None:
        if self.process.ended():
            return Stop.leftovers(self.process)
        self._cut_short = self._verdict()
        return Stop.running(self.process, self._job.grace_seconds) if self._cut_short else None

    def _verdict(self) -> str | None:
        return self._progress.check() or ("timeout" if self.process.seconds() >= self.step.timeout_seconds else None)

    def _ship(self, final: bool) -> None:
        """Spool what is due of both streams, within the attempt's limit."""
        for tail in self._tails.values():
            while True:
                allowance = self._job.output_limit_bytes - sum(tail.offset for tail in self._tails.values())
                data = tail.read(allowance, final)
                if data is None:
                    break
                about = {"index": self.step.index, "attempt": self._place.attempt}
                self._progress.emit("command.output", {**about, **data})

    def _tries_again(self, exit_code: int | None) -> bool:
        ended = self._cut_short in (CANCELLED, TIMED_OUT, BUDGET_REACHED)
        failed = exit_code != 0 or self._cut_short is not None
        return failed and self.step.retryable and not ended and self._place.attempt < ATTEMPTS

    def _retry(self, exit_code: int | None) -> None:
        attempt = self._place.attempt
        seconds = RETRY_FIRST_SECONDS * 2 ** (attempt - 1)
        told = {"index": self.step.index, "attempt": attempt, "exit_code": exit_code}
        self._progress.emit("command.retrying", {**told, "delay_ms": round(seconds * 1000)})
        self._place.delay(seconds)

    def _completed(self, exit_code: int | None) -> dict[str, Any]:
        """The data of command.completed. `signal` as a shell says it: the exit code less 128."""
        data: dict[str, Any] = {"index": self.step.index, "exit_code": exit_code}
        if exit_code in _SIGNALS:
            data["signal"] = (exit_code or 0) - 128
        timed_out = self._cut_short in ("timeout", TIMED_OUT)
        milliseconds = round(self.process.seconds() * 1000)
        data.update(duration_ms=milliseconds, attempts=self._place.attempt, timed_out=timed_out)
        if self._cut_short == CANCELLED:
            data["cancelled"] = True
        elif self._cut_short == BUDGET_REACHED:
            data["budget_reached"] = True
        sizes = {stream: tail.size() for stream, tail in self._tails.items()}
        data.update(bytes=sizes, truncated=any(tail.offset < tail.size() for tail in self._tails.values()))
        return data


def started(step: Step, attempt: int, forms: list[bytes]) -> dict[str, Any]:
    """The data of command.started."""
    seconds = step.timeout_seconds
    timeout = int(seconds) if seconds.is_integer() else seconds
    text = redact_text(step.command, forms)
    return {"index": step.index, "command": text, "attempt": attempt, "timeout_seconds": timeout}


def failed(completed: dict[str, Any]) -> bool:
    """Whether a step did not succeed, by the data of its command.completed."""
    cut_short = completed["timed_out"] or completed.get("cancelled") or completed.get("budget_reached")
    return bool(completed["exit_code"] != 0 or cut_short)

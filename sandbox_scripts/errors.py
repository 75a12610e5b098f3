"""What can go wrong in the runner, drawn once, and how that shows in the process's exit code.

| exit code | meaning |
|---|---|
| 0 | the run's end stands in the log: succeeded, failed, cancelled or timed_out |
| 1 | the runner itself failed and could not say so to the log |
| 2 | the job file is missing or unusable |
| 3 | superseded: the log refused this run token (401, 403); children ended, nothing written since |
| 4 | the run had been ended by someone else (409 run_finished); children ended |
| 5 | another runner of this job is alive and keeps it |

    RunnerError
    ├── JobInvalid        the job file cannot be used
    ├── RunnerBusy        another runner of this job holds its directory
    ├── SpoolDamaged      the spool is not what this runner wrote
    ├── SpoolLost         the log holds more events than the spool: this disk has forgotten some
    ├── Superseded        the token of this run and epoch is no longer good
    ├── RunFinished       the run is over for the log
    └── CallFailed        one call to the log
        ├── Unavailable   worth repeating
        ├── Refused       this body will never be taken
        ├── EventsMissing finish came before the events it counts
        └── InputPending  finish came while a message waits for this run
"""

from __future__ import annotations

EXIT_ENDED = 0
EXIT_BROKEN = 1
EXIT_JOB_INVALID = 2
EXIT_SUPERSEDED = 3
EXIT_RUN_FINISHED = 4
EXIT_BUSY = 5


class RunnerError(Exception):
    """Everything the runner raises on purpose; `exit_code` is the process's when it reaches the edge."""

    exit_code = EXIT_BROKEN


class JobInvalid(RunnerError):
    """The job file cannot be read or lacks a field."""

    exit_code = EXIT_JOB_INVALID


class RunnerBusy(RunnerError):
    """Another runner of this job is alive."""

    exit_code = EXIT_BUSY


class SpoolDamaged(RunnerError):
    """The spool's last whole line does not carry the number of lines."""


class SpoolLost(RunnerError):
    """The log holds events that the spool has not."""


class Superseded(RunnerError):
    """The log refused the run token: a newer epoch writes now, or the token expired."""

    exit_code = EXIT_SUPERSEDED


class RunFinished(RunnerError):
    """The log says that the run is over."""

    exit_code = EXIT_RUN_FINISHED


class CallFailed(RunnerError):
    """One call to the log did not succeed."""


class Unavailable(CallFailed):
    """No usable answer; `retry_after` is the number of seconds the server asked for, if it did."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(CallFailed):
    """The body is refused for what it is (400, 413, 422)."""


class EventsMissing(CallFailed):
    """The log holds only `last_n` of the events that finish counted on."""

    def __init__(self, last_n: int) -> None:
        super().__init__(f"the log holds events up to {last_n}")
        self.last_n = last_n


class InputPending(CallFailed):
    """The run may not end yet: the session holds a message that no runner has taken."""

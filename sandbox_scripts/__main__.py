"""The runner, from top to bottom: job, log, driver, end, exit code. `python3 -I runner.pyz job.json`.

What is imported here, and by what is imported here, delays the first event: nothing of the standard library that is
written in Python, but `os` and `threading`.
The exit codes stand in errors.py.
"""

from __future__ import annotations

import os
import sys

from .errors import EXIT_BROKEN, EXIT_ENDED, JobInvalid, RunFinished, RunnerError, SpoolLost, Superseded
from .job import Ending, Job, Lock, State
from .log import Log
from .ship import CONVERSATION_HEARTBEAT_SECONDS, HEARTBEAT_SECONDS, Shipper
from .spool import Spool

# The shipping thread gets its turn while the main thread imports the driver.
SWITCH_SECONDS = 0.0005


def main() -> int:
    """Run the job named on the command line and return the process's exit code."""
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        job = Job.load(sys.argv[1] if len(sys.argv) == 2 else "job.json")
        with Lock(job):
            return _run(job)
    except RunnerError as error:
        _complain(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 the edge of the process
        _complain(error)
        return EXIT_BROKEN


def _run(job: Job) -> int:
    """Begin or continue the run; return when its end stands in the log. Raise Superseded, RunFinished, OSError."""
    state = State(job.path("state"))
    spool = Spool(job.path("spool.ndjson"))
    restarted = spool.n > 0 or job.epoch > 1
    heartbeat = CONVERSATION_HEARTBEAT_SECONDS if job.kind == "claude" else HEARTBEAT_SECONDS
    shipper = Shipper(spool, Log(job), job.path("doorbell"), heartbeat)
    if state.ending is None:
        _announce(job, spool)
    shipper.start(restarted, state.ending)
    while not shipper.finish(state.ending or state.decide(_drive(job, spool, shipper, state))):
        state.go_on()
    return EXIT_ENDED


def _announce(job: Job, spool: Spool) -> None:
    """The first two events; or, after a restart, the one that says so."""
    if spool.n < 1:
        name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
        python = ".".join(map(str, sys.version_info[:3]))
        spool.append("run.started", {"runner": name, "epoch": job.epoch, "python": python})
    if spool.n < 2:
        spool.append("session.status_running", {})
    else:
        spool.append("run.resumed", {"epoch": job.epoch, "n": spool.n})


def _drive(job: Job, spool: Spool, shipper: Shipper, state: State) -> Ending:
    """Let the driver of this kind work until its end, and make an end of whatever goes wrong in it."""
    from .control import Control  # while the first event travels
    from .drivers import Run, load

    control = Control(shipper, state.started + job.limit_seconds)
    control.listen()
    if job.epoch > 1:
        shipper.await_answer()  # a disk that has forgotten the run must not run it again
    try:
        control.check()
        return load(job.kind)(Run(job, spool, control))
    except (Superseded, RunFinished):
        shipper.close()
        raise
    except JobInvalid as error:
        return Ending("failed", error={"type": "job_invalid", "message": str(error)})
    except SpoolLost as error:
        return Ending("failed", error={"type": "spool_lost", "message": str(error)})
    except Exception as error:  # noqa: BLE001 a driver's defect ends the run, and the log says so
        _complain(error)
        return Ending("failed", error={"type": "runner_error", "message": f"{type(error).__name__}: {error}"[:500]})


def _complain(error: Exception) -> None:
    """To stderr, which functions keeps: all there is when the log cannot be reached."""
    try:  # noqa: SIM105 contextlib is not worth its import before the first event
        sys.stderr.write(f"sandstream runner: {type(error).__name__}: {error}\n")
    except (OSError, ValueError, AttributeError):
        pass  # nobody may be listening any more


if __name__ == "__main__":
    sys.exit(main())

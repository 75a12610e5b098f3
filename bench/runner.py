"""The runner by itself: `python -m bench.runner start | events [N]`.

`start`: exec to first event at the log, against a bare interpreter and two round trips of 25 ms, in turns: for a plan,
and for a conversation (there it is session.status_running, with a CLI that costs nothing).
`events`: CPU per event through spool and shipper, and resident memory while N events pass (default 1,000,000).
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from functions.bundle import START, build
from tests.runner.log_server import LogServer
from tests.runner.session_server import SessionLog
from tests.runner.talk import Talk

ROOT = Path(__file__).resolve().parents[1]
PYTHON = os.environ.get("RUNNER_PYTHON", sys.executable)
ROUND_TRIP_SECONDS = 0.025
STATUS_RUNNING = 2


def runner(target: Path) -> Path:
    """The runner as the endpoints upload it."""
    target.write_bytes(build().content)
    return target


def job(directory: Path, url: str) -> str:
    """A job with one command."""
    path = directory / "job.json"
    fields = {
        "version": 1, "run_id": "run", "session_id": "session", "epoch": 1, "kind": "commands", "limit_seconds": 60,
        "supabase_url": url, "publishable_key": "key", "ended_url": "", "credentials": "egress", "redact": [],
        "output_limit_bytes": 1 << 20, "working_directory": str(directory),
        "input": {"commands": [{"command": "true", "timeout": 10, "retryable": False}]},
    }  # fmt: skip
    path.write_text(json.dumps(fields))
    return str(path)


def first_event(pyz: Path) -> float:
    """Seconds from exec to the arrival of the first append at the log."""
    with tempfile.TemporaryDirectory() as name, LogServer(delay=0) as log:
        path = job(Path(name), log.url)
        began = time.monotonic()
        child = subprocess.Popen([PYTHON, *START, str(pyz), path])
        log.wait(lambda: bool(log.calls))
        seconds = log.calls[0].at - began
        child.wait()
        return seconds


def first_of_conversation(pyz: Path) -> float:
    """Seconds from exec to the arrival of session.status_running, the second event, at the log."""
    with tempfile.TemporaryDirectory() as name, SessionLog() as log:
        talk = Talk(Path(name), log)
        talk.fake()
        path = str(talk.prepare())
        log.message("hello")
        environment = {"HOME": str(talk.home), "PATH": f"{talk.bin}:/usr/bin:/bin"}
        began = time.monotonic()
        child = subprocess.Popen([PYTHON, *START, str(pyz), path], env=environment)
        log.wait(lambda: log.last_n >= STATUS_RUNNING)
        seconds = next(call.at for call in log.called("append_events_v1") if STATUS_RUNNING in call.numbers()) - began
        child.wait()
        return seconds


def bare() -> float:
    """Seconds of `python3 -I -S -c pass`."""
    began = time.monotonic()
    subprocess.run([PYTHON, "-I", "-S", "-c", "pass"], check=True)
    return time.monotonic() - began


def start(turns: int = 20) -> None:
    """Print the medians and the ratios of DESIGN's budget."""
    with tempfile.TemporaryDirectory() as name:
        pyz = runner(Path(name) / "runner.pyz")
        rows = [(bare(), first_event(pyz), first_of_conversation(pyz)) for _ in range(turns)]
    base, *ours = (statistics.median(column) for column in zip(*rows, strict=True))
    trips = 2 * ROUND_TRIP_SECONDS
    say(f"bare interpreter {base * 1e3:.1f} ms; with two round trips of 25 ms {(base + trips) * 1e3:.1f} ms")
    for kind, first in zip(("plan", "conversation"), ours, strict=True):
        all_in, ratio = (first + trips) * 1e3, (first + trips) / (base + trips)
        say(f"{kind}: exec to first event {first * 1e3:.1f} ms; with the round trips {all_in:.1f} ms: {ratio:.2f}")


PUMP = """
import os, resource, sys
from sandbox_scripts.job import Ending, Job
from sandbox_scripts.log import Log
from sandbox_scripts.ship import Shipper
from sandbox_scripts.spool import Spool

job = Job.load(sys.argv[1])
spool = Spool(job.path("spool.ndjson"))
shipper = Shipper(spool, Log(job), job.path("doorbell"))
shipper.start(False)
data = {"index": 0, "attempt": 1, "stream": "stdout", "text": "a line of ordinary output\\n", "offset": 0, "bytes": 26}

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024

before = sum(os.times()[:2])
for n in range(1, int(sys.argv[2]) + 1):
    spool.append("command.output", data)
    if n % (int(sys.argv[2]) // 10) == 0:
        sys.stdout.write(f"{n} events {resident()} KiB resident\\n")
shipper.finish(Ending("succeeded"))
cpu = (sum(os.times()[:2]) - before) / int(sys.argv[2]) * 1e6
with open("/proc/self/status") as file:
    peak = file.read().partition("VmHWM:")[2].split()[0]
sys.stdout.write(f"{cpu:.1f} us CPU per event, {resident()} KiB at the end, peak {peak} KiB\\n")
"""


def events(count: int) -> None:
    """Print memory along the way, and CPU per event."""
    with tempfile.TemporaryDirectory() as name, LogServer(keep=False) as log:
        subprocess.run([PYTHON, "-c", PUMP, job(Path(name), log.url), str(count)], check=True, cwd=ROOT)
        say(f"the log holds {log.last_n}")


def say(line: str) -> None:
    """A line of the report."""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.argv[1] == "start":
        start()
    else:
        events(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)

"""The runner by itself: `python -m bench.runner start [--no-site] | events [N]`.

`start`: exec to first event at the log, against a bare interpreter and two round trips of 25 ms, in turns.
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

from functions.bundle import build
from tests.runner.log_server import LogServer

ROOT = Path(__file__).resolve().parents[1]
PYTHON = os.environ.get("RUNNER_PYTHON", sys.executable)
ROUND_TRIP_SECONDS = 0.025


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
        child = subprocess.Popen([PYTHON, "-I", *(["-S"] if "--no-site" in sys.argv else []), str(pyz), path])
        log.wait(lambda: bool(log.calls))
        seconds = log.calls[0].at - began
        child.wait()
        return seconds


def bare() -> float:
    """Seconds of `python3 -I -S -c pass`."""
    began = time.monotonic()
    subprocess.run([PYTHON, "-I", "-S", "-c", "pass"], check=True)
    return time.monotonic() - began


def start(turns: int = 20) -> None:
    """Print the medians and the ratio of DESIGN's budget."""
    with tempfile.TemporaryDirectory() as name:
        pyz = runner(Path(name) / "runner.pyz")
        pairs = [(bare(), first_event(pyz)) for _ in range(turns)]
    base, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    trips = 2 * ROUND_TRIP_SECONDS
    say(f"bare {base * 1e3:.1f} ms, exec to first event {ours * 1e3:.1f} ms without the network; with two round trips")
    say(f"of 25 ms: {(ours + trips) * 1e3:.1f} / {(base + trips) * 1e3:.1f} ms = {(ours + trips) / (base + trips):.2f}")


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

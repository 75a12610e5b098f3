"""A job directory, a log to ship to, and the runner as a real process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_scripts.job import Job
from sandbox_scripts.log import Functions
from sandbox_scripts.process import Process
from sandbox_scripts.procfs import DEAD_STATES, all_processes, read_environ, read_stat
from tests.runner.log_server import LogServer

if TYPE_CHECKING:
    from tests.runner.inquiry import Inquiry
    from tests.runner.model_server import ModelServer
    from tests.runner.plans import PlansBench
    from tests.runner.session_server import SessionLog
    from tests.runner.talk import Talk

ROOT = Path(__file__).resolve().parents[2]
RUNNER_PYTHON = os.environ.get("RUNNER_PYTHON", sys.executable)

Open = Callable[[str], Process]


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The condition's first true value. Raise TimeoutError when it does not come."""
    give_up, pause = time.monotonic() + seconds, 0.005
    while not (value := condition()):
        if time.monotonic() > give_up:
            raise TimeoutError("the condition never held")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)
    return value


def command(text: str, timeout: float = 20, retryable: bool = False) -> dict[str, Any]:
    """An entry of a plan."""
    return {"command": text, "timeout": timeout, "retryable": retryable}


class Bench:
    """One run: its directory, its log, and the runner started on it as often as a test likes."""

    program: tuple[str, ...] = ("-m", "sandbox_scripts")

    def __init__(self, directory: Path, log: LogServer) -> None:
        self.directory, self.log = directory, log
        self.run_id = f"run-{uuid.uuid4().hex}"
        self.home = directory / "home"
        self.home.mkdir()
        self.runners: list[subprocess.Popen[bytes]] = []

    def job(self, *commands: dict[str, Any], **fields: Any) -> Path:
        """Write the job file."""
        job = {
            "version": 1,
            "run_id": self.run_id,
            "session_id": "session",
            "epoch": 1,
            "kind": "commands",
            "limit_seconds": 60,
            "supabase_url": self.log.url,
            "publishable_key": "sb_publishable_test",
            "ended_url": f"{self.log.url}/v1/runs/{self.run_id}/ended",
            "credentials": "egress",
            "output_limit_bytes": 1 << 20,
            "working_directory": str(self.home),
            "redact": [],
            "grace_seconds": 0.3,
            "input": {"commands": list(commands)},
            **fields,
        }
        path = self.directory / "job.json"
        path.write_text(json.dumps(job))
        return path

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the runner on the job."""
        with (self.directory / "runner.err").open("ab") as errors:
            runner = subprocess.Popen(
                [RUNNER_PYTHON, *self.program, str(self.directory / "job.json")],
                cwd=ROOT,
                env={**os.environ, **environment},
                stderr=errors,
            )
        self.runners.append(runner)
        return runner

    def finish(self, runner: subprocess.Popen[bytes] | None = None, seconds: float = 40) -> int:
        """Wait for the runner (a new one, if none is given) and return its exit code."""
        return (runner or self.start()).wait(seconds)

    def kill(self, runner: subprocess.Popen[bytes]) -> None:
        """SIGKILL: the runner gets no chance to say anything."""
        runner.send_signal(signal.SIGKILL)
        runner.wait(10)

    def spooled(self) -> list[dict[str, Any]]:
        """The whole lines of the spool."""
        try:
            raw = (self.directory / "spool.ndjson").read_bytes()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in raw.split(b"\n")[:-1]]

    def text(self, stream: str, index: int = 0) -> str:
        """A command's output as the log tells it; asserts that the offsets are without gap or repeat."""
        parts, offset = [], 0
        for data in self.log.of("command.output"):
            if data["index"] == index and data["stream"] == stream:
                assert data["offset"] == offset
                offset += data["bytes"]
                parts.append(data["text"])
        return "".join(parts)

    def survivors(self) -> list[int]:
        """Live processes that carry a marker of this run."""
        marker = self.run_id.encode()
        return [stat.pid for stat in all_processes() if marker in read_environ(stat.pid)]

    def close(self) -> None:
        """Leave nothing behind."""
        for runner in self.runners:
            if runner.poll() is None:
                self.kill(runner)
        for pid in self.survivors():
            os.kill(pid, signal.SIGKILL)
        for stream in self.runners:
            stream.wait(10)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    stat = read_stat(pid)
    return stat is not None and stat.state not in DEAD_STATES


def ended(process: Process) -> Process:
    """The process once it is over."""
    until(lambda: not process.running())
    return process


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in login shells, which must not read, nor spoil when killed, the profile of who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def log() -> Iterator[LogServer]:
    """The log's wire."""
    with LogServer() as server:
        yield server


@pytest.fixture
def bench(tmp_path: Path, log: LogServer) -> Iterator[Bench]:
    """One run, cleaned up afterwards."""
    bench = Bench(tmp_path, log)
    yield bench
    bench.close()


@pytest.fixture
def plans(tmp_path: Path, log: LogServer) -> Iterator[PlansBench]:
    """One run of plans, cleaned up afterwards."""
    from tests.runner.plans import PlansBench  # which is made of what stands here

    bench = PlansBench(tmp_path, log)
    yield bench
    bench.close()


@pytest.fixture
def job(bench: Bench) -> Job:
    """A job of the bench."""
    return Job.load(str(bench.job(command("true"))))


@pytest.fixture
def open_process(job: Job, bench: Bench) -> Iterator[Open]:
    """Starts (or finds) attempt `0-1`; whatever is left is ended afterwards."""
    opened: list[Process] = []

    def start(text: str) -> Process:
        opened.append(Process.open(job, "0-1", text))
        return opened[-1]

    yield start
    bench.close()
    for process in opened:
        process.abandon(signal.SIGKILL)
        process.close()


@pytest.fixture
def session_log() -> Iterator[SessionLog]:
    """The log's wire for a conversation."""
    from tests.runner.session_server import SessionLog  # likewise

    with SessionLog() as server:
        yield server


@pytest.fixture
def talk(tmp_path: Path, session_log: SessionLog) -> Iterator[Talk]:
    """One conversation with the fake CLI, cleaned up afterwards."""
    from tests.runner.talk import Talk  # which is made of what stands here

    talk = Talk(tmp_path, session_log)
    talk.fake()
    yield talk
    talk.close()


@pytest.fixture
def models() -> Iterator[ModelServer]:
    """The models' wires."""
    from tests.runner.model_server import ModelServer  # likewise

    with ModelServer() as server:
        yield server


@pytest.fixture
def inquiry(tmp_path: Path, log: LogServer, models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inquiry]:
    """One research run, cleaned up afterwards."""
    from tests.runner.inquiry import Inquiry  # likewise

    # Driven in this process, it must not take the process's other children, a whole local stack, for its orphans.
    monkeypatch.setattr("sandbox_scripts.drivers.steps.adopt_orphans", lambda: False)
    inquiry = Inquiry(tmp_path, log, models)
    yield inquiry
    inquiry.close()


@pytest.fixture
def turn_job(talk: Talk) -> Job:
    """A conversation's job as the runner reads it."""
    return Job.load(str(talk.prepare()))


@pytest.fixture
def functions(turn_job: Job) -> Iterator[Functions]:
    """The run token's functions."""
    functions = Functions(turn_job)
    yield functions
    functions.close()

"""The runner is killed and started again, at any point: nothing lost, nothing repeated, n contiguous."""

from __future__ import annotations

import random
import signal
import subprocess
from pathlib import Path

import pytest

from sandbox_scripts.clock import boottime
from sandbox_scripts.procfs import read_stat
from tests.runner.conftest import Bench, alive, command, until
from tests.runner.log_server import Fault, LogServer, slow
from tests.runner.test_commands import finished, types
from tests.runner.test_process import pids

LINES = 30
TICKER = f"echo run >> runs; for i in $(seq {LINES}); do echo line $i; echo err $i >&2; sleep 0.05; done; exit 3"


def assert_whole(bench: Bench, log: LogServer) -> None:
    """The log is the spool, and the numbers have no hole."""
    assert log.events == bench.spooled()
    assert [event["n"] for event in log.events] == list(range(1, log.last_n + 1))


@pytest.mark.parametrize("seed", range(2))
def test_ten_kills_at_random_points_lose_and_repeat_nothing(bench: Bench, log: LogServer, seed: int) -> None:
    """One command that prints, one that is retried, one more: each run as often as planned, all output once."""
    dice = random.Random(seed)
    log.fault("append_events_v1", *(Fault(None, applied=dice.random() < 0.5) for _ in range(5)))
    bench.job(command(TICKER, retryable=False) | {"command": TICKER.replace("exit 3", "exit 0")},
              command("echo run >> tries; echo again; exit 1", retryable=True),
              command("echo last"))  # fmt: skip
    for _ in range(10):
        runner = bench.start()
        try:
            runner.wait(dice.uniform(0.05, 0.35))
        except subprocess.TimeoutExpired:
            bench.kill(runner)
    assert bench.finish() == 0
    assert (bench.home / "runs").read_text() == "run\n"
    assert (bench.home / "tries").read_text() == "run\n" * 3
    assert bench.text("stdout", 0) == "".join(f"line {n}\n" for n in range(1, LINES + 1))
    assert bench.text("stderr", 0) == "".join(f"err {n}\n" for n in range(1, LINES + 1))
    assert [(d["index"], d["attempt"]) for d in log.of("command.started")] == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert [d["index"] for d in log.of("command.completed")] == [0, 1, 2]
    assert [d["attempt"] for d in log.of("command.output") if d["index"] == 1] == [1, 2, 3]
    assert finished(log)["result"] == {"commands": 3, "completed": 3, "failed": 1}
    assert types(log).count("run.started") == 1
    assert_whole(bench, log)
    assert bench.survivors() == []


@pytest.mark.parametrize("seed", range(3))
def test_a_spool_cut_at_any_byte_is_continued(bench: Bench, log: LogServer, seed: int) -> None:
    """Killed in the middle of a write, or before it: the command goes on from what the spool says."""
    dice = random.Random(seed)
    log.fault("append_events_v1", *[Fault(500) for _ in range(200)])
    bench.job(command(TICKER.replace("exit 3", "exit 0")))
    runner = bench.start()
    until(lambda: sum(event["type"] == "command.output" for event in bench.spooled()) >= 6)
    bench.kill(runner)
    spool = bench.directory / "spool.ndjson"
    raw = spool.read_bytes()
    spool.write_bytes(raw[: dice.randint(0, len(raw))])
    log.faults.clear()
    assert bench.finish() == 0
    assert (bench.home / "runs").read_text() == "run\n"
    assert bench.text("stdout") == "".join(f"line {n}\n" for n in range(1, LINES + 1))
    assert_whole(bench, log)


def test_the_exit_of_a_command_that_ended_meanwhile_is_found(bench: Bench, log: LogServer) -> None:
    """The runner is dead when the command ends: code, output and duration are told by the next."""
    bench.job(command("echo before; sleep 0.5; echo after; exit 9"))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    bench.kill(runner)
    until(lambda: (bench.directory / "children/0-1/exit").exists())
    until(lambda: bench.survivors() == [])
    assert bench.finish() == 0
    completed = log.of("command.completed")[0]
    assert completed["exit_code"] == 9
    assert completed["duration_ms"] >= 400
    assert bench.text("stdout") == "before\nafter\n"
    resumed = log.of("run.resumed")[0]
    assert resumed["epoch"] == 1
    assert resumed["n"] >= 4
    assert_whole(bench, log)


def test_a_timeout_counts_from_the_commands_own_start(bench: Bench, log: LogServer) -> None:
    """Restarts do not give a command more time: one whose time ran out meanwhile is ended at once."""
    bench.job(command("echo $$ > pid; sleep 60", timeout=3))
    runner = bench.start()
    (pid,) = pids(bench.home / "pid", 1)
    bench.kill(runner)
    stat = read_stat(pid)
    assert stat is not None
    until(lambda: boottime() > stat.start / 100 + 3)
    runner = bench.start()
    log.wait(lambda: "run.resumed" in types(log))
    resumed = boottime()
    log.wait(lambda: "command.completed" in types(log))
    assert bench.finish(runner) == 0
    completed = log.of("command.completed")[0]
    assert completed["timed_out"] is True
    assert completed["duration_ms"] >= (resumed - stat.start / 100) * 1000 - 500
    assert not alive(pid)


def test_the_runs_limit_counts_from_the_first_start(bench: Bench, log: LogServer) -> None:
    """A run killed again and again still ends at its deadline."""
    bench.job(command("sleep 60", timeout=60), limit_seconds=1.5)
    runner = bench.start()
    log.wait(lambda: "command.started" in types(log))
    bench.kill(runner)
    began = boottime()
    until(lambda: boottime() > began + 1.5)
    assert bench.finish() == 0
    assert finished(log)["status"] == "timed_out"
    assert bench.survivors() == []


def test_the_end_once_decided_is_repeated(bench: Bench, log: LogServer) -> None:
    """Killed while finish was under way: the next runner finishes the same way and runs nothing."""
    log.fault("finish_run_v1", Fault(None, applied=True, seconds=0), *[Fault(500) for _ in range(100)])
    bench.job(command("echo once >> runs; exit 4"))
    runner = bench.start()
    log.wait(lambda: len(log.called("finish_run_v1")) >= 2)
    bench.kill(runner)
    log.faults.clear()
    last_n = log.last_n
    assert bench.finish() == 0
    assert (bench.home / "runs").read_text() == "once\n"
    assert log.last_n == last_n
    assert finished(log)["status"] == "failed"
    assert len(log.called("ended")) == 1


def test_a_finished_job_started_again_only_says_so(bench: Bench, log: LogServer) -> None:
    """Exit 0, the same finish, no new event."""
    bench.job(command("echo x"))
    assert bench.finish() == 0
    events = list(log.events)
    for _ in range(3):
        assert bench.finish() == 0
    assert log.events == events


def test_a_restart_asks_the_log_first(bench: Bench, log: LogServer) -> None:
    """The heartbeat's last_n says where to ship from: what the log holds is not sent again."""
    bench.job(command("echo a; sleep 0.6; echo b"))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    bench.kill(runner)
    seen, held = len(log.calls), log.last_n
    assert bench.finish() == 0
    assert log.calls[seen].name == "heartbeat_v1"
    assert next(call.numbers()[0] for call in log.calls[seen:] if call.name == "append_events_v1") == held + 1


def test_a_second_runner_ends_while_the_first_lives(bench: Bench, log: LogServer) -> None:
    """Same job, same epoch: exit 5 at once, and the first is not disturbed."""
    bench.job(command("sleep 1; echo done"))
    first = bench.start()
    log.wait(lambda: "command.started" in types(log))
    assert bench.finish() == 5
    assert bench.finish(first) == 0
    assert bench.text("stdout") == "done\n"


def test_a_higher_epoch_waits_until_the_older_is_gone(bench: Bench, log: LogServer) -> None:
    """The older runner is refused by the log and ends; then the newer goes on from the same spool."""
    bench.job(command("echo a; sleep 60", timeout=60, retryable=False), command("echo b"))
    first = bench.start()
    log.wait(lambda: "command.output" in types(log))
    bench.job(command("echo a; sleep 60", timeout=60, retryable=False), command("echo b"), epoch=2)
    second = bench.start()
    log.forbidden = 403
    (bench.directory / "doorbell").touch()
    assert bench.finish(first) == 3
    log.forbidden = 0
    if second.poll() is None:
        second.wait(40)
    assert log.last_n >= 4


def test_a_relaunch_on_a_disk_that_forgot_the_run_does_not_run_it_again(bench: Bench, log: LogServer) -> None:
    """A higher epoch with an empty spool, a log with events: the run fails instead of running twice."""
    log.last_n, log.status = 12, "running"
    log.fault("heartbeat_v1", slow(1))
    bench.job(command("echo x > ran"), epoch=2)
    assert bench.finish() == 0
    assert not (bench.home / "ran").exists()
    assert finished(log)["status"] == "failed"
    assert finished(log)["error"]["type"] == "spool_lost"
    assert finished(log)["last_n"] == 12


def test_a_kill_right_after_command_started_runs_it_once(bench: Bench, log: LogServer) -> None:
    """Between the spooled event and the process lies a gap; the restart fills it, once."""
    bench.job(command("echo run >> runs"))
    runner = bench.start()
    until(lambda: any(event["type"] == "command.started" for event in bench.spooled()))
    bench.kill(runner)
    assert bench.finish() == 0
    assert (bench.home / "runs").read_text() == "run\n"
    assert_whole(bench, log)


def test_the_lock_dies_with_the_runner_not_with_its_children(bench: Bench, log: LogServer) -> None:
    """A command that lives on does not keep the next runner out."""
    bench.job(command("sleep 1; exit 0"))
    runner = bench.start()
    until(lambda: Path(bench.directory / "children/0-1/leader").exists())
    bench.kill(runner)
    assert bench.survivors() != []
    assert bench.finish() == 0
    assert runner.returncode == -signal.SIGKILL

"""Plans of commands through the whole runner: what the log holds afterwards, and what is left running: nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox_scripts.control import CANCELLED, Control
from sandbox_scripts.drivers.commands import ATTEMPTS
from tests.runner.conftest import Bench, alive, command, until
from tests.runner.log_server import LogServer
from tests.runner.test_process import STUBBORN, pids


def types(log: LogServer) -> list[str]:
    return [event["type"] for event in log.events]


def finished(log: LogServer) -> dict[str, Any]:
    assert log.finished is not None
    return log.finished


def test_a_plan_succeeds_and_the_log_tells_it_in_order(bench: Bench, log: LogServer) -> None:
    """Start, each command with its output, and the end with the counts; n without a hole; exit 0."""
    bench.job(command("echo hello"), command("echo oops >&2; exit 3", retryable=False) | {"command": "echo two"})
    assert bench.finish() == 0
    assert types(log) == [
        "run.started",
        "session.status_running",
        *["command.started", "command.output", "command.completed"] * 2,
    ]
    assert [event["n"] for event in log.events] == list(range(1, 9))
    assert log.of("run.started")[0].keys() == {"runner", "epoch", "python"}
    started, completed = log.of("command.started")[0], log.of("command.completed")[0]
    assert started == {"index": 0, "command": "echo hello", "attempt": 1, "timeout_seconds": 20}
    assert completed.pop("duration_ms") > 0
    assert completed == {
        "index": 0,
        "exit_code": 0,
        "attempts": 1,
        "timed_out": False,
        "bytes": {"stdout": 6, "stderr": 0},
        "truncated": False,
    }
    output = {"index": 0, "attempt": 1, "stream": "stdout", "text": "hello\n", "offset": 0, "bytes": 6}
    assert log.of("command.output")[0] == output
    assert finished(log)["status"] == "succeeded"
    assert finished(log)["result"] == {"commands": 2, "completed": 2, "failed": 0}
    assert finished(log)["last_n"] == 8
    assert len(log.called("ended")) == 1


def test_a_failing_command_ends_the_plan(bench: Bench, log: LogServer) -> None:
    """Not retryable: no further attempt, no further command, the run failed; the runner did its work: exit 0."""
    bench.job(command("exit 7"), command("echo never"))
    assert bench.finish() == 0
    assert types(log).count("command.started") == 1
    assert finished(log)["status"] == "failed"
    assert finished(log)["result"] == {"commands": 2, "completed": 1, "failed": 1}
    error = finished(log)["error"]
    assert (error["type"], error["index"], error["exit_code"]) == ("command_failed", 0, 7)


def test_a_retryable_command_is_tried_three_times_and_the_plan_goes_on(bench: Bench, log: LogServer) -> None:
    """Each attempt is told; the delays grow; the plan reaches its end, so the run succeeded."""
    bench.job(command("echo try; exit 5", retryable=True), command("echo after"))
    assert bench.finish() == 0
    assert [data["attempt"] for data in log.of("command.started")] == [1, 2, 3, 1]
    assert [(data["attempt"], data["exit_code"]) for data in log.of("command.retrying")] == [(1, 5), (2, 5)]
    delays = [data["delay_ms"] for data in log.of("command.retrying")]
    assert delays == [500, 1000]
    first = log.of("command.completed")[0]
    assert (first["exit_code"], first["attempts"], first["bytes"]["stdout"]) == (5, ATTEMPTS, 4)
    assert [data["attempt"] for data in log.of("command.output")] == [1, 2, 3, 1]
    assert finished(log)["status"] == "succeeded"
    assert finished(log)["result"] == {"commands": 2, "completed": 2, "failed": 1}


def test_a_retried_command_that_recovers_counts_as_good(bench: Bench, log: LogServer) -> None:
    """The last attempt is what counts."""
    bench.job(command("test -e flag || { touch flag; exit 1; }", retryable=True))
    assert bench.finish() == 0
    assert [data["attempts"] for data in log.of("command.completed")] == [2]
    assert finished(log)["result"]["failed"] == 0


def test_a_killed_command_tells_its_signal(bench: Bench, log: LogServer) -> None:
    """As a shell tells it: 128 and the number."""
    bench.job(command("kill -SEGV $$"))
    assert bench.finish() == 0
    completed = log.of("command.completed")[0]
    assert (completed["exit_code"], completed["signal"]) == (139, signal.SIGSEGV)
    assert bench.text("stderr") == ""


def test_a_command_over_its_time_is_ended(bench: Bench, log: LogServer) -> None:
    """timed_out, its children gone, and the run failed like after any other failing command."""
    bench.job(command("echo before; sleep 60 & sleep 60", timeout=1), command("echo never"))
    assert bench.finish() == 0
    completed = log.of("command.completed")[0]
    assert completed["timed_out"] is True
    assert completed["exit_code"] != 0
    assert completed["duration_ms"] >= 900
    assert bench.text("stdout") == "before\n"
    assert finished(log)["status"] == "failed"
    assert finished(log)["error"]["timed_out"] is True
    assert bench.survivors() == []


def test_a_command_that_ignores_its_timeout_and_exits_well_has_still_timed_out(bench: Bench, log: LogServer) -> None:
    """A trap that says exit 0 does not make it a success."""
    bench.job(command("trap 'exit 0' INT; while :; do sleep 0.05; done", timeout=1))
    assert bench.finish() == 0
    completed = log.of("command.completed")[0]
    assert (completed["exit_code"], completed["timed_out"]) == (0, True)
    assert finished(log)["status"] == "failed"


def test_a_run_over_its_limit_times_out(bench: Bench, log: LogServer) -> None:
    """The command under way is ended and the run is timed_out, retryable or not."""
    bench.job(command("sleep 60", retryable=True), limit_seconds=1)
    assert bench.finish() == 0
    assert log.of("command.retrying") == []
    assert log.of("command.completed")[0]["timed_out"] is True
    assert finished(log)["status"] == "timed_out"
    assert finished(log)["error"]["type"] == "run_timed_out"
    assert bench.survivors() == []


def test_cancel_ends_a_family_that_ignores_every_signal(bench: Bench, log: LogServer) -> None:
    """The doorbell rings, the answer says cancel: nobody survives, and the run finishes as cancelled."""
    path = bench.directory / "pids"
    bench.job(command(STUBBORN.format(pids=path), timeout=60), command("echo never"))
    runner = bench.start()
    family = pids(path, 4)
    log.wait(lambda: "command.started" in types(log))
    log.cancel_requested = True
    (bench.directory / "doorbell").touch()
    assert bench.finish(runner) == 0
    assert [pid for pid in family if alive(pid)] == []
    assert bench.survivors() == []
    completed = log.of("command.completed")[0]
    assert completed["cancelled"] is True
    assert completed["timed_out"] is False
    assert finished(log)["status"] == "cancelled"
    assert finished(log)["result"] == {"commands": 2, "completed": 1, "failed": 1}


def test_a_daemon_without_marker_session_or_parent_ends_too(bench: Bench, log: LogServer) -> None:
    """It emptied its environment and left: but orphans come to the runner, which is their reaper."""
    path = bench.directory / "pids"
    daemon = bench.directory / "daemon.sh"
    daemon.write_text(f"trap '' TERM HUP INT; echo $$ > {path}; while :; do sleep 0.05; done")
    bench.job(command(f"(env -i setsid /bin/bash {daemon} &); until [ -s {path} ]; do sleep 0.01; done"))
    assert bench.finish() == 0
    (pid,) = pids(path, 1)
    assert not alive(pid)
    assert finished(log)["status"] == "succeeded"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_runner_is_a_cancellation(bench: Bench, log: LogServer, number: int) -> None:
    """Children end, everything is shipped, the run finishes as cancelled."""
    bench.job(command("echo out; sleep 60", timeout=60))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    runner.send_signal(number)
    assert bench.finish(runner) == 0
    assert finished(log)["status"] == "cancelled"
    assert log.of("command.completed")[0]["cancelled"] is True
    assert bench.survivors() == []


@pytest.mark.timeout(30)
def test_a_cancellation_ends_the_longest_pause() -> None:
    """An hour's sleep between two attempts is over as soon as the run is cancelled."""
    shipper = SimpleNamespace(cancel_requested=False, alarm=None, budget_reached=None)
    control = Control(shipper, deadline=float("inf"))  # type: ignore[arg-type] # the fields that it reads
    threading.Timer(0.2, lambda: setattr(shipper, "cancel_requested", True)).start()
    control.sleep(3600)
    assert control.check() == CANCELLED


def test_nothing_is_tried_again_once_the_run_is_cancelled(bench: Bench, log: LogServer) -> None:
    """No further attempt once the run is to end."""
    bench.job(command("exit 1", retryable=True))
    log.cancel_requested = True
    runner = bench.start()
    assert bench.finish(runner) == 0
    assert len(log.of("command.started")) <= 1
    assert finished(log)["status"] == "cancelled"


@pytest.mark.parametrize("status", [403, 401])
def test_a_superseded_runner_ends_its_children_and_writes_nothing_more(
    bench: Bench, log: LogServer, status: int
) -> None:
    """An exit code of its own; no event, no finish, nobody left."""
    path = bench.directory / "pids"
    bench.job(command(f"echo $$ > {path}; while :; do echo x; sleep 0.05; done"))
    runner = bench.start()
    (pid,) = pids(path, 1)
    log.wait(lambda: "command.output" in types(log))
    log.forbidden = status
    assert bench.finish(runner) == 3
    assert not alive(pid)
    assert bench.survivors() == []
    assert log.called("finish_run_v1") == []
    assert [event["type"] for event in bench.spooled()][-1] == "command.output"


def test_a_run_ended_by_someone_else_stops(bench: Bench, log: LogServer) -> None:
    """409 run_finished, its own exit code, children ended."""
    bench.job(command("while :; do echo x; sleep 0.05; done"))
    runner = bench.start()
    log.wait(lambda: "command.output" in types(log))
    log.status = "lost"
    assert bench.finish(runner) == 4
    assert bench.survivors() == []
    assert log.called("finish_run_v1") == []


def test_output_past_the_limit_stays_in_its_file(bench: Bench, log: LogServer) -> None:
    """The limit holds for both streams of an attempt; what is shipped is the beginning; completed says truncated."""
    bench.job(command("head -c 100000 /dev/zero | tr '\\0' a; echo err >&2"), output_limit_bytes=50_000)
    assert bench.finish() == 0
    completed = log.of("command.completed")[0]
    assert completed["truncated"] is True
    assert completed["bytes"] == {"stdout": 100_000, "stderr": 4}
    assert sum(data["bytes"] for data in log.of("command.output")) == 50_000
    assert max(data["bytes"] for data in log.of("command.output")) <= 16 * 1024
    assert (bench.directory / "children/0-1/stdout").stat().st_size == 100_000


def test_a_chatty_command_makes_few_events(bench: Bench, log: LogServer) -> None:
    """Ten thousand lines in a moment are a handful of events, in order and complete."""
    bench.job(command("seq 10000"))
    assert bench.finish() == 0
    assert bench.text("stdout") == "".join(f"{n}\n" for n in range(1, 10_001))
    assert len(log.of("command.output")) < 20


def test_a_flood_costs_the_runner_little(bench: Bench, log: LogServer) -> None:
    """`yes` for a second: bounded events, bounded file, bounded memory and CPU of the runner."""
    bench.job(command("yes", timeout=1))
    runner = bench.start()
    log.wait(lambda: "command.completed" in types(log) or bool(log.of("command.output")))
    peak = 0
    while runner.poll() is None:
        status = Path(f"/proc/{runner.pid}/status").read_text()
        peak = max(peak, int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS" in status else 0)
        time.sleep(0.02)
    assert runner.returncode == 0
    assert peak < 32 * 1024
    assert len(log.of("command.output")) < 100
    assert log.of("command.completed")[0]["truncated"] is True
    assert (bench.directory / "children/0-1/stdout").stat().st_size <= 256 * 1024 * 1024


def test_secrets_reach_neither_log_nor_spool(bench: Bench, log: LogServer) -> None:
    """Values of the job and keys by pattern, in output and in the command's own text, cut across writes."""
    canary, key = "canary-value-0815", "sk-" + "ant-api03-" + "Zz9_" * 12
    text = f"printf {canary[:6]}; sleep 0.2; echo {canary[6:]}; echo k={key}; echo {canary} | base64"
    bench.job(command(text), redact=[canary])
    assert bench.finish() == 0
    raw = (bench.directory / "spool.ndjson").read_text() + str(log.events)
    assert key not in raw
    assert bench.text("stdout").startswith("[redacted:value]\nk=[redacted:anthropic_key]\n[redacted:value]")
    assert canary not in raw.replace(text, "")
    assert "echo [redacted:value] | base64" in log.of("command.started")[0]["command"]


def test_bytes_that_are_no_text_are_replaced_and_counted(bench: Bench, log: LogServer) -> None:
    """Invalid UTF-8 and NUL do not reach Postgres; the offsets stay those of the bytes."""
    bench.job(command(r"printf 'a\xff\0b\xe2\x82\xac\n'"))
    assert bench.finish() == 0
    (data,) = log.of("command.output")
    assert data["text"] == "a\ufffd\ufffdb€\n"
    assert (data["bytes"], data["invalid_bytes"]) == (8, 2)


def test_the_token_of_the_environment_is_used_and_not_inherited(bench: Bench, log: LogServer) -> None:
    """credentials=env: the runner authenticates with it; commands see it in no environment they may read."""
    log.bearer = "token-of-this-run-4711"
    readable = "/proc/[0-9]*/environ" if os.geteuid() else "/proc/self/environ"  # root may read them all
    bench.job(command(f"env | grep -c 4711; cat {readable} 2>&- | grep -ac 4711; true"), credentials="env")
    runner = bench.start(SANDSTREAM_RUN_TOKEN=log.bearer)
    assert bench.finish(runner) == 0
    assert bench.text("stdout").split() == ["0", "0"]
    assert log.called("append_events_v1")[0].headers["authorization"] == f"Bearer {log.bearer}"
    assert log.bearer not in (bench.directory / "spool.ndjson").read_text()


def test_a_kind_nobody_drives_ends_the_run(bench: Bench, log: LogServer) -> None:
    """The log says so; a run never stays open because of it."""
    bench.job(kind="dance")
    assert bench.finish() == 0
    assert finished(log)["status"] == "failed"
    assert finished(log)["error"]["type"] == "job_invalid"


@pytest.mark.parametrize("commands", [[{"timeout": 3}], [{"command": "x", "timeout": "soon"}]])
def test_a_plan_that_makes_no_sense_ends_the_run(bench: Bench, log: LogServer, commands: list[dict[str, Any]]) -> None:
    """Validated by functions long before; should it come here, the run fails in the log."""
    bench.job(*commands)
    assert bench.finish() == 0
    assert finished(log)["error"]["type"] == "job_invalid"


def test_a_defect_ends_the_run_and_its_children(bench: Bench, log: LogServer) -> None:
    """Whatever goes wrong inside is told as the run's error."""
    bench.job(command("echo x"), working_directory="/proc/nowhere")
    assert bench.finish() == 0
    assert finished(log)["error"]["type"] == "runner_error"
    assert bench.survivors() == []


def test_background_work_ends_with_its_command(bench: Bench, log: LogServer) -> None:
    """It would hold the streams, and with them the run; the next command starts without it."""
    path = bench.directory / "pids"
    bench.job(
        command(f"nohup sleep 60 & echo $! > {path}"), command(f"kill -0 $(cat {path}) && echo alive || echo gone")
    )
    assert bench.finish() == 0
    (pid,) = pids(path, 1)
    until(lambda: not alive(pid))
    assert bench.text("stdout", 1) == "gone\n"

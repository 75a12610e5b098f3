"""Processes that outlive the runner, are found again, and end for good. Real processes, real signals."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox_scripts import process as process_module
from sandbox_scripts import procfs
from sandbox_scripts.job import Job
from sandbox_scripts.process import Process, wait_for_any
from sandbox_scripts.procfs import Stat, is_alive, parse_stat, read_stat
from sandbox_scripts.stop import Stop
from tests.runner.conftest import Bench, Open, alive, ended, until

STUBBORN = (
    "trap '' INT TERM HUP; (trap '' INT TERM HUP; echo $BASHPID >> {pids}; while :; do sleep 0.05; done) & "
    "setsid bash -c \"trap '' INT TERM HUP; echo \\$\\$ >> {pids}; while :; do sleep 0.05; done\" & "
    "(setsid bash -c \"trap '' TERM; echo \\$\\$ >> {pids}; while :; do sleep 0.05; done\" &) ; "
    "echo $$ >> {pids}; while :; do sleep 0.05; done"
)


def content(process: Process, name: str) -> str:
    return Path(process.path(name)).read_text()


def pids(path: Path, count: int) -> list[int]:
    return until(
        lambda: path.exists() and len(found := [int(word) for word in path.read_text().split()]) >= count and found
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [("true", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -9 $$", 137), ("no-such-command", 127), ("(((", 1)],
)
def test_the_exit_code_is_written_down(open_process: Open, text: str, code: int) -> None:
    """As a shell says it: 128 and the signal's number for a killed command."""
    found = ended(open_process(text)).exit()
    assert found is not None
    assert found.code == code or (text == "(((" and found.code == 2)


def test_streams_go_to_files_of_their_own_and_stdin_is_empty(open_process: Open) -> None:
    """Also for a program that opens /dev/stderr, which would truncate a plain file; the shell adds nothing."""
    process = ended(open_process("echo a; echo b > /dev/stderr; echo c >&2; cat; echo d > /dev/stdout; kill -9 $$"))
    assert content(process, "stdout") == "a\nd\n"
    assert content(process, "stderr") == "b\nc\n"


def test_the_command_has_a_session_of_its_own_in_the_working_directory(open_process: Open, bench: Bench) -> None:
    """A login shell, leader of its process group, in the job's directory, without the run token."""
    process = ended(open_process("cut -d' ' -f5,6 /proc/$$/stat; echo $$; pwd; shopt -q login_shell && echo login"))
    group, session, pid, directory, login = content(process, "stdout").split()
    assert group == session == pid
    assert directory == str(bench.home)
    assert login == "login"


def test_an_attempt_runs_once_however_often_it_is_opened(open_process: Open, bench: Bench) -> None:
    """The claim is a file that only one wrapper can create."""
    mark = bench.directory / "runs"
    first = open_process(f"echo x >> {mark}; sleep 0.3")
    again = open_process(f"echo x >> {mark}; sleep 0.3")
    assert again.running()
    ended(first)
    late = open_process(f"echo x >> {mark}")
    assert late.started <= first.started + 0.1
    assert late.seconds() >= 0.2
    assert not late.running()
    assert late.exit() is not None
    assert mark.read_text() == "x\n"


def test_two_wrappers_that_start_together_run_it_once(
    open_process: Open, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runners that both see no claim still start the command once, and both find the one that runs."""
    mark = bench.directory / "runs"
    monkeypatch.setattr(process_module.os.path, "exists", lambda path: "bash" in path)
    both = [open_process(f"echo x >> {mark}; sleep 0.2") for _ in range(2)]
    for process in both:
        ended(process)
        assert process.exit() is not None
    assert mark.read_text() == "x\n"


def test_the_command_goes_on_when_its_starter_is_killed(job: Job, bench: Bench, open_process: Open) -> None:
    """SIGKILL to the process that started it: the exit code and all output are there for the next."""
    starter = (
        "import sys, time; from sandbox_scripts.job import Job; from sandbox_scripts.process import Process;"
        f"job = Job.load({str(bench.directory / 'job.json')!r});"
        "Process.open(job, '0-1', 'echo a; sleep 0.4; echo b; exit 3'); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", starter], cwd=Path(__file__).parents[2])
    until(lambda: Path(job.path("children/0-1/leader")).exists())
    bench.runners.append(child)
    bench.kill(child)
    process = open_process("never started again")
    assert process.running()
    found = ended(process).exit()
    assert found is not None
    assert found.code == 3
    assert content(process, "stdout") == "a\nb\n"
    assert 0.3 <= process.seconds() <= 10


def test_a_pid_that_now_belongs_to_another_process_is_not_taken_for_it() -> None:
    """Pid and start time together name a process."""
    me = read_stat(os.getpid())
    assert me is not None
    assert is_alive(me)
    assert not is_alive(Stat(me.pid, "R", me.ppid, me.pgrp, me.session, me.start - 1))


def test_a_zombie_is_dead() -> None:
    """Nobody may ever reap it; it does not run."""
    child = subprocess.Popen(["/bin/true"])
    stat = read_stat(child.pid)
    assert stat is not None
    until(lambda: (now := read_stat(child.pid)) is not None and now.state == "Z")
    assert not is_alive(stat)
    child.wait()


def test_a_stat_line_may_hold_parentheses_and_spaces() -> None:
    """The command's name is whatever the program likes."""
    line = "12 (a) b (c)) S 1 12 13 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 1"
    stat = parse_stat(line)
    assert stat is not None
    assert (stat.pid, stat.state, stat.ppid, stat.pgrp, stat.session, stat.start) == (12, "S", 1, 12, 13, 9876)
    assert parse_stat("") is None
    only = parse_stat("77 (sh)")
    assert only is not None
    assert (only.pid, only.start) == (77, 0)


def test_stop_begins_with_sigint_and_lets_the_command_clean_up(open_process: Open) -> None:
    """What a trap prints on the way out is kept, and its exit code counts."""
    process = open_process("trap 'echo bye; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    until(lambda: "ready" in content(process, "stdout") if Path(process.path("stdout")).exists() else False)
    Stop.running(process, 10).finish(0.01)
    until(lambda: content(process, "stdout") == "ready\nbye\n")
    found = process.exit()
    assert found is not None
    assert found.code == 5


def test_stop_goes_on_to_sigterm(open_process: Open) -> None:
    """A command that ignores SIGINT gets SIGTERM after its grace."""
    process = open_process("trap '' INT; trap 'echo term; exit 6' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: Path(process.path("stdout")).exists() and "ready" in content(process, "stdout"))
    Stop.running(process, 0.2).finish(0.01)
    assert content(process, "stdout") == "ready\nterm\n"


def test_nobody_survives_who_ignores_every_signal_and_left_the_session(open_process: Open, bench: Bench) -> None:
    """Children, grandchildren with setsid, orphans: SIGKILL finds them all by marker and by descent."""
    path = bench.directory / "pids"
    process = open_process(STUBBORN.format(pids=path))
    family = pids(path, 4)
    Stop.running(process, 0.1).finish(0.01)
    assert [pid for pid in family if alive(pid)] == []
    assert bench.survivors() == []
    assert not process.running()


def test_without_readable_environments_group_and_descent_still_find_them(
    open_process: Open, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hidepid or another user's processes: the marker is one way of three."""
    monkeypatch.setattr(process_module, "read_environ", lambda _pid: b"")
    path = bench.directory / "pids"
    process = open_process(
        f"trap '' INT TERM; setsid bash -c 'trap \"\" TERM; echo $$ >> {path}; while :; do sleep 0.05; done' & "
        f"echo $$ >> {path}; while :; do sleep 0.05; done"
    )
    family = pids(path, 2)
    Stop.running(process, 0.1).finish(0.01)
    assert [pid for pid in family if alive(pid)] == []


def test_a_stopped_process_ends_too(open_process: Open, bench: Bench) -> None:
    """SIGSTOP keeps a process from seeing anything but SIGKILL."""
    path = bench.directory / "pids"
    process = open_process(f"echo $$ > {path}; kill -STOP $$")
    (pid,) = pids(path, 1)
    until(lambda: (stat := read_stat(pid)) is not None and stat.state == "T")
    Stop.running(process, 0.1).finish(0.01)
    assert not alive(pid)


def test_what_a_finished_command_left_behind_is_ended(open_process: Open, bench: Bench) -> None:
    """A background process would hold the streams open, and the run; also one that left session and parent."""
    path = bench.directory / "pids"
    process = open_process(
        f"(setsid bash -c 'trap \"\" TERM; echo $$ >> {path}; while :; do sleep 0.05; done' &); "
        f"sleep 60 & echo $! >> {path}; until [ $(wc -l < {path}) = 2 ]; do sleep 0.01; done; exit 4"
    )
    family = pids(path, 2)
    until(lambda: process.exit())
    Stop.leftovers(process).finish(0.01)
    assert [pid for pid in family if alive(pid)] == []
    found = process.exit()
    assert found is not None
    assert found.code == 4


def test_one_beyond_our_power_does_not_hold_the_run(
    open_process: Open, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot be killed (it hangs in the kernel) is given up on; the wrapper and the pumps are ended."""
    path = bench.directory / "pids"
    process = open_process(f"sleep 60 & echo $! > {path}; exit 0")
    (pid,) = pids(path, 1)
    until(lambda: process.exit())
    monkeypatch.setattr(process_module, "_kill", lambda _pid, _number: None)
    monkeypatch.setattr("sandbox_scripts.stop.KILL_SECONDS", 0.1)
    Stop.leftovers(process).finish(0.01)
    assert not process.running()
    assert alive(pid)


def test_a_process_of_another_user_is_left_alone(
    open_process: Open, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sudo started cannot be signalled by the runner, and no time is lost on trying."""
    path = bench.directory / "pids"
    process = open_process(f"sleep 60 > /dev/null 2>&1 & echo $! > {path}; exit 0")
    (pid,) = pids(path, 1)
    until(lambda: process.exit())
    kill = os.kill

    def refuse(target: int, number: int) -> None:
        if target == pid:
            raise PermissionError
        kill(target, number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        assert process.members() == []
        Stop.leftovers(process).finish(0.01)
    assert not process.running()
    assert alive(pid)


def test_a_flood_is_bounded_on_disk(open_process: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the file's limit the command gets SIGPIPE; its own files are not limited."""
    monkeypatch.setattr(process_module, "OUTPUT_FILE_LIMIT_BYTES", 1 << 20)
    process = ended(open_process("head -c 3000000 /dev/zero > big; yes"))
    assert Path(process.path("stdout")).stat().st_size == 1 << 20
    found = process.exit()
    assert found is not None
    assert found.code == 141
    assert (Path(process.path("stdout")).parents[2] / "home" / "big").stat().st_size == 3_000_000


def test_a_wrapper_that_was_killed_leaves_no_exit(open_process: Open) -> None:
    """Then nobody knows the exit code, and it is told as unknown."""
    process = open_process("sleep 60")
    until(lambda: Path(process.path("leader")).exists())
    process.signal(signal.SIGSTOP)
    process.abandon(signal.SIGKILL)
    ended(process)
    assert process.exit() is None
    Stop.leftovers(process).finish(0.01)
    assert process.members() == []


def test_an_empty_claim_is_not_waited_for_for_ever(
    open_process: Open, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper killed between creating its claim and writing it: the attempt counts as died, and is not run again."""
    monkeypatch.setattr(process_module, "CLAIM_SECONDS", 0.1)
    directory = Path(job.path("children/0-1"))
    directory.mkdir(parents=True)
    (directory / "wrapper").touch()
    process = open_process("echo never")
    assert not process.running()
    assert process.exit() is None
    assert process.members() == []
    assert not (directory / "stdout").exists()


def test_a_claim_that_another_wrapper_is_about_to_write_is_waited_for(
    open_process: Open, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loser of the claim is gone before the winner has written its line: the winner is found all the same."""
    directory = Path(job.path("children/0-1"))
    directory.mkdir(parents=True)
    (directory / "wrapper").touch()
    monkeypatch.setattr(process_module.os.path, "exists", lambda path: "bash" in path)
    winner = subprocess.Popen(["/bin/sleep", "60"])
    line = Path(f"/proc/{winner.pid}/stat").read_text()
    writer = threading.Timer(0.3, (directory / "wrapper").write_text, [line])
    writer.start()
    try:
        assert open_process("echo never").running()
    finally:
        writer.join()
        winner.kill()
        winner.wait()


def test_waiting_ends_when_the_wrapper_does(open_process: Open) -> None:
    """The end of a command is seen at once, not at the next poll."""
    process = open_process("sleep 0.2")
    process.wait(1e6)
    assert not process.running()


def test_without_pidfd_waiting_is_looking(open_process: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels before 5.3, or an interpreter without the call."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    process = open_process("sleep 0.1; exit 9")
    until(lambda: process.wait(0.02) or not process.running())
    found = process.exit()
    assert found is not None
    assert found.code == 9


def test_where_proc_is_closed_a_pid_is_enough_to_wait(open_process: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc nothing can be looked up; a command still runs to its end."""
    monkeypatch.setattr(procfs, "read_stat", lambda _pid: None)
    monkeypatch.setattr(process_module, "parse_stat", lambda line: parse_stat(line.partition(" ")[0] + " (sh)"))
    process = open_process("exit 2")
    until(lambda: process.exit())
    found = process.exit()
    assert found is not None
    assert found.code == 2


def test_waiting_for_any_ends_with_the_first(job: Job) -> None:
    """The long one is not waited for."""
    both = [Process.open(job, name, text) for name, text in (("0-1", "sleep 60"), ("1-1", "sleep 0.1"))]
    wait_for_any(both, 1e6)
    assert [process.running() for process in both] == [True, False]
    Stop.running(both[0], 0.1).finish(0.01)
    for process in both:
        process.close()


def test_a_wrapper_that_is_gone_is_not_watched(open_process: Open) -> None:
    """It would end every wait at once, and the loop around it would spin."""
    process = open_process("read -r < /dev/zero")
    watched, spinning = select.poll(), select.poll()
    process.watch(watched)
    assert watched.poll(0) == []
    Stop.running(process, 0.1).finish(0.01)
    assert len(watched.poll(0)) == 1
    process.watch(spinning)
    assert spinning.poll(0) == []

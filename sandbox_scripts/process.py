"""A command as a process that outlives the runner: started at most once, found again, and ended for good.

A small shell, the wrapper, stands between. It claims the attempt by creating `wrapper` (O_EXCL, so two runners
cannot start it twice), runs the command in a session of its own with stdin from /dev/null, pumps its two streams
into files, and writes the exit code to `exit`. The streams are pipes to the command, because a program that opens
/dev/stderr would truncate a plain file; `cat` writes the file under a size limit, and past the limit the command
gets SIGPIPE. So a flood is bounded on disk.

Files of an attempt: `wrapper` and `leader` (their /proc stat lines), `stdout`, `stderr`, `exit` ("code uptime").

What a command leaves running in the background is ended with it: it would hold the streams open, and the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from stat import S_ISREG

from .clock import boottime
from .procfs import Stat, all_processes, is_alive, parse_stat, read_environ, read_pipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .job import Job

MARKER = "SANDSTREAM_COMMAND"
# Per stream and attempt. Past it the command gets SIGPIPE.
OUTPUT_FILE_LIMIT_BYTES = 256 * 1024 * 1024
CLAIM_SECONDS = 10.0
_ULIMIT_BLOCK_BYTES = 512
# Every file of an attempt that is read here is one line; a longer one is not the wrapper's.
_LINE_BYTES = 1 << 13
_EXIT = re.compile(r"([0-9]{1,3})(?: ([0-9]{1,15}(?:\.[0-9]{1,9})?)?)?\n")
_MAX_PID = 1 << 22
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# $1 directory, $2 file limit in blocks, the rest is the command. In the innermost braces 3 and 4 are the command's
# streams and 2 is nowhere, so that the shell's own «Killed» does not land in the command's output; the parentheses
# keep the command's redirections out of the shell that says it.
_WRAPPER = r"""
d=$1 blocks=$2; shift 2
set -C
read -r line < /proc/$$/stat || line="$$ (sh)"
printf '%s\n' "$line" > "$d/wrapper" || exit 125
set +C
trap : INT TERM HUP QUIT
leader='read -r line < /proc/$$/stat || line="$$ (sh)"; printf "%s\n" "$line" > "$0/leader"; exec "$@"'
pump() { trap '' INT TERM HUP QUIT; ulimit -c 0; ulimit -f "$blocks"; exec cat >> "$1"; }
{ { { ( exec setsid sh -c "$leader" "$d" "$@" < /dev/null >&3 2>&4 3>&- 4>&- )
      code=$?; up=; read -r up rest < /proc/uptime
      printf '%s %s\n' "$code" "$up" > "$d/exit"
    } 2> /dev/null 4>&1 > /dev/null | pump "$d/stderr" 3>&-
  } 3>&1 > /dev/null | pump "$d/stdout"
}
"""


class Exit:
    """How a command ended: a shell's exit code (128 + signal), and the machine's uptime then, if known."""

    def __init__(self, code: int, uptime: float | None) -> None:
        self.code = code
        self.uptime = uptime


class Process:
    """One attempt of one command, whoever started it."""

    def __init__(self, directory: str, marker: str, adopts: bool) -> None:
        self.directory = directory
        self.adopts = adopts
        self.started = boottime()
        self._ended: float | None = None
        self._marker = f"{MARKER}={marker}".encode()
        self._child: subprocess.Popen[bytes] | None = None
        self._wrapper: Stat | None = None
        self._pidfd = -1
        self._ours: dict[tuple[int, int], bool] = {}

    @classmethod
    def open(
        cls, job: Job, name: str, command: str, adopts: bool = False, environment: dict[str, str] | None = None
    ) -> Process:
        """Start the attempt `name`, or find it again when it was started before. Raise OSError.

        `adopts` says that every child of this very process belongs to the command, see prctl.py; it may change as
        other commands come and go. The command's `environment` is the runner's own, unless given.
        """
        directory = os.path.join(job.path("children"), name)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        process = cls(directory, f"{job.run_id}.{name}", adopts)
        if os.path.exists(process.path("wrapper")):
            process._attach()
            process._date_back()
        else:
            process._start(job.working_directory, command, environment)
            process._attach()
        return process

    def path(self, name: str) -> str:
        """A file of this attempt."""
        return os.path.join(self.directory, name)

    def wait(self, seconds: float) -> None:
        """Return when the wrapper is gone, or after `seconds`."""
        if self._pidfd < 0:
            time.sleep(seconds if self.running() else 0)
            return
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll(seconds * 1000)

    def watch(self, poll: select.poll) -> None:
        """Have `poll` return when the wrapper goes. One that is gone already would only make it spin."""
        if self._pidfd >= 0 and self.running():
            poll.register(self._pidfd, select.POLLIN)

    def running(self) -> bool:
        """Whether the wrapper lives: until then output may still come."""
        if self._child is not None:
            self._child.poll()
        return self._wrapper is not None and is_alive(self._wrapper)

    def exit(self) -> Exit | None:
        """The command's exit once it is written down; None for good when the wrapper was killed too.

        None too when it says something that the wrapper never writes: the command may reach the file.
        """
        written = _EXIT.fullmatch(_read(self.path("exit")))
        if written is None:
            return None
        return Exit(int(written[1]), float(written[2]) if written[2] else None)

    def ended(self) -> bool:
        """Whether the command itself is over; what it has left may still write."""
        return self.exit() is not None or not self.running()

    def seconds(self) -> float:
        """How long the command ran, or has run; to 10 ms when the runner was restarted meanwhile."""
        if self._ended is None and (written := self.exit()):
            known = written.uptime if self._child is None else None
            self._ended = boottime() if known is None else known
        return max(0.0, (boottime() if self._ended is None else self._ended) - self.started)

    def members(self) -> list[int]:
        """Every live process of the command: its session, what carries its marker, and all their descendants.

        Of the runner's orphans all with `adopts`, else those that hold the command's streams.

        The wrapper and the pumps are not among them: they end by themselves when the streams close. Nor are
        processes of another user (sudo): they are beyond the runner's power and end with the sandbox.
        """
        if self._wrapper is None:
            return []
        leader = self.leader()
        processes = all_processes()
        infrastructure = {stat.pid for stat in processes if stat.session == self._wrapper.session}
        found = {stat.pid for stat in processes if self._belongs(stat, leader)}
        if not self.adopts:
            found |= _holders(processes, infrastructure)
        parents = found | {self._wrapper.pid} | ({os.getpid()} if self.adopts else set())
        while grown := {stat.pid for stat in processes if stat.ppid in parents and stat.pid not in parents}:
            parents |= grown
        others = infrastructure | {self._wrapper.pid, os.getpid()}
        return sorted(pid for pid in parents - others if _may_signal(pid))

    def leader(self) -> Stat | None:
        """The command's first process; None before it is known."""
        return _parsed(_read(self.path("leader")))

    def signal(self, number: int) -> None:
        """Send to every member."""
        for pid in self.members():
            _kill(pid, number)

    def abandon(self, number: int) -> None:
        """Send to the wrapper and the pumps, which then stop waiting for whoever holds the streams."""
        if self._wrapper is not None and is_alive(self._wrapper):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._wrapper.pid, number)

    def close(self) -> None:
        """Give back what the runner holds of it, and reap what was left to the runner as its reaper."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._child is not None:
            self._child.wait()
        if self.adopts:
            reap()

    def _start(self, working_directory: str, command: str, environment: dict[str, str] | None) -> None:
        environment = {**(environment or os.environ), MARKER: self._marker.decode().partition("=")[2]}
        shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
        blocks = str(OUTPUT_FILE_LIMIT_BYTES // _ULIMIT_BLOCK_BYTES)
        os.makedirs(working_directory, exist_ok=True)
        self._child = subprocess.Popen(
            ["/bin/sh", "-c", _WRAPPER, "sandstream", self.directory, blocks, shell, "-l", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=working_directory,
            env=environment,
            start_new_session=True,
        )

    def _attach(self) -> None:
        """Learn who runs the attempt from the claim; the line follows the creation of the file at once."""
        patience = time.monotonic() + CLAIM_SECONDS
        while not (text := _read(self.path("wrapper"))).endswith("\n"):
            # 125: another wrapper has the claim, and may be about to write into it.
            given_up = self._child is not None and self._child.poll() not in (None, 125)
            if given_up or time.monotonic() > patience:
                return
            time.sleep(0.001)
        self._wrapper = _parsed(text)
        if self._wrapper is None or not hasattr(os, "pidfd_open"):
            return
        try:
            self._pidfd = os.pidfd_open(self._wrapper.pid)
        except OSError:
            return  # gone already, or a kernel before 5.3: then wait() looks by itself

    def _date_back(self) -> None:
        if self._wrapper is not None and self._wrapper.start:
            self.started = min(self.started, self._wrapper.start / _TICKS_PER_SECOND)

    def _belongs(self, stat: Stat, leader: Stat | None) -> bool:
        if leader is not None and leader.pid in (stat.pgrp, stat.session):
            return True
        key = (stat.pid, stat.start)
        if key not in self._ours:
            self._ours[key] = self._marker in read_environ(stat.pid).split(b"\0")
        return self._ours[key]


def wait_for_any(processes: Iterable[Process], seconds: float) -> None:
    """Return when one more wrapper is gone, or after `seconds`."""
    poll = select.poll()
    for process in processes:
        process.watch(poll)
    poll.poll(seconds * 1000)


def _holders(processes: list[Stat], infrastructure: set[int]) -> set[int]:
    """The children of this process that hold a pipe to one of the pumps."""
    pipes = set().union(*map(read_pipes, infrastructure))
    children = {stat.pid for stat in processes if stat.ppid == os.getpid()} - infrastructure
    return {pid for pid in children if not pipes.isdisjoint(read_pipes(pid))}


def reap() -> None:
    """Reap every child that is dead: a zombie looks alive to whoever sends it a signal."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _read(path: str) -> str:
    """The file's text; empty when it is none that a wrapper makes.

    The command may put anything in its place, and opening a FIFO would wait for a writer.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        raw = os.read(fd, _LINE_BYTES) if S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        raw = b""
    finally:
        os.close(fd)
    return raw.decode("utf-8", "replace")


def _parsed(line: str) -> Stat | None:
    """The process of a line that a wrapper wrote; None for what is no such line."""
    try:
        found = parse_stat(line)
    except ValueError:
        return None
    return found if found is not None and 0 < found.pid <= _MAX_PID else None


def _may_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)

"""Programs that run the command in their arguments: what that command is."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from .values import NEXT, UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .simple import Simple

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")


@dataclass(frozen=True)
class Wrapper:
    """Its options that take a value, and how many words of its own come before the command."""

    valued: tuple[str, ...] = ()
    own: int = 0


_AS_USER = Wrapper(("-u", "-g", "-h", "-p", "-C", "-r", "-t", "-U", "-D", "--user", "--group"))
_XARGS = ("-I", "-i", "-n", "-P", "-L", "-d", "-s", "-a", "-E", "--max-args", "--max-procs", "--delimiter", "--replace")
WRAPPERS = {
    **dict.fromkeys(("sudo", "doas", "pkexec", "gosu", "su-exec", "runuser"), _AS_USER),
    **dict.fromkeys(("builtin", "busybox", "toybox", "nohup", "setsid", "coproc", "fakeroot", "ssh-agent"), Wrapper()),
    **dict.fromkeys(("unbuffer", "dbus-run-session", "time.exe", "eatmydata", "catchsegv", "then", "do"), Wrapper()),
    **dict.fromkeys(("linux64", "linux32", "setarch"), Wrapper()),
    "env": Wrapper(("-u", "-C", "--unset", "--chdir")),
    "command": Wrapper(),
    "exec": Wrapper(("-a",)),
    "nice": Wrapper(("-n", "--adjustment")),
    "ionice": Wrapper(("-c", "-n", "-p", "--class", "--classdata")),
    "timeout": Wrapper(("-s", "-k", "--signal", "--kill-after"), own=1),
    "gtimeout": Wrapper(("-s", "-k", "--signal", "--kill-after"), own=1),
    "time": Wrapper(("-f", "-o", "--format", "--output")),
    "stdbuf": Wrapper(("-i", "-o", "-e", "--input", "--output", "--error")),
    "chrt": Wrapper(own=1),
    "taskset": Wrapper(own=1),
    "chroot": Wrapper(own=1),
    "flock": Wrapper(("-w", "-E", "--timeout"), own=1),
    "strace": Wrapper(("-o", "-e", "-s", "-E", "-p")),
    "ltrace": Wrapper(("-o", "-e", "-s")),
    "xvfb-run": Wrapper(("-s", "-n")),
    "watch": Wrapper(("-n", "--interval")),
    "xargs": Wrapper(_XARGS),
    "parallel": Wrapper(("-j", "--jobs", "-I", "--colsep", "-a")),
    "nsenter": Wrapper(("-t", "--target")),
    "unshare": Wrapper(),
    "prlimit": Wrapper(),
    "systemd-run": Wrapper(("-p", "--unit", "--uid")),
    "start-stop-daemon": Wrapper(),
}
LIMITS = ("timeout", "gtimeout")


def inside(simple: Simple) -> tuple[str, ...]:
    """The words of the command that a wrapper runs; none when it runs nothing."""
    if simple.name == "command" and simple.has("-v", "-V"):
        return ()
    wrapper, words = WRAPPERS[simple.name], list(simple.arguments)
    if simple.name == "env" and (split := simple.value("-S", "--split-string")) is not None:
        return tuple(_split(split)) + tuple(words[words.index("-S") + 2 :] if "-S" in words else ())
    while words and (words[0].startswith("-") or _ASSIGNMENT.match(words[0])):
        option = words.pop(0)
        if option == "--":
            break
        if option in wrapper.valued and words:
            del words[0]
    return tuple(words[wrapper.own :])


def script(simple: Simple) -> str | None:
    """The shell text in an option, as of `su -c` or `flock … -c`; None when there is none."""
    if simple.name in ("su", "runuser", "flock", "script"):
        return simple.value("-c", "--command")
    return None


def supplied(simple: Simple, words: tuple[str, ...]) -> tuple[str, ...]:
    """The command of `xargs` or `parallel` with what they read, or read at run time, in its place."""
    words = words or ("echo",)
    given = UNKNOWN if simple.stdin is None else simple.stdin
    replaced = simple.value("-I", "--replace") or ("{}" if simple.name == "parallel" else None)
    if ":::" in words:
        place = words.index(":::")
        words, given = words[:place], " ".join(words[place + 1 :])
    if replaced and any(replaced in word for word in words):
        return tuple(word.replace(replaced, given.strip()) for word in words)
    return (*words, *re.split(rf"[\s\0{NEXT}]+", given.strip()))


def found(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The commands that `find` runs, with what it finds as an unknown word."""
    commands: list[tuple[str, ...]] = []
    for place, word in enumerate(words):
        if word in ("-exec", "-execdir", "-ok", "-okdir"):
            rest = words[place + 1 :]
            ends = [
                end for end, one in enumerate(rest) if one == ";" or (one == "+" and rest[end - 1 : end] == ("{}",))
            ]
            commands.append(tuple(one.replace("{}", UNKNOWN) for one in rest[: ends[0] if ends else None]))
    return [command for command in commands if command]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return [UNKNOWN]

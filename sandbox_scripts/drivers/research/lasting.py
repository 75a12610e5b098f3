"""Rules `background` and `never-ends`: what would go on after the step, or keep it from ending."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .simple import Simple

    Rule = Callable[[Simple], Iterator[str]]

BACKGROUND, ENDLESS = "background", "never-ends"
_ASKING = ("--version", "--help", "-V", "-h", "-help", "-version")
_LOOKING = ("status", "is-active", "is-enabled", "is-failed", "show", "cat", "--version", "--help")
_EDITORS = ("vim", "vi", "nvim", "view", "nano", "pico", "emacs", "micro", "joe", "helix", "hx", "mc")
_SCREENS = ("htop", "btop", "atop", "iotop", "less", "more", "most", "man", "tmux", "screen", "watch", "ncdu", "nmtui")
_CONSOLES = (
    *("python", "python2", "python3", "node", "irb", "ipython", "php", "lua", "R", "ghci", "sqlite3", "gdb", "ftp"),
    *("bc", "telnet"),
)
_FOLLOWERS = ("tail", "journalctl", "docker", "kubectl", "dmesg", "podman", "multitail")
_STARTERS = ("nohup", "setsid", "disown", "daemonize", "daemon", "start-stop-daemon", "coproc", "at", "batch", "bg")
_SERVERS = ("http.server", "SimpleHTTPServer", "smtpd")


def starts(simple: Simple) -> Iterator[str]:
    """What exists to leave something running."""
    if not set(simple.arguments) & set(_ASKING):
        yield BACKGROUND


def services(simple: Simple) -> Iterator[str]:
    """`systemctl`, `service`: anything but looking."""
    if simple.arguments and not any(word in _LOOKING or word.startswith("list-") for word in simple.arguments):
        yield BACKGROUND


def schedules(simple: Simple) -> Iterator[str]:
    """`crontab`, unless it lists."""
    if not simple.has("-l"):
        yield BACKGROUND


def detaches(simple: Simple) -> Iterator[str]:
    """An option that says so."""
    words = simple.arguments
    if any(word.startswith(("--daemon", "--detach", "--background")) for word in words):
        yield BACKGROUND
    if simple.name in ("docker", "podman") and {"run", "up"} & set(words) and simple.has("-d"):
        yield BACKGROUND
    if simple.name in ("gunicorn", "screen", "tmux", "uwsgi") and {"-D", "-dm", "-dmS", "-d"} & set(words):
        yield BACKGROUND
    if simple.name in ("wget", "aria2c") and {"-b", "-D"} & set(words):
        yield BACKGROUND


def waits(simple: Simple) -> Iterator[str]:
    """A program that ends when somebody at a keyboard says so. A page that is piped on is only text."""
    if not set(simple.arguments) & set(_ASKING):
        yield ENDLESS


def shows(simple: Simple) -> Iterator[str]:
    """`top`, unless it is told how often."""
    if not simple.has("-n", "-b") or (simple.has("-b") and not simple.has("-n")):
        yield ENDLESS


def follows(simple: Simple) -> Iterator[str]:
    """`tail -f`, `docker logs -f`; not `docker -f` of something else."""
    words = simple.arguments
    is_log = simple.name in ("tail", "journalctl", "multitail") or "logs" in words
    if simple.has("--follow", "--retry") or (is_log and simple.has("-f", "-F")):
        yield ENDLESS
    if simple.name == "dmesg" and simple.has("-w", "-W"):
        yield ENDLESS


def asks(simple: Simple) -> Iterator[str]:
    """A console without a program to run, and without text to read."""
    if simple.stdin is None and not simple.operands() and not simple.has("-c", "-e", "-m", "-r", "-p", *_ASKING):
        yield ENDLESS


def reads(simple: Simple) -> Iterator[str]:
    """`read` from nobody, without an end to its patience."""
    if simple.stdin is None and not simple.has("-t", "-u"):
        yield ENDLESS


def sleeps(simple: Simple) -> Iterator[str]:
    """`sleep infinity`."""
    if any(word.startswith("inf") for word in simple.arguments):
        yield ENDLESS


def pings(simple: Simple) -> Iterator[str]:
    """`ping` without a count."""
    if not simple.has("-c", "-w", *_ASKING):
        yield ENDLESS


def listens(simple: Simple) -> Iterator[str]:
    """`nc -l` without a patience."""
    if simple.has("-l", "--listen") and not simple.has("-w", "-q"):
        yield ENDLESS


def serves(simple: Simple) -> Iterator[str]:
    """`python -m http.server`, and `python -i`."""
    yield from asks(simple)
    if simple.arguments[:1] == ("-i",) and simple.stdin is None:
        yield ENDLESS
    if simple.value("-m") in _SERVERS:
        yield ENDLESS


def monitors(simple: Simple) -> Iterator[str]:
    """`inotifywait -m`."""
    if simple.has("-m", "--monitor"):
        yield ENDLESS


BACKGROUND_RULES: dict[str, Rule] = {
    **dict.fromkeys(_STARTERS, starts),
    **dict.fromkeys(("systemctl", "service", "rc-service"), services),
    **dict.fromkeys(("docker", "podman", "gunicorn", "screen", "tmux", "uwsgi", "wget", "aria2c"), detaches),
    **dict.fromkeys(("redis-server", "mongod", "celery", "pm2", "sshd", "dockerd", "caddy", "socat"), detaches),
    "crontab": schedules,
}
ENDLESS_RULES: dict[str, Rule] = {
    **dict.fromkeys((*_EDITORS, *_SCREENS), waits),
    **dict.fromkeys(_CONSOLES, asks),
    **dict.fromkeys(_FOLLOWERS, follows),
    **dict.fromkeys(("python", "python2", "python3"), serves),
    **dict.fromkeys(("nc", "ncat", "netcat"), listens),
    "top": shows,
    "read": reads,
    "sleep": sleeps,
    "ping": pings,
    "inotifywait": monitors,
}

"""Paths as a command names them, and the places that matter: roots, homes, devices, the runner's own folder.

A glob or what is unknown matches whatever it could match, one component at a time.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re

from .scope import HOME
from .values import MARKS

LONGEST = 4096  # what Linux takes for a path
DEEPEST = 8  # nothing that matters is deeper
OURS = f"{HOME}/.sandstream"
HOMES = ("/root", "/home/*")
SHARED = "/tmp"  # noqa: S108  what it is, not where we write
SYSTEM = (
    *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media", "/mnt", "/opt"),
    *("/proc", "/run", "/sbin", "/srv", "/sys", "/usr", "/var", "/usr/bin", "/usr/lib", "/usr/sbin", "/usr/share"),
    *("/usr/local", "/usr/local/bin", "/usr/local/lib", "/var/lib", "/var/log", "/etc/ssl", SHARED),
)
LOGS = ("/var/log", f"{HOME}/.bash_history", "/root/.bash_history", f"{HOME}/.zsh_history", OURS)
_CREDENTIALS = ("/proc/*/environ", "/proc/*/task/*/environ", "/proc/*/mem", "/proc/*/auxv", OURS)
_ACCOUNTS = ("/etc/passwd", "/etc/shadow", "/etc/sudoers", "/etc/sudoers.d", "/etc/group", "/etc/gshadow")
_HARMLESS = re.compile(r"/dev/(null|zero|full|u?random|tty|std(in|out|err)|fd(/.*)?|shm(/.*)?|pts(/.*)?|ptmx)")
_MARK = re.compile(f"[{''.join(MARKS)}]")
_GLOB = re.compile(r"[*?\[]")
_LITERAL = re.compile(r"\[[^\]]*\]|[*?.]")


def absolute(path: str, standing: str) -> str:
    """The path from the root, without `.` and `..`, whatever links may be on it."""
    joined = posixpath.normpath(posixpath.join(standing, path[:LONGEST]))
    return "/" + joined.lstrip("/") if joined.startswith("/") else joined


def is_root(path: str, standing: str, homes: bool = True) -> bool:
    """Whether deleting this would take the system or a home, as a whole or all that is in it."""
    whole = absolute(path, standing)
    contents = _without_globs(whole)
    if contents != whole and _fits(contents, (SHARED,)):
        return False
    return _fits(contents, SYSTEM) or (homes and _fits(contents, HOMES))


def is_glob(path: str) -> bool:
    """Whether it may name several files."""
    return bool(_GLOB.search(path))


def is_system(path: str, standing: str) -> bool:
    """Whether this is the system's, at any depth."""
    whole = absolute(path, standing)
    system = [place for place in SYSTEM if place not in ("/", "/home", "/mnt", "/media", "/opt", "/srv", SHARED)]
    return any(_fits(one, tuple(system)) for one in _above(whole)) and not _HARMLESS.fullmatch(whole)


def is_ours(path: str, standing: str) -> bool:
    """Whether this is in the runner's folder, or is it."""
    return any(_fits(one, (OURS,)) for one in _above(absolute(path, standing)) if one.startswith(HOME))


def is_log(path: str, standing: str) -> bool:
    """Whether what was done can be read here."""
    return any(_fits(one, LOGS) and not _bare(one) for one in _above(absolute(path, standing)))


def is_credential(path: str, standing: str) -> bool:
    """Whether the runner's token or environment can be read here."""
    return any(_fits(one, _CREDENTIALS) and not _bare(one) for one in _above(absolute(path, standing)))


def is_account(path: str, standing: str) -> bool:
    """Whether this says who may do what."""
    return any(one in _ACCOUNTS for one in _above(absolute(path, standing)))


def is_device(path: str, standing: str) -> bool:
    """Whether writing here reaches hardware or the kernel."""
    whole = absolute(path, standing)
    return whole.startswith(("/dev/", "/proc/", "/sys/")) and not _HARMLESS.fullmatch(whole)


def is_network(path: str) -> bool:
    """Whether bash opens a connection for it."""
    return bool(re.match(r"/+dev/+(tcp|udp)/", path))


def _above(path: str) -> list[str]:
    """The path and the folders it is in, without the root."""
    parts = path.strip("/").split("/")[:DEEPEST]
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))] if path.startswith("/") else []


def _bare(path: str) -> bool:
    """Whether the last component says nothing: it would match everywhere."""
    return not _LITERAL.sub("", _MARK.sub("", path.rsplit("/", 1)[-1]))


def _without_globs(path: str) -> str:
    """Without trailing components that take everything in the folder."""
    while path.startswith("/") and path != "/":
        above, last = posixpath.split(path)
        if not is_glob(last) or _LITERAL.sub("", last).strip("!"):
            break
        path = above
    return path


def _fits(path: str, places: tuple[str, ...]) -> bool:
    """Whether it may be one of these."""
    parts = _MARK.sub("*", path).split("/")
    for place in places:
        named = place.split("/")
        if len(named) == len(parts) and all(_same(*pair) for pair in zip(parts, named)):
            return True
    return False


def _same(part: str, named: str) -> bool:
    if named.startswith(".") and not part.startswith("."):
        return False  # globs leave hidden files out
    return fnmatch.fnmatchcase(named, part) or fnmatch.fnmatchcase(part, named)

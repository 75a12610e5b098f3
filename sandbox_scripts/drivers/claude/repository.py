"""Repositories of the session's resources, cloned at the start. One that fails is told, and the session goes on.

The credential is not here: the sandbox's egress rule adds it to requests for the repository's host.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .record import Record

# Of one call of git.
CLONE_SECONDS = 300.0
POLL_SECONDS = 0.1
CLONING = ".cloning"
_SHA = re.compile(r"[0-9a-fA-F]{4,64}")
# What git says, and the SDK's type for it; the first that fits.
_MEANINGS = (
    ("repository_authentication_error", ("authentication failed", "could not read username", "error: 401")),
    ("repository_forbidden_error", ("error: 403", "permission denied", "access denied")),
    ("repository_not_found_error", ("not found", "error: 404", "does not exist")),
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_ALLOW_PROTOCOL": "http:https",
    "LC_ALL": "C",
}


class GitFailed(Exception):
    """`type` as in BetaManagedAgentsSessionErrorEvent."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.type = kind


def never() -> None:
    """Nothing cuts the cloning short."""


def clone_all(resources: list[dict[str, Any]], record: Record, cut_short: Callable[[], object] = never) -> None:
    """Clone what is not there yet, with an event for each. Raise OSError, and what `cut_short` raises.

    Once `cut_short` returns something, git is ended and nothing more is cloned; the events say so.
    """
    for resource in resources:
        url, place = str(resource["url"]), os.path.expanduser(str(resource["mount_path"]))
        if os.path.isdir(place) and os.listdir(place):
            continue
        try:
            clone(url, place, resource.get("checkout") or {}, cut_short)
        except GitFailed as error:
            told = {"type": error.type, "message": str(error), "retry_status": {"type": "retrying"}}
            record.say("session.error", {"error": {**told, "repository_url": url}})
        else:
            record.say("sandbox.repository_cloned", {"url": url, "mount_path": str(resource["mount_path"])})


def clone(url: str, place: str, checkout: dict[str, Any], cut_short: Callable[[], object] = never) -> None:
    """Clone and check out a branch ({type: branch, name}) or a commit ({type: commit, sha}).

    All of it is there in the end, or nothing. Raise GitFailed, and what `cut_short` raises.
    """
    place = os.path.realpath(place)
    draft = os.path.join(os.path.dirname(place), f".{os.path.basename(place)}{CLONING}")
    try:
        _remove(draft)  # of an earlier attempt that was killed
        os.makedirs(os.path.dirname(place), exist_ok=True)
        _fill(draft, url, checkout, cut_short)
        os.rename(draft, place)
    except OSError as error:
        raise GitFailed("repository_clone_error", f"{type(error).__name__}: {error}"[:500]) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(draft)


def _fill(draft: str, url: str, checkout: dict[str, Any], cut_short: Callable[[], object]) -> None:
    branch = [f"--branch={checkout['name']}"] if checkout.get("type") == "branch" else []
    _git(["clone", "--quiet", *branch, "--", url, draft], "repository_clone_error", cut_short)
    if checkout.get("type") == "commit":
        sha = str(checkout["sha"])
        if not _SHA.fullmatch(sha):
            raise GitFailed("repository_checkout_error", f"{sha[:80]!r} is no commit")
        _git(["-C", draft, "checkout", "--quiet", "--detach", sha], "repository_checkout_error", cut_short)


def _remove(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.exists(path):
        shutil.rmtree(path)


def _git(arguments: list[str], otherwise: str, cut_short: Callable[[], object]) -> None:
    _go_on(otherwise, cut_short)
    try:
        git = _started(arguments)
    except FileNotFoundError as error:
        raise GitFailed(otherwise, "there is no git here") from error
    with git:
        try:
            said = _said(git, otherwise, cut_short)
        finally:
            _end(git)
    if git.returncode:
        raise GitFailed(_meaning(said, otherwise), said[-500:] or f"git ended with {git.returncode}")


def _started(arguments: list[str]) -> subprocess.Popen[bytes]:
    safe = ["-c", "core.hooksPath=/dev/null", "-c", "credential.helper="]
    return subprocess.Popen(
        ["git", *safe, *arguments],  # noqa: S607 the sandbox's own git
        env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _said(git: subprocess.Popen[bytes], otherwise: str, cut_short: Callable[[], object]) -> str:
    """What git has written to stderr once it is done. Raise GitFailed when that is not waited for."""
    patience = time.monotonic() + CLONE_SECONDS
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return git.communicate(timeout=POLL_SECONDS)[1].decode("utf-8", "replace").strip()
        _go_on(otherwise, cut_short)
        if time.monotonic() > patience:
            raise GitFailed(otherwise, f"git took more than {CLONE_SECONDS:g} seconds")


def _go_on(otherwise: str, cut_short: Callable[[], object]) -> None:
    if (reason := cut_short()) is not None:
        raise GitFailed(otherwise, f"the run was cut short: {reason}"[:500])


def _end(git: subprocess.Popen[bytes]) -> None:
    """With all that it started, if it still runs."""
    if git.poll() is None:
        os.killpg(git.pid, signal.SIGKILL)


def _meaning(said: str, otherwise: str) -> str:
    lowered = said.lower()
    if "remote branch" in lowered:
        return "repository_checkout_error"
    for kind, signs in _MEANINGS:
        if any(sign in lowered for sign in signs):
            return kind
    return otherwise

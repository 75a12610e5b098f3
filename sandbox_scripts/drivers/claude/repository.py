"""Repositories of the session's resources, cloned at the start. One that fails is told, and the session goes on.

The credential is not here: the sandbox's egress rule adds it to requests for the repository's host.
"""

from __future__ import annotations

import os
import re
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .record import Record

CLONE_SECONDS = 300.0
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


def clone_all(resources: list[dict[str, Any]], record: Record) -> None:
    """Clone what is not there yet, with an event for each. Raise OSError."""
    for resource in resources:
        url, place = str(resource["url"]), os.path.expanduser(str(resource["mount_path"]))
        if os.path.isdir(place) and os.listdir(place):
            continue
        try:
            clone(url, place, resource.get("checkout") or {})
        except GitFailed as error:
            told = {"type": error.type, "message": str(error), "retry_status": {"type": "retrying"}}
            record.say("session.error", {"error": {**told, "repository_url": url}})
        else:
            record.say("sandbox.repository_cloned", {"url": url, "mount_path": str(resource["mount_path"])})


def clone(url: str, place: str, checkout: dict[str, Any]) -> None:
    """Clone and check out a branch ({type: branch, name}) or a commit ({type: commit, sha}). Raise GitFailed."""
    branch = [f"--branch={checkout['name']}"] if checkout.get("type") == "branch" else []
    _git(["clone", "--quiet", *branch, "--", url, place], "repository_clone_error")
    if checkout.get("type") == "commit":
        sha = str(checkout["sha"])
        if not _SHA.fullmatch(sha):
            raise GitFailed("repository_checkout_error", f"{sha[:80]!r} is no commit")
        _git(["-C", place, "checkout", "--quiet", "--detach", sha], "repository_checkout_error")


def _git(arguments: list[str], otherwise: str) -> None:
    safe = ["-c", "core.hooksPath=/dev/null", "-c", "credential.helper="]
    try:
        done = subprocess.run(
            ["git", *safe, *arguments],  # noqa: S607 the sandbox's own git
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CLONE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GitFailed(otherwise, f"git took more than {CLONE_SECONDS:g} seconds") from error
    except FileNotFoundError as error:
        raise GitFailed(otherwise, "there is no git here") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise GitFailed(_meaning(said, otherwise), said[-500:] or f"git ended with {done.returncode}")


def _meaning(said: str, otherwise: str) -> str:
    lowered = said.lower()
    if "remote branch" in lowered:
        return "repository_checkout_error"
    for kind, signs in _MEANINGS:
        if any(sign in lowered for sign in signs):
            return kind
    return otherwise

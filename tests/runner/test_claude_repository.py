"""Repositories are cloned whole or not at all, and what fails is told."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_scripts.drivers.claude import repository
from sandbox_scripts.drivers.claude.record import Record
from sandbox_scripts.errors import Unavailable
from sandbox_scripts.procfs import all_processes, read_environ
from sandbox_scripts.spool import Spool
from tests.runner.conftest import until


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[str]:
    """The URL of a repository that is served over http, as files."""
    source = tmp_path / "source"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source)]
    source.mkdir()
    (source / "file").write_text("x")
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "one"], ["update-server-info"]):
        subprocess.run([*git, *arguments], check=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(source))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/.git"
    server.shutdown()
    server.server_close()


class Silent(http.server.BaseHTTPRequestHandler):
    """A server that never answers."""

    asked = threading.Event()
    over = threading.Event()

    def do_GET(self) -> None:
        """Say that somebody waits."""
        self.asked.set()
        self.over.wait(60)


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a repository that never comes."""
    Silent.asked.clear()
    Silent.over.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/never.git"
    Silent.over.set()
    server.shutdown()
    server.server_close()


def gits(mark: str) -> list[int]:
    """Live processes that were started with that in their environment."""
    return [stat.pid for stat in all_processes() if mark.encode() in read_environ(stat.pid)]


def test_repositories_are_cloned_once_and_failures_are_told(remote: str, tmp_path: Path) -> None:
    """Each with its event; the session goes on without the one that failed."""
    record = Record(Spool(str(tmp_path / "spool")), "0123456789")
    there, gone, branch = (str(tmp_path / name) for name in ("there", "gone", "branch"))
    wanted: list[dict[str, Any]] = [
        {"url": remote, "mount_path": there, "checkout": {"type": "branch", "name": "main"}},
        {"url": remote.replace(".git", "nowhere"), "mount_path": gone, "checkout": None},
        {"url": remote, "mount_path": branch, "checkout": {"type": "branch", "name": "nope"}},
    ]
    repository.clone_all(wanted, record)
    repository.clone_all(wanted[:1], record)
    events = [(event["type"], event["data"]) for event in Spool(str(tmp_path / "spool")).events()]
    assert [kind for kind, _ in events] == ["sandbox.repository_cloned", "session.error", "session.error"]
    errors = [data["error"] for _, data in events[1:]]
    assert [error["type"] for error in errors] == ["repository_not_found_error", "repository_checkout_error"]
    assert {error["retry_status"]["type"] for error in errors} == {"retrying"}
    assert Path(there, "file").read_text() == "x"


def test_a_clone_that_is_cut_short_leaves_nothing(
    silent: str, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder that the next start would take for cloned, no process; the events say why, and what follows waits."""
    monkeypatch.setenv("SANDSTREAM_TEST", mark := f"clone-{os.getpid()}-{id(tmp_path)}")
    record = Record(Spool(str(tmp_path / "spool")), "0123456789")
    place, next_place = tmp_path / "work/place", tmp_path / "work/next"
    seen: list[bool] = []

    def cut_short() -> str | None:
        if not Silent.asked.is_set():
            return None
        seen.append(place.exists() or not gits(mark))
        return "cancelled"

    wanted = [{"url": silent, "mount_path": str(place)}, {"url": remote, "mount_path": str(next_place)}]
    repository.clone_all(wanted, record, cut_short)
    errors = [event["data"]["error"] for event in Spool(str(tmp_path / "spool")).events()]
    assert [error["message"] for error in errors] == ["the run was cut short: cancelled"] * 2
    assert seen[0] is False
    until(lambda: not gits(mark))
    assert list((tmp_path / "work").iterdir()) == []


def test_an_alarm_ends_git_too(silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `cut_short` raises comes out, and nothing goes on behind it."""
    monkeypatch.setenv("SANDSTREAM_TEST", mark := f"alarm-{os.getpid()}-{id(tmp_path)}")

    def alarm() -> None:
        if Silent.asked.is_set():
            raise Unavailable("alarm")

    with pytest.raises(Unavailable):
        repository.clone(silent, str(tmp_path / "work/place"), {}, alarm)
    until(lambda: not gits(mark))
    assert list((tmp_path / "work").iterdir()) == []


def test_a_clone_that_takes_too_long_is_tried_again(
    silent: str, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next start, which also clears away what one that was killed has left; an empty folder is filled."""
    place, left = tmp_path / "work/place", tmp_path / f"work/.place{repository.CLONING}"
    monkeypatch.setattr(repository, "CLONE_SECONDS", 0.05)
    with pytest.raises(repository.GitFailed, match="took more than"):
        repository.clone(silent, str(place), {})
    assert not place.exists()
    monkeypatch.undo()
    for folder in (left / ".git", place):
        folder.mkdir(parents=True)
    record = Record(Spool(str(tmp_path / "spool")), "0123456789")
    repository.clone_all([{"url": remote, "mount_path": str(place)}], record)
    assert (place / "file").read_text() == "x"
    assert not left.exists()


def test_a_commit_that_is_not_there_leaves_no_clone(remote: str, tmp_path: Path) -> None:
    """A clone at another commit would be taken for the right one by the next start."""
    with pytest.raises(repository.GitFailed):
        repository.clone(remote, str(tmp_path / "work/place"), {"type": "commit", "sha": "0" * 40})
    assert list((tmp_path / "work").iterdir()) == []


def test_a_place_that_cannot_be_made_is_told(remote: str, tmp_path: Path) -> None:
    """As any other failure of one repository."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(repository.GitFailed, match="FileExistsError"):
        repository.clone(remote, str(tmp_path / "file/place"), {})


@pytest.mark.parametrize("url", ["ext::sh -c touch% /tmp/x", "file:///etc", "--upload-pack=touch /tmp/x"])
def test_a_url_that_would_run_something_is_refused(url: str, tmp_path: Path) -> None:
    """Only http and https are spoken."""
    with pytest.raises(repository.GitFailed):
        repository.clone(url, str(tmp_path / "place"), {})


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            "fatal: could not read Username for 'https://x'",
            "repository_authentication_error",
        ),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "repository_forbidden_error"),
        ("fatal: repository 'https://x/' not found", "repository_not_found_error"),
        ("fatal: Remote branch nope not found in upstream origin", "repository_checkout_error"),
        ("fatal: the disk is full", "repository_clone_error"),
    ],
)
def test_what_git_says_has_a_type(said: str, kind: str) -> None:
    """As the SDK names them."""
    assert repository._meaning(said, "repository_clone_error") == kind

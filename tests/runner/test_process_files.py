"""The files of an attempt lie where the command can reach them: whatever it puts there, the runner goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox_scripts import process as process_module
from sandbox_scripts.job import Job
from sandbox_scripts.process import Process
from tests.runner.conftest import Open, ended


def asked(ask: Callable[[], object]) -> object:
    """Its answer. Raise AssertionError when it waits for somebody."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return answers[0]


@pytest.mark.parametrize("name", ["exit", "leader"])
@pytest.mark.parametrize("thing", ["fifo", "link", "directory", "nothing"])
def test_a_file_that_the_command_has_replaced_counts_as_absent(open_process: Open, name: str, thing: str) -> None:
    """A FIFO in its place would hold the runner for ever, and a link shows it what is somewhere else."""
    process = ended(open_process("true"))
    path = Path(process.path(name))
    elsewhere = path.rename(path.parent / "elsewhere")
    if thing == "fifo":
        os.mkfifo(path)
    elif thing == "link":
        path.symlink_to(elsewhere)
    elif thing == "directory":
        path.mkdir()
    assert asked(process.exit if name == "exit" else process.leader) is None
    assert asked(process.ended) is True
    assert asked(process.seconds) is not None


def test_a_claim_that_is_a_fifo_is_nobodys(open_process: Open, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that comes later does not wait for whoever made it."""
    monkeypatch.setattr(process_module, "CLAIM_SECONDS", 0.1)
    directory = Path(job.path("children/0-1"))
    directory.mkdir(parents=True)
    os.mkfifo(directory / "wrapper")
    process = asked(lambda: open_process("echo never"))
    assert isinstance(process, Process)
    assert not process.running()


@pytest.mark.parametrize(
    "text",
    [
        "x\n",
        "0",
        "\n",
        "1 y\n",
        "9999\n",
        "-1 2\n",
        "\u0663\n",
        "0 1e999\n",
        "0 nan\n",
        "0 1\n0 2\n",
        "0 " + "1" * 99_999,
    ],
)
def test_an_exit_that_no_wrapper_writes_is_unknown(open_process: Open, text: str) -> None:
    """The command may write there what it likes."""
    process = ended(open_process("true"))
    Path(process.path("exit")).write_text(text)
    assert process.exit() is None
    assert process.ended()


@pytest.mark.parametrize(
    "text", ["0 (sh)\n", f"{1 << 40} (sh)\n", "\u00b2 (sh)\n", "7 (sh) S " + "x " * 30 + "\n", "\n"]
)
def test_a_leader_that_no_wrapper_writes_is_unknown(open_process: Open, text: str) -> None:
    """No number that the kernel would read as somebody else, and nothing that is raised."""
    process = ended(open_process("true"))
    Path(process.path("leader")).write_text(text)
    assert process.leader() is None
    assert process.members() == []

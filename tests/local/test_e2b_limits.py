"""Limits of real processes: by control groups where they can be written, by signals where they cannot."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.e2b import limits as limits_module
from local.e2b.limits import CGROUPS, PREFIX, Limits, Uncaged, descendants
from tests.local.e2b_world import until

COUNTER = """
import os, sys
n = 0
while True:
    n += 1
    with open(sys.argv[1] + '.new', 'w') as f: f.write(str(n))
    os.rename(sys.argv[1] + '.new', sys.argv[1])
"""
needs_cgroups = pytest.mark.skipif(not os.access(CGROUPS / "memory", os.W_OK), reason="needs writable control groups")


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process, below another one, that counts in a file."""
    count = tmp_path / "count"
    shell = ["sh", "-c", '"$0" -c "$1" "$2" & wait', sys.executable, COUNTER, str(count)]
    process = subprocess.Popen(shell, start_new_session=True)
    try:
        yield process, count
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@needs_cgroups
async def test_a_group_freezes_measures_and_goes(counting: tuple[subprocess.Popen[bytes], Path]) -> None:
    """Frozen processes do nothing, thawed ones go on, use is measured, and no directory stays."""
    process, count = counting
    await until(count.exists, "it counts")
    cage = Limits(1 << 30, 64).cage("freezes")
    for member in descendants(process.pid):
        cage.attach(member.pid)
    await cage.freeze()
    before = count.read_text()
    used = cage.usage().cpu_seconds
    assert count.read_text() == before
    cage.thaw()
    await until(lambda: int(count.read_text()) > int(before), "it counts on")
    await until(lambda: cage.usage().cpu_seconds > used, "its time is measured")
    for member in descendants(process.pid):
        member.kill()
    process.wait()
    await cage.remove()
    assert not list(CGROUPS.glob(f"*/{PREFIX}-{os.getpid()}-freezes"))


@needs_cgroups
async def test_groups_of_dead_servers_are_swept() -> None:
    """What a killed server left is removed by the next one; a living server's groups are left alone."""
    dead = subprocess.Popen(["true"])  # noqa: ASYNC220 it takes a millisecond
    dead.wait()
    orphan = CGROUPS / "pids" / f"{PREFIX}-{dead.pid}-orphan"
    own = CGROUPS / "pids" / f"{PREFIX}-{os.getpid()}-own"
    orphan.mkdir()
    own.mkdir()
    try:
        Limits(1 << 30, 64)
        assert not orphan.exists()
        assert own.exists()
    finally:
        own.rmdir()


async def test_without_groups_signals_do(counting: tuple[subprocess.Popen[bytes], Path]) -> None:
    """The fallback stops what is below the first process and lets it go on, and adds up what it uses."""
    process, count = counting
    await until(count.exists, "it counts")
    cage = Uncaged("signals", Limits(1 << 30, 64))
    cage.attach(process.pid)
    await cage.freeze()
    before = count.read_text()
    assert [p.status() for p in descendants(process.pid)[1:]] == [psutil.STATUS_STOPPED]
    assert cage.usage().memory > 1 << 20
    assert count.read_text() == before
    cage.thaw()
    await until(lambda: int(count.read_text()) > int(before), "it counts on")
    await cage.remove()


def test_without_groups_there_are_resource_limits_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine whose control groups cannot be written still runs sandboxes, and is told once what it lacks."""
    monkeypatch.setattr(limits_module, "CGROUPS", tmp_path / "none")
    weaker = Limits(1 << 30, 64)
    assert isinstance(weaker.cage("a"), Uncaged)
    assert isinstance(weaker.cage("b"), Uncaged)
    assert weaker.rlimits() == {"RLIMIT_CORE": 0, "RLIMIT_DATA": 4 << 30, "RLIMIT_NPROC": 512}
    assert len([r for r in caplog.records if "cgroups cannot be written" in r.message]) == 1

"""The runner as one program: how it is started, what it refuses, what it imports, what it weighs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.runner import PUMP, runner
from functions.bundle import START
from sandbox_scripts.clock import boottime
from sandbox_scripts.job import Ending, State
from tests.runner.conftest import ROOT, RUNNER_PYTHON, Bench, command
from tests.runner.log_server import LogServer

# What may be imported before the first event is on its way: `threading`, `os`, and what they are made of.
LIGHT = {
    "collections", "fcntl", "functools", "genericpath", "heapq", "itertools", "keyword", "operator", "os", "posixpath",
    "reprlib", "stat", "threading", "types", "warnings", "zlib",
}  # fmt: skip
CORE = {"__main__", "c_json", "clock", "errors", "job", "log", "ship", "spool", "wire"}
# Prints at each connection what was imported for it. What the first thread imports from `control` on holds nobody up.
WITNESS = """
import sys, _thread
seen, first, waits = [], _thread.get_ident(), True
def witness(event, arguments):
    global waits
    waits = waits and arguments[:1] != ("sandbox_scripts.control",)
    if event == "import" and (waits or _thread.get_ident() != first):
        seen.append(arguments[0])
    elif event == "socket.connect":
        sys.stdout.write(" ".join(seen) + "\\n")
        seen.clear()
sys.addaudithook(witness)
"""
SOURCES = sorted((ROOT / "sandbox_scripts").rglob("*.py"))


@pytest.mark.parametrize("arguments", [START, ("-I",)], ids=["as the endpoints do", "by its name"])
def test_it_runs_as_one_file_isolated(bench: Bench, log: LogServer, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """From anywhere, in either way; the runner names itself by its file."""
    pyz = runner(tmp_path / "runner-0123456789abcdef.pyz")
    job = bench.job(command("echo hi"))
    assert subprocess.run([RUNNER_PYTHON, *arguments, pyz, job], cwd="/", timeout=60).returncode == 0
    assert bench.text("stdout") == "hi\n"
    assert log.of("run.started")[0]["runner"] == "runner-0123456789abcdef"
    assert log.of("run.started")[0]["python"].startswith("3.")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "no json", json.dumps({"version": 2}), None],
    ids=["empty", "list", "no fields", "no json", "other version", "missing"],
)
def test_a_job_file_that_cannot_be_used_is_exit_2(tmp_path: Path, text: str | None) -> None:
    """With a line on stderr that says why, and nothing sent anywhere."""
    path = tmp_path / "job.json"
    if text is not None:
        path.write_text(text)
    ran = subprocess.run([RUNNER_PYTHON, "-m", "sandbox_scripts", path], cwd=ROOT, capture_output=True, timeout=60)
    assert ran.returncode == 2
    assert b"job file" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_credentials_env_needs_the_token(bench: Bench) -> None:
    """Told by the name of what is missing."""
    bench.job(command("true"), credentials="env")
    assert bench.finish() == 2
    assert "SANDSTREAM_RUN_TOKEN" in (bench.directory / "runner.err").read_text()


def test_a_damaged_spool_is_not_continued(bench: Bench, log: LogServer) -> None:
    """Exit 1; no event under a number that may be taken."""
    bench.job(command("true"))
    (bench.directory / "spool.ndjson").write_text("garbage\n")
    assert bench.finish() == 1
    assert log.calls == []


def imported(source: Path) -> set[str]:
    tree = ast.parse(source.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}


# What the template has for a driver.
OFFERED = {
    "claude": {"claude_agent_sdk"},
    "research": {"anthropic", "openai", "pydantic", "tree_sitter", "tree_sitter_bash"},
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_only_the_standard_library_is_imported(source: Path) -> None:
    """Nothing of ours, nothing installed: the sandbox has only Python, and what a template adds."""
    roots = {name.partition(".")[0] for name in imported(source)}
    offered = {"template.py": {"e2b"}}.get(source.name) or OFFERED.get(source.parent.name, set())
    assert roots <= set(sys.stdlib_module_names) | {"_socket"} | offered


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_sources_are_python_3_9(source: Path) -> None:
    """No match statement, no newer grammar."""
    ast.parse(source.read_text(), feature_version=(3, 9))


def test_the_first_event_waits_for_no_heavy_import(bench: Bench, tmp_path: Path) -> None:
    """No json, re, enum, runpy, contextlib, IDNA or socket, and no driver: only what is light is imported first."""
    pyz, job = runner(tmp_path / "runner.pyz"), bench.job(command("true"))
    *flags, code = START
    ran = subprocess.run([RUNNER_PYTHON, *flags, WITNESS + code, pyz, job], capture_output=True, text=True, timeout=60)
    first = {name for name in ran.stdout.partition("\n")[0].split() if not name.startswith("_")}
    assert {name for name in first if name.partition(".")[0] != "sandbox_scripts"} <= LIGHT
    assert {name for name in first if "." in name} == {f"sandbox_scripts.{name}" for name in CORE}


def test_memory_is_flat_over_many_events(bench: Bench) -> None:
    """At most 32 MB, and the last tenth of 50,000 events needs no more than the first."""
    job = bench.job(command("true"))
    ran = subprocess.run(
        [RUNNER_PYTHON, "-c", PUMP, job, "50000"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = ran.stdout.splitlines()
    resident = [int(line.split()[2]) for line in lines[:-1]]
    peak = int(lines[-1].split()[-2])
    assert peak < 32 * 1024
    assert resident[-1] - resident[0] < 1024
    assert bench.log.last_n == 50_000


def test_a_run_leaves_no_file_outside_its_directory(bench: Bench, tmp_path: Path) -> None:
    """Everything of a run lies beside its job file, readable by its owner only."""
    bench.job(command("true"))
    assert bench.finish(bench.start(TMPDIR=str(tmp_path / "home"))) == 0
    assert {path.name for path in bench.directory.iterdir()} == {
        "children", "home", "job.json", "lock", "runner.err", "spool.ndjson", "state",
    }  # fmt: skip
    assert list(bench.home.iterdir()) == []
    assert (bench.directory / "spool.ndjson").stat().st_mode & 0o077 == 0
    assert (bench.directory / "children/0-1").stat().st_mode & 0o077 == 0


def test_the_state_is_kept_across_restarts(tmp_path: Path) -> None:
    """When the run first started, and how it decided to end: the two facts that are no events."""
    path = str(tmp_path / "state")
    first = State(path)
    assert State(path).started == first.started
    assert State(path).ending is None
    first.decide(Ending("failed", {"completed": 1}, {"type": "x"}))
    kept = State(path).ending
    assert kept is not None
    assert (kept.status, kept.result, kept.error) == ("failed", {"completed": 1}, {"type": "x"})


def test_after_another_boot_the_limit_starts_again(tmp_path: Path) -> None:
    """A start that lies in this machine's future was another machine's."""
    path = tmp_path / "state"
    State(str(path))
    path.write_text(json.dumps({"started": 1e12, "ending": None}))
    assert State(str(path)).started <= boottime()


def test_conceal_closes_the_runners_memory() -> None:
    """Not dumpable: another process of the same user cannot read its environment (root can)."""
    code = "import ctypes; from sandbox_scripts.prctl import conceal; conceal(); print(ctypes.CDLL(None).prctl(3))"
    ran = subprocess.run([RUNNER_PYTHON, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "0\n"

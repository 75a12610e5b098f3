"""The runner as one file: the same bytes for the same sources, and it runs."""

import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

from functions.bundle import build


def test_the_same_sources_give_the_same_file() -> None:
    """The name is the content's hash, so a template that has this name has this runner."""
    first, second = build(), build()
    assert first == second
    assert first.name.startswith("runner-")
    assert first.name.endswith(".pyz")


def test_every_source_is_in_it() -> None:
    """Nothing of the runner is left behind, and nothing else comes along."""
    package = Path(__file__).parents[2] / "sandbox_scripts"
    sources = {f"sandbox_scripts/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    sources |= {f"{path}c" for path in sources}
    names = set(zipfile.ZipFile(BytesIO(build().content)).namelist())
    assert sources <= names
    assert all(name == "__main__.py" or name.startswith("sandbox_scripts/") for name in names)


def test_every_process_makes_the_same() -> None:
    """Also with another hash seed: the name does not change from one container to the next."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", "from functions.bundle import build; print(build().name)"]
    for seed in ("0", "1", "2"):
        env = {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == build().name


def test_its_bytecode_is_used(tmp_path: Path) -> None:
    """The interpreter that made it loads bytecode from it: nothing is compiled at the start."""
    runner = tmp_path / "runner.pyz"
    runner.write_bytes(build().content)
    code = f"import sys; sys.path.insert(0, {str(runner)!r}); import sandbox_scripts.spool as s; print(s.__cached__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("spool.pyc")


def test_it_runs_by_itself(tmp_path: Path) -> None:
    """With nothing but an interpreter it starts, and says what is wrong with a job that is none."""
    runner = tmp_path / "runner.pyz"
    runner.write_bytes(build().content)
    (tmp_path / "job.json").write_text("{}")
    command = [sys.executable, "-I", str(runner), str(tmp_path / "job.json")]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode not in (0, 1)
    assert "job file" in done.stderr
    assert "Traceback" not in done.stderr

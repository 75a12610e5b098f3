"""Modal's side: what is registered, seen without an account."""

import subprocess
import sys
from pathlib import Path

from fastapi import FastAPI

ROOT = Path(__file__).parents[2]


def test_importing_it_needs_no_token() -> None:
    """A fresh process with an empty environment can import the app: no token, no setting, no work."""
    done = subprocess.run(
        [sys.executable, "-c", "import functions.app"], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pins_that_it_installs_are_there() -> None:
    """The image is built from a file in the repository."""
    assert (ROOT / "functions" / "requirements.txt").is_file()


def test_the_app_names_what_is_missing() -> None:
    """Started without settings it stops with a setting's name, as any program here does."""
    code = "from functions.app import web; web.local()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("setting ")


def test_the_local_stack_serves_the_same(settings: object) -> None:
    """What `create_api` makes is what Modal would serve: one app, its paths under /v1."""
    from functions.api import create_api
    from functions.settings import Settings

    assert isinstance(settings, Settings)
    made = create_api(settings)
    assert isinstance(made, FastAPI)
    assert all(path.startswith(("/v1/", "/healthz")) for path in made.openapi()["paths"])

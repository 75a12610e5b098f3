"""Modal's side: what is registered, seen without an account."""

import subprocess
import sys
from pathlib import Path

from functions.api import create_api
from functions.settings import Settings

ROOT = Path(__file__).parents[2]


def test_importing_it_needs_no_token() -> None:
    """A fresh process with an empty environment can import the app: no token, no setting, no work."""
    done = subprocess.run(
        [sys.executable, "-c", "import functions.app"], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_app_names_what_is_missing() -> None:
    """Started without settings it stops with a setting's name, as any program here does."""
    code = "from functions.app import web; web.local()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("setting ")


def test_these_are_the_endpoints(settings: Settings) -> None:
    """What `create_api` makes, and OpenAPI describes: no path more, none fewer."""
    described = create_api(settings).openapi()["paths"]
    assert {f"{method.upper()} {path}" for path, methods in described.items() for method in methods} == {
        "GET /healthz",
        "GET /v1/config",
        "POST /v1/hooks/e2b",
        "POST /v1/runs",
        "GET /v1/runs/{run_id}",
        "POST /v1/runs/{run_id}/cancel",
        "POST /v1/runs/{run_id}/ended",
        "POST /v1/agents",
        "GET /v1/agents",
        "GET /v1/agents/{agent_id}",
        "POST /v1/agents/{agent_id}",
        "POST /v1/agents/{agent_id}/archive",
        "GET /v1/agents/{agent_id}/versions",
        "POST /v1/environments",
        "GET /v1/environments",
        "GET /v1/environments/{environment_id}",
        "POST /v1/environments/{environment_id}",
        "DELETE /v1/environments/{environment_id}",
        "POST /v1/environments/{environment_id}/archive",
        "POST /v1/sessions",
        "GET /v1/sessions",
        "GET /v1/sessions/{session_id}",
        "POST /v1/sessions/{session_id}",
        "DELETE /v1/sessions/{session_id}",
        "POST /v1/sessions/{session_id}/archive",
        "GET /v1/sessions/{session_id}/events",
        "POST /v1/sessions/{session_id}/events",
        "GET /v1/sessions/{session_id}/events/stream",
        "POST /v1/sessions/{session_id}/token",
        "POST /v1/keys",
        "GET /v1/keys",
        "DELETE /v1/keys/{key_id}",
        "GET /v1/limits",
        "PUT /v1/limits",
        "GET /v1/usage",
        "POST /v1/research",
        "GET /v1/research",
        "GET /v1/research/{task_id}",
        "GET /v1/research/{task_id}/stream",
    }

"""Modal: image, secret, web app, sweep. The only file that imports modal; importing it needs no token."""

import os
from pathlib import Path

import modal
from fastapi import FastAPI

# Imported here, not in `web`: the memory snapshot holds what was imported before `web` was called.
from functions.api import serve
from functions.logs import configure
from functions.settings import Settings
from functions.sweep import once

SECRET = "sandstream"  # noqa: S105 the name under which Modal keeps the settings
REQUIRED_KEYS = [
    "SANDSTREAM_URL",
    "SUPABASE_URL",
    "SUPABASE_PUBLISHABLE_KEY",
    "SUPABASE_SECRET_KEY",
    "RUN_TOKEN_KEY",
    "E2B_API_KEY",
]
# One container answers this many requests at once: they wait for E2B and Supabase, not for the processor.
CONCURRENT_REQUESTS = 100
REQUEST_TIMEOUT_SECONDS = 3600  # an SSE stream is one request
# How often the sweep comes. A run whose runner is dead is noticed 30 s after its last sign of life.
SWEEP_PERIOD_SECONDS = 30
SWEEP_TIMEOUT_SECONDS = 600
# Without it a container that hangs at its start would be given the requests' hour.
START_TIMEOUT_SECONDS = 120
# Read where `modal deploy` runs: Modal's name of the region that is nearest to the database. Without it Modal chooses.
REGION = os.environ.get("SANDSTREAM_REGION") or None
UV_VERSION = "0.13.8"

app = modal.App("sandstream")
secret = modal.Secret.from_name(SECRET, required_keys=REQUIRED_KEYS)
image = (
    modal.Image.debian_slim(python_version="3.11")
    .uv_pip_install(
        requirements=[str(Path(__file__).with_name("requirements.txt"))],
        extra_options="--require-hashes",
        uv_version=UV_VERSION,
    )
    .add_local_python_source("functions", "sandbox_scripts", "sandstream")
)


@app.function(
    image=image,
    secrets=[secret],
    timeout=REQUEST_TIMEOUT_SECONDS,
    startup_timeout=START_TIMEOUT_SECONDS,
    region=REGION,
    min_containers=1,
    enable_memory_snapshot=True,
)
@modal.concurrent(max_inputs=CONCURRENT_REQUESTS)
@modal.asgi_app()
def web() -> FastAPI:
    """The endpoints. `web.local()` gives the same app without Modal."""
    return serve()


@app.function(
    image=image,
    secrets=[secret],
    schedule=modal.Period(seconds=SWEEP_PERIOD_SECONDS),
    timeout=SWEEP_TIMEOUT_SECONDS,
    region=REGION,
)
async def sweep() -> None:
    """One sweep, unless SWEEP_SECONDS is 0. A second one may begin before it has ended."""
    settings = Settings.read()
    configure(settings.log_level)
    if settings.sweep_seconds:
        await once(settings)

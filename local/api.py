"""Serves what Modal serves, `functions.api.serve`, and sweeps where Modal's schedule would.

Without Modal: that package takes half a second to import.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from functions.api import serve
from functions.settings import Settings
from functions.sweep import in_background


def create_app() -> FastAPI:
    """The endpoints, with the settings that the environment gives."""
    app = serve()
    serving = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with serving(app), in_background(Settings.read()):
            yield

    app.router.lifespan_context = lifespan
    return app

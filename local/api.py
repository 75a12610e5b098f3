"""Serves the very app that Modal would, `functions.app.web`, and sweeps where Modal's schedule would.

Neither needs a server of Modal's, nor a token.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from functions.app import web
from functions.settings import Settings
from functions.sweep import in_background


def create_app() -> FastAPI:
    """The endpoints, with the settings that the environment gives."""
    app: FastAPI = web.local()
    serving = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with serving(app), in_background(Settings.read()):
            yield

    app.router.lifespan_context = lifespan
    return app

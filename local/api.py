"""Serves what Modal serves, `functions.api.serve`, without Modal: that package takes half a second to import."""

from fastapi import FastAPI

from functions.api import serve


def create_app() -> FastAPI:
    """The endpoints, with the settings that the environment gives."""
    return serve()

"""Serves the very app that Modal would: `functions.app.web`, with no server of Modal's and no token."""

from fastapi import FastAPI

from functions.app import web


def create_app() -> FastAPI:
    """The endpoints, with the settings that the environment gives."""
    app: FastAPI = web.local()
    return app

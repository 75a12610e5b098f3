"""The FastAPI app: routers, one error handler, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from functions.errors import ApiError, InvalidRequest, NotFound, UnsupportedMediaType
from functions.logs import configure
from functions.requests import RequestEdge
from functions.routes import (
    agents,
    environments,
    events,
    health,
    hooks,
    keys,
    limits,
    research,
    runs,
    sessions,
    unbuilt,
    usage,
)
from functions.settings import Settings
from functions.wiring import opened


def serve() -> FastAPI:
    """The app with the settings that the environment gives. Raises MissingSetting."""
    return create_api(Settings.read())


def create_api(settings: Settings) -> FastAPI:
    """The app that Modal serves, and the local stack as well."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure(settings.log_level)
        async with opened(settings) as made:
            app.state.services = made
            yield

    app = FastAPI(title="Sandstream", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(RequestEdge)
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    for routes in (health, hooks, runs, agents, environments, sessions, events, keys, limits, research, usage, unbuilt):
        app.include_router(routes.router)
    return app


async def answer(request: Request, error: ApiError) -> JSONResponse:
    """Any refusal as HTTP."""
    body = error.body(request.state.request_id)
    return JSONResponse(body, status_code=error.status, headers=error.headers)


async def answer_api_error(request: Request, error: Exception) -> JSONResponse:
    """A refusal of our own."""
    assert isinstance(error, ApiError)  # noqa: S101 Starlette calls this for nothing else
    return await answer(request, error)


async def answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    """A body or parameter that does not parse: 400 with the name of what is wrong, or 415."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 Starlette calls this for nothing else
    return await answer(request, as_refusal(request, error))


async def answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own refusals: an unknown path, a method that a path does not have, a body that is no JSON."""
    assert isinstance(error, HTTPException)  # noqa: S101 Starlette calls this for nothing else
    if error.status_code == 404:
        return await answer(request, NotFound("there is no such path"))
    return await answer(request, InvalidRequest(str(error.detail), status=error.status_code))


def as_refusal(request: Request, error: RequestValidationError) -> ApiError:
    """The first thing that is wrong, named as the client wrote it: `commands.0.timeout`."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip()
    first: dict[str, Any] = error.errors()[0]
    if first["loc"][0] == "body" and content_type != "application/json":
        return UnsupportedMediaType("the body must be application/json")
    place = as_written(first, error.body) if first["loc"][0] == "body" else first["loc"][1:]
    path = [str(part) for part in place]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return InvalidRequest(f"the body is not JSON: {message}", param="body")
    return InvalidRequest(message, param=".".join(path) or "body")


def as_written(error: dict[str, Any], body: Any) -> list[int | str]:
    """Where an error is, in the client's words: pydantic's path also names the member of a union that it took."""
    found: list[int | str] = []
    for part in error["loc"][1:]:
        if (isinstance(body, dict) and part in body) or (isinstance(body, list) and isinstance(part, int)):
            body = body[part]
            found.append(part)
    return [*found, error["loc"][-1]] if error["type"] == "missing" and len(error["loc"]) > 1 else found

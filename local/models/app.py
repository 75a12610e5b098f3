"""The models part: scripted answers, or, with a real key, the real API's."""

import contextlib
import hmac
import re
from collections.abc import AsyncIterator
from http import HTTPStatus

import httpx
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.datastructures import URL, Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from local.models.embeddings import Embedder
from local.models.errors import OPENAI_PATHS, ModelError
from local.models.forward import TIMEOUT, Forward
from local.models.scripted import Scripted
from local.models.scripts import Library
from local.models.settings import ModelSettings


def create_app(settings: ModelSettings | None = None) -> Starlette:
    """The ASGI application; settings come from the environment unless given. Connects to nothing until it is asked."""
    settings = settings or ModelSettings()
    scripted = Scripted(Library(settings.scripts, settings.web_url))
    http = httpx.AsyncClient(timeout=TIMEOUT)
    # Anthropic's come last: with a key all that is left goes to them.
    served = [*openai_routes(settings, scripted, http), *anthropic_routes(settings, scripted, http)]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with http:
            yield

    keyed = Mount("/v1", routes=served, middleware=[Middleware(Keyed, key=settings.key)])
    open_to_all = [Route("/scripted/ledger", scripted.ledger), Route("/healthz", healthz)]
    handlers = {ModelError: refused, HTTPException: not_served, re.error: bad_pattern}
    return Starlette(routes=[keyed, *open_to_all], lifespan=lifespan, exception_handlers=handlers)


def anthropic_routes(settings: ModelSettings, scripted: Scripted, http: httpx.AsyncClient) -> list[Route]:
    """Scripted, or forwarded when the operator has a key."""
    if settings.upstream_key is None:
        return scripted.routes()
    key = {"x-api-key": settings.upstream_key.get_secret_value()}
    return Forward(f"{settings.upstream_url.rstrip('/')}/v1", key, http).routes()


def openai_routes(settings: ModelSettings, scripted: Scripted, http: httpx.AsyncClient) -> list[Route]:
    """The same, by the other key."""
    if settings.openai_key is None:
        return [*scripted.openai_routes(), *Embedder().routes()]
    bearer = {"authorization": f"Bearer {settings.openai_key.get_secret_value()}"}
    forward = Forward(settings.openai_url, bearer, http)
    return [Route(path.removeprefix("/v1"), forward.forward, methods=["POST"]) for path in OPENAI_PATHS]


class Keyed:
    """Lets through only what carries the key: as `x-api-key`, as the CLI sends it, or as Bearer, as the SDK does."""

    def __init__(self, app: ASGIApp, key: SecretStr) -> None:
        self._app = app
        self._key = key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 401 itself."""
        headers = Headers(scope=scope)
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(given.encode(), self._key):
            await self._app(scope, receive, send)
        else:
            message = "invalid x-api-key" if given else "x-api-key header is required"
            await ModelError(401, message).response(URL(scope=scope).path)(scope, receive, send)


async def healthz(_request: Request) -> Response:
    """Whether it is up."""
    return JSONResponse({"status": "ok"})


async def refused(request: Request, error: Exception) -> Response:
    """An error that is meant."""
    assert isinstance(error, ModelError)  # noqa: S101 registered for nothing else
    return error.response(request.url.path)


async def not_served(request: Request, error: Exception) -> Response:
    """A path or a method that is not there."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    return ModelError(status, f"{request.method} {request.url.path} is not served here").response(request.url.path)


async def bad_pattern(request: Request, error: Exception) -> Response:
    """A script's `{{memory:…}}` or `{{prompt:…}}` that is no regular expression."""
    refusal = ModelError(400, f"a script's memory or prompt pattern is not a regular expression: {error}")
    return refusal.response(request.url.path)

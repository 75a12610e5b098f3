"""What the endpoints are given: made once when the app starts, closed when it stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import Depends, Request

from functions import bundle
from functions.errors import NotAuthenticated
from functions.identity import Caller, RunGrant, RunTokens, Users
from functions.launch import Launcher
from functions.limits import Limits
from functions.recovery import Recovery
from functions.sandboxes import Sandboxes
from functions.settings import Settings
from functions.store import Store
from functions.streams import Streams
from functions.turns import Turns

MAX_CONNECTIONS = 100


@dataclass(frozen=True)
class Services:
    """One of each, for the life of the process."""

    settings: Settings
    store: Store
    users: Users
    tokens: RunTokens
    sandboxes: Sandboxes
    launcher: Launcher
    recovery: Recovery
    turns: Turns
    streams: Streams
    limits: Limits


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Services]:
    """The services over one shared HTTP client."""
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    async with httpx.AsyncClient(timeout=settings.supabase_request_timeout_seconds, limits=limits) as http:
        store = Store(settings, http)
        tokens = RunTokens(settings)
        sandboxes = Sandboxes(settings, bundle.build())
        launcher = Launcher(settings, store, sandboxes, tokens)
        recovery = Recovery(settings, store, sandboxes, tokens, launcher)
        turns = Turns(settings, store, sandboxes, launcher, recovery)
        async with Streams(settings, store).opened() as streams:
            yield Services(
                settings,
                store,
                Users(settings, http),
                tokens,
                sandboxes,
                launcher,
                recovery,
                turns,
                streams,
                Limits(settings, store),
            )


def services(request: Request) -> Services:
    """The process's services."""
    found: Services = request.app.state.services
    return found


async def served(request: Request) -> Services:
    """The same; before anything that limits hold for, the database knows the deployment's. Raises StoreUnavailable."""
    found = services(request)
    if request.method != "GET":
        await found.limits.tell()
    return found


def credential(request: Request) -> str:
    """The Bearer token, or what `x-api-key` holds. Raises NotAuthenticated when there is neither."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
    if not found:
        raise NotAuthenticated("sign in: a Bearer token is missing")
    return found


async def caller(request: Request) -> Caller:
    """The signed-in user. Raises NotAuthenticated, StoreUnavailable."""
    return await services(request).users.verify(credential(request))


def runner(request: Request) -> RunGrant:
    """The run whose token was sent. Raises NotAuthenticated."""
    return services(request).tokens.verify(credential(request))


Served = Annotated[Services, Depends(served)]
SignedIn = Annotated[Caller, Depends(caller)]
Runner = Annotated[RunGrant, Depends(runner)]

"""What the endpoints are given: made once when the app starts, closed when it stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes

from functions import bundle
from functions.embeddings import Embeddings
from functions.errors import NotAuthenticated, NotPermitted
from functions.identity import Caller, RunGrant, RunTokens, Users
from functions.keys import Keys, is_key
from functions.launch import Launcher
from functions.limits import Limits
from functions.recovery import Recovery
from functions.research import Research
from functions.sandboxes import Sandboxes
from functions.settings import Settings
from functions.store import Store
from functions.streams import Streams
from functions.turns import Turns
from functions.watch_tokens import WatchTokens, is_watch_token

MAX_CONNECTIONS = 100
# What the OpenAPI document says of a credential; the credential itself is read by `credential`.
BEARER = HTTPBearer(scheme_name="bearer", description="A Supabase user's JWT, or an API key.", auto_error=False)
API_KEY = APIKeyHeader(name="x-api-key", scheme_name="x-api-key", description="An API key.", auto_error=False)
WATCH_TOKEN = HTTPBearer(scheme_name="watch_token", description="For one session.", auto_error=False)
RUN_TOKEN = HTTPBearer(scheme_name="run_token", description="What a runner was given.", auto_error=False)


@dataclass(frozen=True)
class Services:
    """One of each, for the life of the process."""

    settings: Settings
    store: Store
    users: Users
    keys: Keys
    tokens: RunTokens
    watch_tokens: WatchTokens
    sandboxes: Sandboxes
    launcher: Launcher
    recovery: Recovery
    turns: Turns
    research: Research
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
        research = Research(settings, store, Embeddings(settings, http), launcher)
        async with Streams(settings, store).opened() as streams:
            yield Services(
                settings,
                store,
                Users(settings, http),
                Keys(settings, store),
                tokens,
                WatchTokens(settings),
                sandboxes,
                launcher,
                recovery,
                turns,
                research,
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
    """The signed-in user, or the owner of the API key. Raises NotAuthenticated, StoreUnavailable."""
    shown, served = credential(request), services(request)
    return await (served.keys.verify(shown) if is_key(shown) else served.users.verify(shown))


def allowed(caller: Caller, wanted: SecurityScopes) -> Caller:
    """The caller. Raises NotPermitted unless they have the scopes that the route asks for."""
    if missing := set(wanted.scopes) - caller.scopes:
        raise NotPermitted(f"the API key has not the scope {', '.join(sorted(missing))}", type="scope_missing")
    return caller


def permitted(
    wanted: SecurityScopes,
    caller: Annotated[Caller, Depends(caller)],
    _bearer: Annotated[object, Depends(BEARER)],
    _key: Annotated[object, Depends(API_KEY)],
) -> Caller:
    """The caller, who may do what the route asks for. Raises NotPermitted, and as `caller`."""
    return allowed(caller, wanted)


async def watching(
    wanted: SecurityScopes,
    request: Request,
    _bearer: Annotated[object, Depends(BEARER)],
    _key: Annotated[object, Depends(API_KEY)],
    _token: Annotated[object, Depends(WATCH_TOKEN)],
) -> Caller:
    """As `permitted`, or whoever holds a watch token: RLS hides every session but its own. Raises as `permitted`."""
    shown = credential(request)
    if is_watch_token(shown):
        return allowed(services(request).watch_tokens.verify(shown), wanted)
    return allowed(await caller(request), wanted)


def runner(request: Request, _token: Annotated[object, Depends(RUN_TOKEN)]) -> RunGrant:
    """The run whose token was sent. Raises NotAuthenticated."""
    return services(request).tokens.verify(credential(request))


Served = Annotated[Services, Depends(served)]
# Whoever is somebody; the others say what they may do. A Supabase user may do everything.
SignedIn = Annotated[Caller, Depends(caller)]
Reader = Annotated[Caller, Security(permitted, scopes=["read"])]
Watcher = Annotated[Caller, Security(watching, scopes=["read"])]
Speaker = Annotated[Caller, Security(permitted, scopes=["run"])]
Admin = Annotated[Caller, Security(permitted, scopes=["admin"])]
Runner = Annotated[RunGrant, Depends(runner)]

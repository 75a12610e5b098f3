"""The local Supabase: REST, Auth and Realtime on one port."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from psycopg.conninfo import make_conninfo
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from local.supabase.auth import Auth
from local.supabase.auth_store import Users
from local.supabase.keys import Keyring
from local.supabase.pool import Pool
from local.supabase.realtime import Realtime
from local.supabase.realtime import routes as realtime_routes
from local.supabase.realtime import running as realtime_running
from local.supabase.rest import Rest
from local.supabase.rest_run import Database
from local.supabase.settings import SupabaseSettings

AUTH_CONNECTIONS = 10


def create_app(settings: SupabaseSettings | None = None) -> Starlette:
    """The ASGI application; settings come from the environment unless given. Opens nothing until its lifespan."""
    # A statement that fails in a pipeline is an answer here, not an event worth a warning.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    settings = settings or SupabaseSettings()
    keyring = Keyring(settings)
    database = Database(make_conninfo(settings.database_url, user="authenticator"), settings.schemas)
    realtime = Realtime(settings.database_url, keyring)
    users = Pool(make_conninfo(settings.database_url, user="supabase_auth_admin"), AUTH_CONNECTIONS)
    auth = Auth(settings, keyring, Users(users))
    routes = [*Rest(settings, keyring, database).routes(), *auth.routes(), *realtime_routes(realtime)]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(users)
            await stack.enter_async_context(database.running())
            await stack.enter_async_context(realtime_running(realtime))
            yield

    return Starlette(routes=routes, lifespan=lifespan, middleware=[_cors()])


def _cors() -> Middleware:
    options: dict[str, Any] = {
        "allow_origins": ["*"],
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        "allow_headers": ["*"],
        "expose_headers": ["Content-Range", "Content-Location", "Location", "Preference-Applied", "Retry-After"],
    }
    return Middleware(CORSMiddleware, **options)

"""Supabase Realtime on loopback: Phoenix channels at /realtime/v1/websocket, and broadcast over HTTP.

`realtime = Realtime(settings.database_url, keyring)`, `routes(realtime)`, and `async with running(realtime)` around the
life of the app. Broadcasts, presences and subscriptions live in this process, so there is exactly one of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from local.supabase.keys import Caller, KeyRefusedError, Keyring, TokenRefusedError
from local.supabase.realtime_authorize import Authorizer, DatabaseUnavailableError, Identity, open_pool
from local.supabase.realtime_broadcast import PUBLICATION, DatabaseBroadcasts, prune
from local.supabase.realtime_changes import Changes
from local.supabase.realtime_channel import NO_DATABASE, Services
from local.supabase.realtime_protocol import Broadcast, Encoding, ProtocolError, Version, dumps, loads
from local.supabase.realtime_replication import Follower
from local.supabase.realtime_socket import Socket
from local.supabase.realtime_topics import Topic, Topics

READY_SECONDS = 10.0
OCTETS = "application/octet-stream"


class Realtime:
    """The service: what the routes need and `running()` keeps alive."""

    def __init__(self, dsn: str, keys: Keyring) -> None:
        self.topics = Topics()
        self.pool = open_pool(dsn)
        self.authorizer = Authorizer(self.pool)
        self.changes = Changes(dsn, self.pool)
        self.broadcasts = Follower(dsn, PUBLICATION, DatabaseBroadcasts(self.topics).publish)
        self.keys = keys

    @property
    def services(self) -> Services:
        """What channels share."""
        return Services(self.keys, self.pool, self.topics, self.authorizer, self.changes, self.broadcasts.connected)


class Outgoing(BaseModel):
    """One message of `POST /api/broadcast`."""

    topic: Annotated[str, Field(min_length=1, pattern=r"\A[^\x00]+\z")]
    event: str
    payload: dict[str, Any]
    private: bool = False


class OutgoingBatch(BaseModel):
    """The body of `POST /api/broadcast`."""

    messages: list[Outgoing]


def routes(realtime: Realtime) -> list[BaseRoute]:
    """Everything under /realtime/v1."""

    async def websocket(websocket: WebSocket) -> None:
        await _connect(realtime, websocket)

    async def batch(request: Request) -> Response:
        return await _answer(_broadcast_batch(realtime, request))

    async def single(request: Request) -> Response:
        return await _answer(_broadcast_single(realtime, request))

    return [
        WebSocketRoute("/realtime/v1/websocket", websocket),
        Route("/realtime/v1/api/broadcast", batch, methods=["POST"]),
        Route("/realtime/v1/api/broadcast/{topic:path}/events/{event}", single, methods=["POST"]),
    ]


@contextlib.asynccontextmanager
async def running(realtime: Realtime) -> AsyncIterator[None]:
    """Open the pool, follow the messages table, prune it. Waits some seconds for Postgres, then goes on without."""
    tasks = [asyncio.create_task(realtime.broadcasts.run()), asyncio.create_task(prune(realtime.pool))]
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(realtime.broadcasts.connected.wait(), READY_SECONDS)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await realtime.changes.close()
        await realtime.pool.close()


async def _connect(realtime: Realtime, websocket: WebSocket) -> None:
    """Serve a websocket whose API key is good; refuse the handshake (403) of any other."""
    try:
        by_key = realtime.keys.caller(_apikey(websocket), None)
        version = Version(websocket.query_params.get("vsn", Version.V1))
    except (KeyRefusedError, ValueError):
        await websocket.close()
        return
    await Socket(realtime.services, by_key, version).serve(websocket)


async def _answer(work: Awaitable[Response]) -> Response:
    """What the handler answers, or what its refusals mean over HTTP."""
    try:
        return await work
    except (KeyRefusedError, TokenRefusedError) as error:
        return JSONResponse({"message": str(error)}, 401)
    except (ValidationError, ProtocolError, UnicodeDecodeError) as error:
        return JSONResponse({"message": f"Unprocessable entity: {error}"}, 422)
    except DatabaseUnavailableError:
        return JSONResponse({"message": NO_DATABASE}, 503)


async def _broadcast_batch(realtime: Realtime, request: Request) -> Response:
    """Send each message that the caller may send; the others are dropped in silence, as on hosted Supabase."""
    caller = _caller(realtime.keys, request)
    messages = OutgoingBatch.model_validate(loads((await request.body()).decode())).messages
    topics = {Topic(message.topic, message.private) for message in messages}
    allowed = {topic for topic in topics if not topic.private or await _may_write(realtime, topic, caller)}
    for message in messages:
        topic = Topic(message.topic, message.private)
        if topic in allowed:
            body = dumps(message.payload).encode()
            realtime.topics.publish(Broadcast(topic.wire, message.event, body, framed=False), topic)
    return Response(status_code=202)


async def _broadcast_single(realtime: Realtime, request: Request) -> Response:
    """Send the body, JSON or bytes, as one message."""
    caller = _caller(realtime.keys, request)
    topic = Topic(request.path_params["topic"], request.query_params.get("private") == "true")
    encoding = Encoding.BINARY if request.headers.get("content-type", "").startswith(OCTETS) else Encoding.JSON
    body = await request.body()
    if encoding is Encoding.JSON:
        loads(body.decode())
    if topic.private and not await _may_write(realtime, topic, caller):
        return JSONResponse({"message": "You do not have permissions to write to this Channel topic"}, 403)
    realtime.topics.publish(Broadcast(topic.wire, request.path_params["event"], body, encoding), topic)
    return Response(status_code=202)


async def _may_write(realtime: Realtime, topic: Topic, caller: Caller) -> bool:
    return (await realtime.authorizer.policies(topic.name, Identity.of(caller))).broadcast_write


def _caller(keys: Keyring, connection: HTTPConnection) -> Caller:
    return keys.caller(_apikey(connection), connection.headers.get("authorization"))


def _apikey(connection: HTTPConnection) -> str | None:
    return connection.query_params.get("apikey") or connection.headers.get("apikey")

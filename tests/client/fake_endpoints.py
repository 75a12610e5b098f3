"""The HTTPS endpoints at the wire: answers what a test has scripted, and keeps what it was asked.

It knows `/v1/config`; it decides nothing, verifies no token, and runs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

METHODS = ["GET", "POST", "DELETE"]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeEndpoints:
    """`answers` are given one after another; the last is repeated. An answer that is None tears the connection."""

    config: dict[str, str]
    answers: deque[Response | None] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def script(self, *answers: Response | None) -> None:
        """What is answered from now on."""
        self.answers = deque(answers)

    async def answer(self, request: Request) -> Response:
        """The next answer."""
        body = await request.json() if await request.body() else None
        asked = Asked(request.method, request.url.path, dict(request.query_params), dict(request.headers), body)
        if asked.path == "/v1/config":
            return JSONResponse(self.config)
        self.asked.append(asked)
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        return Torn() if answer is None else answer


class Torn(Response):
    """An answer that breaks off before it is whole."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 the shape is ASGI's
        """Promise more than is sent: uvicorn closes the connection."""
        headers = [(b"content-length", b"100"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def refused(status: int, type: str, message: str = "no", **headers: str) -> Response:
    """An error as the endpoints word it."""
    body = {"type": "error", "error": {"type": type, "message": message, "param": "commands"}, "request_id": "req_1"}
    return JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


@contextlib.asynccontextmanager
async def serving(endpoints: FakeEndpoints) -> AsyncIterator[FakeEndpoints]:
    """Serve them on a free port."""
    app = Starlette(routes=[Route("/{path:path}", endpoints.answer, methods=METHODS)])
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoints.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        task = asyncio.create_task(server._serve([listener]))
        try:
            yield endpoints
        finally:
            server.should_exit = True
            await task

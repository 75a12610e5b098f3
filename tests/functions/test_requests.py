"""The edge: every answer has an id, a fault of ours is a clean 500, and logs hold no secrets."""

import json
from collections.abc import AsyncIterator

import httpx
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import LogCapture

from functions.logs import redact
from functions.requests import RequestEdge


async def broken(request: Request) -> Response:
    raise RuntimeError("a secret detail of ours")


async def length(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body()), "gone": await request.is_disconnected()})


def edge() -> httpx.AsyncClient:
    """A small app behind the edge, called without a server."""
    routes = [Route("/broken", broken), Route("/length", length, methods=["POST"])]
    app = Starlette(routes=routes, middleware=[Middleware(RequestEdge)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://edge.test")


async def test_a_fault_of_ours_is_a_clean_500() -> None:
    """The client gets an id and no detail; the log gets the trace with the same id."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    try:
        async with edge() as http:
            answer = await http.get("/broken")
    finally:
        structlog.reset_defaults()
    body = answer.json()
    assert answer.status_code == 500
    assert body["error"] == {"type": "api_error", "message": "something went wrong here"}
    assert body["request_id"] == answer.headers["request-id"]
    failed = next(entry for entry in capture.entries if entry["event"] == "request_failed")
    assert failed["request_id"] == body["request_id"]
    assert failed["exc_info"]


async def test_an_answer_that_has_begun_is_not_answered_twice() -> None:
    """What breaks off after its first byte ends there."""
    sent: list[Message] = []

    async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late for a status")

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await RequestEdge(breaks_off)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_the_body_arrives_whole() -> None:
    """The app reads what was sent, however it was cut into pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    async with edge() as http:
        answer = await http.post("/length", content=pieces())
    assert answer.json()["bytes"] == 100_000


def test_logs_hold_no_secrets() -> None:
    """Tokens and keys are blotted out of every text of an entry, whoever put them there."""
    jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    secrets = [jwt, "sb_secret_canary0", "e2b_0123456789abcdef", "sk-ant-canary-0123"]
    entry = redact(None, "info", {"event": f"refused {secrets[0]}", "error": " ".join(secrets), "ms": 3})
    printed = json.dumps(entry)
    assert not any(secret in printed for secret in secrets)
    assert entry["ms"] == 3

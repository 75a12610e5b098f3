"""What a request must be before anything looks at it: an id, a size, a type; and what its log line says."""

import json
import time
from uuid import uuid4

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.errors import ApiError, InvalidRequest, TooLarge

# 200 commands of 32 KiB, escaped, and the rest of the plan.
MAX_BODY_BYTES = 16 * 1024 * 1024

log = structlog.get_logger(__name__)


class RequestEdge:
    """ASGI middleware: numbers each request, bounds its body, logs its end. The last place where an error is caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its first byte to its last."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, Answer(send, request_id))

    async def _answer(self, scope: Scope, receive: Receive, answer: "Answer") -> None:
        started = time.perf_counter()
        try:
            await self._app(scope, await bounded(scope, receive), answer)
        except TooLarge as error:
            await answer.refuse(error)
        except Exception:  # the process's edge: the client gets a clean 500, the log gets the trace
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            await answer.refuse(ApiError("something went wrong here"))
        elapsed = round((time.perf_counter() - started) * 1000)
        log.info("request", method=scope["method"], path=scope["path"], status=answer.status, ms=elapsed)


class Answer:
    """The way out: adds the request's id, and knows whether an answer has begun."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """Sends one ASGI message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["request-id"] = self._request_id
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answers with the error, unless an answer has begun: then the connection just ends."""
        if self.status:
            return
        body = json.dumps(error.body(self._request_id)).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": error.status, "headers": raw})
        await self({"type": "http.response.body", "body": body})


async def bounded(scope: Scope, receive: Receive) -> Receive:
    """The request with its whole body read. Raises TooLarge once it is over the limit, whatever its headers say."""
    declared = Headers(scope=scope).get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise TooLarge(f"a body may have {MAX_BODY_BYTES} bytes")
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"a body may have {MAX_BODY_BYTES} bytes")
    return replay(bytes(body), receive)


def replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body once; what comes after it, such as the client's leaving, comes from the connection."""
    given = False

    async def read() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read


def idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key. Raises InvalidRequest unless it is 1 to 255 printable ASCII characters."""
    keys = request.headers.getlist("idempotency-key")
    if len(keys) > 1:
        raise InvalidRequest("must be given once", param="Idempotency-Key")
    key = keys[0] if keys else None
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise InvalidRequest("1 to 255 printable ASCII characters", param="Idempotency-Key")
    return key

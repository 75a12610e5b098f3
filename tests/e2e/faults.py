"""A proxy between the endpoints and a service, which fails as it is told. Speaks HTTP only, on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.forked import Endpoints

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
NOT_PASSED_ON = {"host", "content-length", "transfer-encoding", "connection", "keep-alive"}


@dataclass
class Fault:
    """Fails requests whose method and path match: with a status, or with silence when that is None.

    With `passed_on` the service has done what it was asked, and only its answer is lost; `then` is called first.
    """

    method: str
    path: str
    status: int | None
    times: int = 1_000_000
    seen: int = 0
    passed_on: bool = False
    then: Callable[[], None] | None = None

    def strikes(self, request: Request) -> bool:
        """True when this request is to fail."""
        if request.method != self.method or self.path not in request.url.path or self.seen >= self.times:
            return False
        self.seen += 1
        return True


@dataclass
class FaultProxy:
    """Passes everything on to `target` but what its faults strike; `rewrite` may change a request's body."""

    target: str
    url: str
    http: httpx.AsyncClient
    faults: list[Fault] = field(default_factory=list)
    rewrite: Callable[[Request, bytes], bytes] = lambda _, body: body

    async def answer(self, request: Request) -> Response:
        """One request."""
        for fault in self.faults:
            if fault.strikes(request):
                return await self._fail(fault, request)
        return await self._pass_on(request)

    async def _fail(self, fault: Fault, request: Request) -> Response:
        if fault.passed_on:
            async for _ in (await self._pass_on(request)).body_iterator:
                pass
        if fault.then is not None:
            fault.then()
        if fault.status is None:
            await asyncio.Event().wait()
        body = None if fault.status == 204 else "{}"
        return Response(body, fault.status or 500, media_type="application/json")

    async def _pass_on(self, request: Request) -> StreamingResponse:
        headers = [(name, value) for name, value in request.headers.items() if name not in NOT_PASSED_ON]
        url = f"{self.target}{request.url.path}?{request.url.query}"
        body = self.rewrite(request, await request.body())
        sent = self.http.build_request(request.method, url, headers=headers, content=body)
        answer = await self.http.send(sent, stream=True)

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_raw():
                    yield chunk
            finally:
                await answer.aclose()

        kept = {name: value for name, value in answer.headers.items() if name not in NOT_PASSED_ON}
        return StreamingResponse(chunks(), answer.status_code, headers=kept)


@asynccontextmanager
async def fault_proxy(target: str, *faults: Fault) -> AsyncIterator[FaultProxy]:
    """A proxy on a free port while inside."""
    listener = socket.create_server(("127.0.0.1", 0))
    http = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
    proxy = FaultProxy(target, f"http://127.0.0.1:{listener.getsockname()[1]}", http, list(faults))
    app = Starlette(routes=[Route("/{path:path}", proxy.answer, methods=METHODS)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield proxy
    finally:
        server.should_exit = True
        await serving
        await http.aclose()


@asynccontextmanager
async def served(stack: Stack, logs: Path, **changes: str) -> AsyncIterator[str]:
    """The URL of endpoints of their own with some settings changed."""
    part = Endpoints(logs)
    part.start({**stack.api_environment(), "SANDSTREAM_URL": part.url, **changes})
    try:
        part.wait_until_ready("/healthz")
        yield part.url
    finally:
        part.stop()
        part.socket.close()


@asynccontextmanager
async def endpoints(stack: Stack, owner: Person, logs: Path, **changes: str) -> AsyncIterator[httpx.AsyncClient]:
    """The owner at endpoints of their own."""
    async with (
        served(stack, logs, **changes) as url,
        httpx.AsyncClient(base_url=url, headers=owner.headers, timeout=120) as http,
    ):
        yield http

"""Hands requests on to the real API, with the real key in place of ours."""

from collections.abc import AsyncIterator

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from local.models.errors import ModelError

TIMEOUT = httpx.Timeout(600, connect=15)
METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]
# They belong to one connection, or are set anew for the next one.
OF_ONE_HOP = frozenset(
    ["connection", "content-length", "host", "keep-alive", "proxy-authorization",
     "te", "trailer", "transfer-encoding", "upgrade"]
)  # fmt: skip
KEYS = frozenset(("x-api-key", "authorization"))


class Forward:
    """What is under `/v1` goes below `url`, streamed both ways. Nothing of it is in the ledger."""

    def __init__(self, url: str, credentials: dict[str, str], http: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._http = http

    def routes(self) -> list[Route]:
        """One for all."""
        return [Route("/{path:path}", self.forward, methods=METHODS)]

    async def forward(self, request: Request) -> StreamingResponse:
        """The upstream's answer as it comes. Raises ModelError 502 when it cannot be reached."""
        query = f"?{request.url.query}" if request.url.query else ""
        sent = self._http.build_request(
            request.method, f"{self._url}{request.url.path.removeprefix('/v1')}{query}",
            headers=self._headers(request), content=await request.body(),
        )  # fmt: skip
        try:
            answer = await self._http.send(sent, stream=True)
        except httpx.TransportError as error:
            raise ModelError(502, f"the model's API cannot be reached: {type(error).__name__}") from None
        headers = {name: value for name, value in answer.headers.items() if name not in OF_ONE_HOP}
        return StreamingResponse(_raw(answer), answer.status_code, headers, background=BackgroundTask(answer.aclose))

    def _headers(self, request: Request) -> list[tuple[str, str]]:
        kept = [pair for pair in request.headers.items() if pair[0] not in OF_ONE_HOP | KEYS]
        return [*kept, *self._credentials.items()]


async def _raw(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The bytes as they are, still compressed where the client allowed it."""
    async for piece in answer.aiter_raw():
        yield piece

"""Sends an answer over HTTP: whole, slowly, or with the fault that its script asks for."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

import anyio
from starlette.types import Receive, Scope, Send

from local.models.answer import Answer
from local.models.errors import ModelError
from local.models.ledger import Outcome
from local.models.scripts import Failure, Turn
from local.models.stream import Event, as_sse, events

# Where a stream can be cut: before the first delta, or after one.
CUTS = ("message_start", "content_block_delta")


class Delivery:
    """An ASGI response. It says once how it ended: a whole answer before its last bytes leave, the others after."""

    def __init__(
        self, answer: Answer, turn: Turn, *, faulty: bool, stream: bool, ended: Callable[[Outcome], None]
    ) -> None:
        self._answer = answer
        self._turn = turn
        self._faulty = faulty
        self._stream = stream
        self._ended = ended
        self._outcome: Outcome | None = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Stops as soon as the client leaves. A cut answer is left unfinished, so the server drops its connection."""
        async with anyio.create_task_group() as group:
            group.start_soon(_until_left, receive, group.cancel_scope)
            await self._send(send)
            group.cancel_scope.cancel()
        self._end("abandoned")

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._ended(outcome)

    async def _send(self, send: Send) -> None:
        if self._faulty and self._turn.hang and self._turn.cut_after is None:
            await self._hang()
        elif self._stream:
            await self._send_events(send)
        else:
            await self._send_whole(send)

    async def _send_events(self, send: Send) -> None:
        await send(_start("text/event-stream; charset=utf-8"))
        deltas = 0
        for event in events(self._answer):
            deltas += await self._send_event(event, send)
            if self._faulty and event["type"] in CUTS and deltas == self._turn.cut_after:
                return await self._go_wrong(send)
        return await send(_body(b"", more=False))

    async def _send_event(self, event: Event, send: Send) -> bool:
        """Whether it was a delta."""
        is_delta: bool = event["type"] == "content_block_delta"
        if is_delta and self._turn.delay_ms:
            await asyncio.sleep(self._turn.delay_ms / 1000)
        if event["type"] == "message_stop":
            self._end("complete")
        await send(_body(as_sse(event)))
        return is_delta

    async def _send_whole(self, send: Send) -> None:
        body = json.dumps(self._answer.body()).encode()
        deltas = sum(event["type"] == "content_block_delta" for event in events(self._answer))
        await asyncio.sleep(deltas * self._turn.delay_ms / 1000)
        await send(_start("application/json", len(body)))
        if self._faulty:
            await send(_body(body[: len(body) // 2]))
            return await self._go_wrong(send)
        self._end("complete")
        return await send(_body(body, more=False))

    async def _go_wrong(self, send: Send) -> None:
        """In the middle of an answer: an error as an event, silence, or a dropped connection."""
        if self._turn.hang:
            await self._hang()
        elif self._turn.error is not None and self._stream:
            self._end("failed")
            await send(_body(as_sse(failure(self._turn.error).body()), more=False))
        else:
            self._end("cut")

    async def _hang(self) -> None:
        self._end("hung")
        await anyio.sleep_forever()


def failure(said: Failure) -> ModelError:
    """A script's error; a rate limit names a time when nothing else is said."""
    retry_after = said.retry_after if said.retry_after is not None else (1.0 if said.status == 429 else None)
    return ModelError(said.status, said.message, retry_after)


async def _until_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _start(media_type: str, length: int | None = None) -> dict[str, object]:
    headers = [(b"content-type", media_type.encode()), (b"cache-control", b"no-cache")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers}


def _body(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}

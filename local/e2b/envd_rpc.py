"""E2B's `process.Process`, on e2b's own generated server stub, translated to the frames of our envd."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import Headers, RequestContext
from e2b.envd.process import process_connect
from e2b.envd.process import process_pb as pb
from protobuf import Oneof

from local.e2b.envd_client import ENDED, EnvdError, Operation, decode
from local.e2b.envd_wire import DATA, JSON
from local.e2b.sandbox import Sandbox

KEEPALIVE_HEADER = "keepalive-ping-interval"
KEEPALIVE_SECONDS = 30.0
USERS = ("user", "root")

Find = Callable[[Headers], Sandbox]
Event = pb.ProcessEvent


class ProcessService(process_connect.Process):
    """Commands of the sandbox that a request's headers name."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def list(
        self, request: pb.ListRequest, ctx: RequestContext[pb.ListRequest, pb.ListResponse], /
    ) -> pb.ListResponse:
        """What runs now."""
        del request
        with translated():
            answer = await self._find(ctx.request_headers).envd.call("list_processes")
        return pb.ListResponse(processes=[_info(process) for process in answer["processes"]])

    async def start(
        self, request: pb.StartRequest, ctx: RequestContext[pb.StartRequest, pb.StartResponse], /
    ) -> AsyncIterator[pb.StartResponse]:
        """Start a command and follow it. The caller's time limit is the command's."""
        check_user(ctx.request_headers)
        process = _config(request) | {"timeout_ms": ctx.timeout_ms}
        sandbox = self._find(ctx.request_headers)
        with translated():
            async with sandbox.envd.begin("start", process=process) as operation:
                async for event in _events(operation, ctx):
                    yield pb.StartResponse(event=event)

    async def connect(
        self, request: pb.ConnectRequest, ctx: RequestContext[pb.ConnectRequest, pb.ConnectResponse], /
    ) -> AsyncIterator[pb.ConnectResponse]:
        """Follow a command that runs already."""
        sandbox = self._find(ctx.request_headers)
        with translated():
            async with sandbox.envd.begin("connect", selector=_selector(request.process)) as operation:
                async for event in _events(operation, ctx):
                    yield pb.ConnectResponse(event=event)

    async def update(
        self, request: pb.UpdateRequest, ctx: RequestContext[pb.UpdateRequest, pb.UpdateResponse], /
    ) -> pb.UpdateResponse:
        """The size of a terminal."""
        size = request.pty.size if request.pty is not None else None
        if size is not None:
            arguments = {"rows": size.rows, "cols": size.cols}
            with translated():
                envd = self._find(ctx.request_headers).envd
                await envd.call("resize", selector=_selector(request.process), **arguments)
        return pb.UpdateResponse()

    async def stream_input(
        self,
        request: AsyncIterator[pb.StreamInputRequest],
        ctx: RequestContext[pb.StreamInputRequest, pb.StreamInputResponse],
        /,
    ) -> pb.StreamInputResponse:
        """Ordered input: the first message names the process."""
        first = await anext(aiter(request), None)
        if first is None or not isinstance(first.event, Oneof) or first.event.field != "start":
            raise ConnectError(Code.INVALID_ARGUMENT, "the first message must be `start`")
        selector = _selector(first.event.value.process)
        with translated():
            async with self._find(ctx.request_headers).envd.begin("send_input", selector=selector) as operation:
                await operation.receive_json()
                async for message in request:
                    if message.event is not None and message.event.field == "data":
                        await _input(operation, message.event.value.input)
        return pb.StreamInputResponse()

    async def send_input(
        self, request: pb.SendInputRequest, ctx: RequestContext[pb.SendInputRequest, pb.SendInputResponse], /
    ) -> pb.SendInputResponse:
        """Input, once."""
        selector = _selector(request.process)
        with translated():
            async with self._find(ctx.request_headers).envd.begin("send_input", selector=selector) as operation:
                await operation.receive_json()
                await _input(operation, request.input)
        return pb.SendInputResponse()

    async def send_signal(
        self, request: pb.SendSignalRequest, ctx: RequestContext[pb.SendSignalRequest, pb.SendSignalResponse], /
    ) -> pb.SendSignalResponse:
        """To one process."""
        arguments = {"selector": _selector(request.process), "signal": int(request.signal)}
        with translated():
            await self._find(ctx.request_headers).envd.call("send_signal", **arguments)
        return pb.SendSignalResponse()

    async def close_stdin(
        self, request: pb.CloseStdinRequest, ctx: RequestContext[pb.CloseStdinRequest, pb.CloseStdinResponse], /
    ) -> pb.CloseStdinResponse:
        """End of file for one process."""
        with translated():
            await self._find(ctx.request_headers).envd.call("close_stdin", selector=_selector(request.process))
        return pb.CloseStdinResponse()


def one_of(field: str, value: Any) -> Any:
    """A value of a oneof; the stubs' types ask for a literal that no call has."""
    return Oneof(field, value)


@contextmanager
def translated() -> Iterator[None]:
    """What envd says in its words becomes an error of Connect."""
    try:
        yield
    except EnvdError as error:
        try:
            code = Code(error.code)
        except ValueError:
            code = Code.INTERNAL
        raise ConnectError(code, error.message) from error


def check_user(headers: Headers) -> None:
    """The user comes as Basic `name:`; both names are the same user here. Raises ConnectError for any other."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return
    try:
        name = base64.b64decode(value).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        name = ""
    if name not in USERS:
        raise ConnectError(Code.UNAUTHENTICATED, f"invalid username: '{name}'")


def keepalive_seconds(headers: Headers) -> float:
    """How often a silent stream shows that it lives; the client may ask for a rate."""
    asked = headers.get(KEEPALIVE_HEADER, "")
    return max(1.0, float(asked)) if asked.isdigit() else KEEPALIVE_SECONDS


async def frames(operation: Operation, ctx: RequestContext[Any, Any]) -> AsyncIterator[tuple[int, bytes] | None]:
    """The operation's frames, and None whenever a silent stream should show that it lives.

    Raises EnvdError at the operation's end, and when the caller's time is up: the SDK's own clock is lost when
    asyncio.wait_for takes the first event in a task of its own (Python 3.11).
    """
    pause = keepalive_seconds(ctx.request_headers)
    waiting = asyncio.ensure_future(operation.receive())
    try:
        while True:
            left = ctx.timeout_ms
            done, _ = await asyncio.wait([waiting], timeout=pause if left is None else min(pause, max(left, 0) / 1000))
            if not done and left is not None and (ctx.timeout_ms or 0) <= 0:
                raise EnvdError("deadline_exceeded", "context deadline exceeded")
            if not done:
                yield None
                continue
            frame = waiting.result()
            waiting = asyncio.ensure_future(operation.receive())
            yield frame
    finally:
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.exception()


async def _events(operation: Operation, ctx: RequestContext[Any, Any]) -> AsyncIterator[Event]:
    # The child's streams end the operation, so the end of it is never a frame's absence.
    async for frame in frames(operation, ctx):
        if frame is None:
            yield Event(event=one_of("keepalive", Event.KeepAlive()))
            continue
        event = _event(*frame)
        yield event
        if event.event is not None and event.event.field == "end":
            return
    raise EnvdError("unavailable", ENDED)


def _event(kind: int, payload: bytes) -> Event:
    if kind != JSON:
        return Event(event=one_of("data", _data(kind, payload)))
    message = decode(kind, payload)
    if "start" in message:
        return Event(event=one_of("start", Event.StartEvent(pid=message["start"])))
    return Event(event=one_of("end", _end(message["end"])))


def _data(kind: int, payload: bytes) -> Event.DataEvent:
    if kind == DATA:
        return Event.DataEvent(output=one_of("stdout", payload))
    return Event.DataEvent(output=one_of("stderr", payload) if kind == 2 else one_of("pty", payload))


def _end(end: dict[str, Any]) -> Event.EndEvent:
    event = Event.EndEvent(exit_code=end["exit_code"], exited=end["exited"], status=end["status"])
    if end["error"]:
        event.error = end["error"]
    return event


def _config(request: pb.StartRequest) -> dict[str, Any]:
    asked = request.process or pb.ProcessConfig()
    size = request.pty.size if request.pty is not None else None
    return {
        "cmd": asked.cmd,
        "args": list(asked.args),
        "envs": dict(asked.envs),
        "cwd": asked.cwd if asked.has_field("cwd") else None,
        "pty": {"rows": size.rows, "cols": size.cols} if size is not None else None,
        "tag": request.tag if request.has_field("tag") else None,
        "stdin": request.stdin if request.has_field("stdin") else True,
    }


def _info(process: dict[str, Any]) -> pb.ProcessInfo:
    config = pb.ProcessConfig(cmd=process["cmd"], args=process["args"], envs=process["envs"], cwd=process["cwd"])
    return pb.ProcessInfo(config=config, pid=process["pid"], tag=process["tag"])


def _selector(selector: pb.ProcessSelector | None) -> dict[str, Any]:
    if selector is None or selector.selector is None:
        raise ConnectError(Code.INVALID_ARGUMENT, "which process is not said")
    return {selector.selector.field: selector.selector.value}


async def _input(operation: Operation, given: pb.ProcessInput | None) -> None:
    if given is not None and given.input is not None:
        await operation.send(given.input.value)
        await operation.receive_json()

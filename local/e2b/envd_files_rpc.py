"""E2B's `filesystem.Filesystem`, on e2b's own generated server stub, translated to the frames of our envd."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from e2b.envd.filesystem import filesystem_connect
from e2b.envd.filesystem import filesystem_pb as pb
from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp

from local.e2b.envd_client import EnvdError, decode
from local.e2b.envd_rpc import Find, check_user, frames, one_of, translated
from local.e2b.sandbox import Sandbox

# Events that a watcher holds for a client that does not fetch them; older ones are dropped.
MAX_EVENTS = 10_000
TYPES = {"file": pb.FileType.FILE, "directory": pb.FileType.DIRECTORY, "symlink": pb.FileType.SYMLINK}
CHANGES = {
    "create": pb.EventType.CREATE, "write": pb.EventType.WRITE, "remove": pb.EventType.REMOVE,
    "rename": pb.EventType.RENAME, "chmod": pb.EventType.CHMOD,
}  # fmt: skip


class Watcher:
    """Changes collected for a client that asks for them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.events: deque[pb.FilesystemEvent] = deque(maxlen=MAX_EVENTS)
        self.started = asyncio.Event()
        self.failure: EnvdError | None = None

    async def run(self, request: pb.CreateWatcherRequest) -> None:
        """Collect until cancelled or the sandbox ends."""
        try:
            async with self.sandbox.envd.begin("watch", **_what(request)) as operation:
                await operation.receive_json()
                self.started.set()
                while True:
                    self.events.append(_change(await operation.receive_json()))
        except EnvdError as error:
            self.failure = error
            self.started.set()


class FilesystemService(filesystem_connect.Filesystem):
    """Files of the sandbox that a request's headers name."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._watchers: dict[str, tuple[Watcher, asyncio.Task[None]]] = {}

    async def stat(
        self, request: pb.StatRequest, ctx: RequestContext[pb.StatRequest, pb.StatResponse], /
    ) -> pb.StatResponse:
        """One entry."""
        return pb.StatResponse(entry=entry(await self._call(ctx, "stat", path=request.path)))

    async def make_dir(
        self, request: pb.MakeDirRequest, ctx: RequestContext[pb.MakeDirRequest, pb.MakeDirResponse], /
    ) -> pb.MakeDirResponse:
        """A directory and its parents."""
        return pb.MakeDirResponse(entry=entry(await self._call(ctx, "make_dir", path=request.path)))

    async def move(
        self, request: pb.MoveRequest, ctx: RequestContext[pb.MoveRequest, pb.MoveResponse], /
    ) -> pb.MoveResponse:
        """A file or a tree."""
        answer = await self._call(ctx, "move", source=request.source, destination=request.destination)
        return pb.MoveResponse(entry=entry(answer))

    async def list_dir(
        self, request: pb.ListDirRequest, ctx: RequestContext[pb.ListDirRequest, pb.ListDirResponse], /
    ) -> pb.ListDirResponse:
        """The entries of a directory."""
        answer = await self._call(ctx, "list_dir", path=request.path, depth=request.depth)
        return pb.ListDirResponse(entries=[entry({"entry": e}) for e in answer["entries"]])

    async def remove(
        self, request: pb.RemoveRequest, ctx: RequestContext[pb.RemoveRequest, pb.RemoveResponse], /
    ) -> pb.RemoveResponse:
        """A file or a tree."""
        await self._call(ctx, "remove", path=request.path)
        return pb.RemoveResponse()

    async def watch_dir(
        self, request: pb.WatchDirRequest, ctx: RequestContext[pb.WatchDirRequest, pb.WatchDirResponse], /
    ) -> AsyncIterator[pb.WatchDirResponse]:
        """Changes as they happen."""
        sandbox = self._find(ctx.request_headers)
        with translated():
            async with sandbox.envd.begin("watch", **_what(request)) as operation:
                await operation.receive_json()
                yield pb.WatchDirResponse(event=one_of("start", pb.WatchDirResponse.StartEvent()))
                async for frame in frames(operation, ctx):
                    if frame is None:
                        yield pb.WatchDirResponse(event=one_of("keepalive", pb.WatchDirResponse.KeepAlive()))
                    else:
                        yield pb.WatchDirResponse(event=one_of("filesystem", _change(decode(*frame))))

    async def create_watcher(
        self,
        request: pb.CreateWatcherRequest,
        ctx: RequestContext[pb.CreateWatcherRequest, pb.CreateWatcherResponse],
        /,
    ) -> pb.CreateWatcherResponse:
        """Collect changes until they are asked for; returns when the watch is set."""
        watcher = Watcher(self._find(ctx.request_headers))
        task = asyncio.create_task(watcher.run(request))
        await watcher.started.wait()
        with translated():
            if watcher.failure is not None:
                raise watcher.failure
        name = secrets.token_hex(8)
        self._watchers[name] = (watcher, task)
        task.add_done_callback(lambda _: self._watchers.pop(name, None))
        return pb.CreateWatcherResponse(watcher_id=name)

    async def get_watcher_events(
        self,
        request: pb.GetWatcherEventsRequest,
        ctx: RequestContext[pb.GetWatcherEventsRequest, pb.GetWatcherEventsResponse],
        /,
    ) -> pb.GetWatcherEventsResponse:
        """What was collected since the last time."""
        watcher, _ = self._watcher(request.watcher_id, self._find(ctx.request_headers))
        events = list(watcher.events)
        watcher.events.clear()
        return pb.GetWatcherEventsResponse(events=events)

    async def remove_watcher(
        self,
        request: pb.RemoveWatcherRequest,
        ctx: RequestContext[pb.RemoveWatcherRequest, pb.RemoveWatcherResponse],
        /,
    ) -> pb.RemoveWatcherResponse:
        """Collect no more."""
        _, task = self._watcher(request.watcher_id, self._find(ctx.request_headers))
        task.cancel()
        return pb.RemoveWatcherResponse()

    async def _call(self, ctx: RequestContext[Any, Any], operation: str, **arguments: Any) -> dict[str, Any]:
        check_user(ctx.request_headers)
        with translated():
            return await self._find(ctx.request_headers).envd.call(operation, **arguments)

    def _watcher(self, name: str, sandbox: Sandbox) -> tuple[Watcher, asyncio.Task[None]]:
        found = self._watchers.get(name)
        if found is None or found[0].sandbox is not sandbox:
            raise ConnectError(Code.NOT_FOUND, f"watcher with id {name} not found")
        return found


def entry(answer: dict[str, Any]) -> pb.EntryInfo:
    """An entry in E2B's words."""
    told = answer["entry"]
    info = pb.EntryInfo(
        name=told["name"],
        type=TYPES[told["type"]],
        path=told["path"],
        size=told["size"],
        mode=told["mode"],
        permissions=told["permissions"],
        owner=told["owner"],
        group=told["group"],
        modified_time=Timestamp.from_datetime(datetime.fromtimestamp(told["modified"], UTC)),
        metadata=told["metadata"],
        is_symlink=told["symlink_target"] is not None,
    )
    if told["symlink_target"] is not None:
        info.symlink_target = told["symlink_target"]
    return info


def _what(request: pb.WatchDirRequest | pb.CreateWatcherRequest) -> dict[str, Any]:
    return {"path": request.path, "recursive": request.recursive, "include_entry": request.include_entry}


def _change(message: dict[str, Any]) -> pb.FilesystemEvent:
    event = pb.FilesystemEvent(name=message["name"], type=CHANGES[message["type"]])
    if message.get("entry"):
        event.entry = entry(message)
    return event

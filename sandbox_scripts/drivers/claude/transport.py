"""The Agent SDK's Transport to a CLI that outlives the runner: messages through Stdin, lines from the stdout file.

A restarted runner attaches: it says `initialize` again, which a running CLI answers, and then reads the file from its
start, without the requests that were answered before. What the SDK has no use for is not given to it: the driver
reads every line itself.
"""

from __future__ import annotations

import asyncio
import json

from claude_agent_sdk import CLIConnectionError, Transport

from .lines import Line, LineReader, Unparsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    from .custom import CustomTools
    from .stdin import Stdin

POLL_SECONDS = 0.015
# Nothing that it would parse: what it does not understand must not end its reading.
_FOR_THE_SDK = {"control_response", "control_request", "control_cancel_request", "transcript_mirror"}


class Output:
    """The CLI's stdout: a file, how far it has been read, and whether more can come."""

    def __init__(self, path: str, limit: int, over: Callable[[], bool]) -> None:
        """`over`: nobody writes into the file any more. `taken`: how far its reader has dealt with what was read."""
        self.path, self.limit = path, limit
        self._over = over
        self.reader = LineReader(path, 0, limit)
        self.finished = False
        self.taken = 0

    def again(self) -> Output:
        """The same file, from its start."""
        return Output(self.path, self.limit, self._over)

    async def lines(self) -> AsyncIterator[Line | Unparsed]:
        """Every line, as they come, to the end."""
        while True:
            over = self._over()
            some = self.reader.read()
            if not some and over:
                break
            if not some:
                await asyncio.sleep(POLL_SECONDS)
            for line in some:
                yield line
            self.taken = self.reader.offset
        for line in self.reader.read(final=True):
            yield line
        self.finished = True


class FifoTransport(Transport):
    """One connection of the SDK to the CLI."""

    def __init__(
        self, stdin: Stdin, output: Output, take: Callable[[Line | Unparsed], None], custom: CustomTools, attaches: bool
    ) -> None:
        """`take` gets every line before the SDK does."""
        self._stdin, self._output, self._take, self._custom = stdin, output, take, custom
        self._attaches = attaches
        self._answered = _answered(stdin) if attaches else set()
        self._requested: set[str] = set()
        self._calls: dict[str, asyncio.Task[None]] = {}

    async def connect(self) -> None:
        """The process is there already."""
        if self._attaches:
            self._stdin.again()

    async def write(self, data: str) -> None:
        """Raise OSError."""
        message = json.loads(data)
        if message.get("type") == "control_request":
            self._requested.add(message["request_id"])
        self._stdin.send(data)

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the SDK needs of the output. Raise CLIConnectionError when the CLI ends before it is connected."""
        if self._attaches:
            yield await self._greeting()
        async for line in self._output.lines():
            self._take(line)
            if isinstance(line, Line) and self._concerns_sdk(line.value):
                yield line.value
        raise CLIConnectionError("the CLI has ended")

    async def close(self) -> None:
        """The process stays; whoever started it ends it."""
        for task in self._calls.values():
            task.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)

    def is_ready(self) -> bool:
        """It always is."""
        return True

    async def end_input(self) -> None:
        """The driver closes stdin when the conversation is over, see Stdin.end()."""

    async def _greeting(self) -> dict[str, Any]:
        """The answer to this runner's own `initialize`, ahead of everything that was said before it."""
        ahead = self._output.again()
        async for line in ahead.lines():
            if isinstance(line, Line) and line.value.get("type") == "control_response":
                response = line.value.get("response") or {}
                if response.get("request_id") in self._requested:
                    ahead.reader.close()
                    return line.value
        raise CLIConnectionError("the CLI has ended")

    def _concerns_sdk(self, message: dict[str, Any]) -> bool:
        kind = message.get("type")
        if kind == "control_request":
            return not self._handled(message)
        if kind == "control_cancel_request":
            task = self._calls.pop(str(message.get("request_id")), None)
            if task is not None:
                task.cancel()
        return kind in _FOR_THE_SDK

    def _handled(self, message: dict[str, Any]) -> bool:
        """Answered before the restart, or a call of a custom tool, which is answered here."""
        request_id = str(message.get("request_id"))
        request = message.get("request") or {}
        if request_id in self._answered:
            return True
        if request.get("subtype") != "mcp_message":
            return False
        self._calls[request_id] = asyncio.ensure_future(self._serve(request_id, request))
        return True

    async def _serve(self, request_id: str, request: dict[str, Any]) -> None:
        content = await self._custom.answer(request)
        response = {"subtype": "success", "request_id": request_id, "response": content}
        self._stdin.send(json.dumps({"type": "control_response", "response": response}) + "\n")
        self._calls.pop(request_id, None)


def _answered(stdin: Stdin) -> set[str]:
    """The CLI's requests that a runner has answered."""
    messages = (message for message in stdin.sent() if message.get("type") == "control_response")
    return {str(message["response"].get("request_id")) for message in messages}

"""The model's messages while their lines arrive: which block a line carries, what was used, when a request is over.

The CLI writes a line per content block and repeats the usage of the message's start in each (anthropics/claude-code
6805); the stream events say the true one. It leaves out empty text blocks, so a block's number is the stream's, not a
count of lines. Sub-agents have no stream events: their blocks are counted.
"""

from __future__ import annotations

from .blocks import Cleaner, count_at, dict_at, event_id, text_at, text_or_none
from .totals import USAGE_KEYS, Totals, split_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = tuple[str, dict[str, Any]]

SPEEDS = ("standard", "fast")
SYNTHETIC_MODEL = "<synthetic>"
MODEL_CHARS = 200
# Messages that are over and may still get a line.
KEPT_MESSAGES = 64


class Message:
    """A message of `thread`: the tool use that a sub-agent works for, or None."""

    def __init__(self, id: str, thread: str | None, message: dict[str, Any], streamed: bool) -> None:
        self.id = id
        self.thread = thread
        self.model = text_or_none(message, "model")
        self.streamed = streamed
        self.ended = False
        self.stop_reason: str | None = None
        self._usage = message.get("usage")
        self._final: Any = None
        self._started: dict[int, tuple[str, bool]] = {}
        self._placed: set[int] = set()

    @property
    def start_id(self) -> str:
        """The id of the span's first event."""
        return event_id(self.id) + "_start"

    def block_started(self, index: int, block: dict[str, Any]) -> None:
        """The stream says that block `index` begins."""
        kind = str(block.get("type"))
        self._started.setdefault(index, (kind, kind == "text" and not block.get("text")))

    def block_grew(self, index: int) -> None:
        """The stream has content for block `index`."""
        if index in self._started:
            self._started[index] = (self._started[index][0], False)

    def place(self, block: dict[str, Any]) -> int:
        """The number of the block that a line carries: once for each, the stream's where there is one."""
        kind = str(block.get("type"))
        empty = kind == "text" and not block.get("text")
        free = [index for index in sorted(self._started) if index not in self._placed]
        alike = [index for index in free if self._started[index][0] == kind]
        same = [index for index in alike if self._started[index][1] == empty]
        index = (same or alike or [self._next()])[0]
        self._placed.add(index)
        return index

    def used(self, delta: dict[str, Any]) -> None:
        """The stream's message_delta: final counts."""
        self._final = delta.get("usage")
        stop = delta.get("delta")
        self.stop_reason = (text_or_none(stop, "stop_reason") if isinstance(stop, dict) else None) or self.stop_reason

    def usage(self) -> dict[str, Any]:
        """Token counts. As the CLI does: a zero in the delta's input counts means that they are the start's.

        `cache_creation` says how long what was written to the cache is kept there, where the API does.
        """
        usage: dict[str, Any] = {key: count_at(self._final, key) or count_at(self._usage, key) for key in USAGE_KEYS}
        if isinstance(self._final, dict) and "output_tokens" in self._final:
            usage["output_tokens"] = count_at(self._final, "output_tokens")
        speed = self._usage.get("speed") if isinstance(self._usage, dict) else None
        if speed in SPEEDS:
            usage["speed"] = speed
        final, first = split_of(self._final), split_of(self._usage)
        split = final if any(final.values()) else first or final
        return {**usage, "cache_creation": split} if split else usage

    def repeated(self, message: dict[str, Any]) -> None:
        """Another line of it: without stream events, the last one counts."""
        if not self.streamed:
            self._usage = message.get("usage", self._usage)

    def _next(self) -> int:
        index = len(self._placed)
        while index in self._placed or index in self._started:
            index += 1
        return index


class Spans:
    """The requests to the model, as events: one start and one end for each message."""

    def __init__(self, clean: Cleaner) -> None:
        self._clean = clean
        self._totals = Totals()
        self._messages: dict[str, Message] = {}
        self._streams: dict[str | None, Message] = {}

    @property
    def open(self) -> bool:
        """A request has not ended."""
        return any(not message.ended for message in self._messages.values())

    def streaming(self, thread: str | None) -> Message | None:
        """The message that the thread's stream events are about."""
        return self._streams.get(thread)

    def started(self, event: dict[str, Any], thread: str | None) -> list[Event]:
        """A stream's message_start. What the thread streamed before has broken off. Raise Malformed."""
        body = dict_at(event, "message")
        name = text_at(body, "id")
        before = self._streams.get(thread)
        events = self.ended([before] if before else [])
        if name in self._messages:
            return events
        message = Message(name, thread, body, streamed=True)
        self._streams[thread] = message
        return events + self._opened(message)

    def of_line(self, body: dict[str, Any], thread: str | None) -> tuple[Message, list[Event]]:
        """The message that an assistant's line belongs to, and the events of its being new. Raise Malformed."""
        name = text_at(body, "id")
        message = self._messages.get(name)
        if message is not None:
            message.repeated(body)
            return message, []
        message = Message(name, thread, body, streamed=False)
        if body.get("model") == SYNTHETIC_MODEL:
            message.ended = True
            self._messages[name] = message
            return message, []
        return message, self.end_thread(thread) + self._opened(message)

    def end_thread(self, thread: str | None) -> list[Event]:
        """What has no stream events ends when something else begins, or the sub-agent's answer is there."""
        return self.ended([one for one in self._messages.values() if one.thread == thread and not one.streamed])

    def end_all(self) -> list[Event]:
        """The turn or the output is over."""
        return self.ended(list(self._messages.values()))

    def ended(self, messages: list[Message]) -> list[Event]:
        """The ends of those that are open."""
        events: list[Event] = []
        for message in messages:
            if not message.ended:
                message.ended = True
                events.append(("span.model_request_end", self._end(message)))
        return events

    def unseen(self, line: dict[str, Any], id: str) -> list[Event]:
        """A span for what a `result` reports beyond the messages so far, for each model."""
        events: list[Event] = []
        for number, (model, usage) in enumerate(self._totals.missing(line), 1):
            events += self._unseen(id if number == 1 else f"{id}_{number}", model, usage)
        return events

    def _unseen(self, id: str, model: str | None, usage: dict[str, Any]) -> list[Event]:
        told = {"unseen": True, **self._named(model)}
        end = {"id": id + "_end", "model_request_start_id": id + "_start", "model_usage": usage, "is_error": False}
        return [
            ("span.model_request_start", {"id": id + "_start", **told}),
            ("span.model_request_end", {**end, **told}),
        ]

    def cost(self, line: dict[str, Any]) -> int:
        """Millionths of a dollar that this process has cost up to this `result`."""
        return self._totals.cost(line)

    def _opened(self, message: Message) -> list[Event]:
        self._messages[message.id] = message
        for name in list(self._messages)[:-KEPT_MESSAGES]:
            if self._messages[name].ended:
                del self._messages[name]
        return [("span.model_request_start", {"id": message.start_id, **self._told(message)})]

    def _end(self, message: Message) -> dict[str, Any]:
        """A stream that broke off before it said why it stops is an error."""
        usage = message.usage()
        self._totals.add(usage, message.model)
        return {
            "id": event_id(message.id) + "_end",
            "model_request_start_id": message.start_id,
            "model_usage": usage,
            "is_error": message.streamed and message.stop_reason is None,
            **self._told(message),
        }

    def _told(self, message: Message) -> dict[str, Any]:
        return {**self._named(message.model), **parent_of(message.thread)}

    def _named(self, model: str | None) -> dict[str, str]:
        return {"model": self._clean.text(model)[:MODEL_CHARS]} if model else {}


def parent_of(thread: str | None) -> dict[str, str]:
    """The field that says for which tool use a sub-agent works."""
    return {"parent_tool_use_id": event_id(thread)} if thread else {}

"""The model's messages while their lines arrive: which block a line carries, what was used, when a request is over.

The CLI writes a line per content block and repeats the usage of the message's start in each (anthropics/claude-code
6805); the stream events say the true one. It leaves out empty text blocks, so a block's number is the stream's, not a
count of lines. Sub-agents have no stream events: their blocks are counted.
"""

from __future__ import annotations

from .blocks import Cleaner, count_at, dict_at, event_id, text_at, text_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = tuple[str, dict[str, Any]]

USAGE_KEYS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
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
        """Token counts. As the CLI does: a zero in the delta's input counts means that they are the start's."""
        usage: dict[str, Any] = {key: count_at(self._final, key) or count_at(self._usage, key) for key in USAGE_KEYS}
        if isinstance(self._final, dict) and "output_tokens" in self._final:
            usage["output_tokens"] = count_at(self._final, "output_tokens")
        speed = self._usage.get("speed") if isinstance(self._usage, dict) else None
        if speed in SPEEDS:
            usage["speed"] = speed
        return usage

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
        """One span for what a `result` reports beyond the messages so far."""
        usage = self._totals.missing(line)
        if usage is None:
            return []
        self._totals.add(usage)
        end = {"id": id + "_end", "model_request_start_id": id + "_start", "model_usage": usage, "is_error": False}
        return [
            ("span.model_request_start", {"id": id + "_start", "unseen": True}),
            ("span.model_request_end", {**end, "unseen": True}),
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
        self._totals.add(usage)
        return {
            "id": event_id(message.id) + "_end",
            "model_request_start_id": message.start_id,
            "model_usage": usage,
            "is_error": message.streamed and message.stop_reason is None,
            **self._told(message),
        }

    def _told(self, message: Message) -> dict[str, Any]:
        model = {"model": self._clean.text(message.model)[:MODEL_CHARS]} if message.model else {}
        return {**model, **parent_of(message.thread)}


def parent_of(thread: str | None) -> dict[str, str]:
    """The field that says for which tool use a sub-agent works."""
    return {"parent_tool_use_id": event_id(thread)} if thread else {}


class Totals:
    """Tokens of requests whose spans are in the log, and those of all requests that the CLI reports.

    Sub-agents' last messages, compaction and other requests of the CLI's own have no lines: a `result` has their sum.
    """

    def __init__(self) -> None:
        self._seen = dict.fromkeys(USAGE_KEYS, 0)
        self._reported = dict.fromkeys(USAGE_KEYS, 0)
        self._microusd = 0

    def add(self, usage: dict[str, Any]) -> None:
        """A span with this usage is in the log."""
        for key in USAGE_KEYS:
            self._seen[key] += usage[key]

    def missing(self, line: dict[str, Any]) -> dict[str, int] | None:
        """What a `result` line reports beyond the spans so far; None when it is nothing."""
        since = line.get("model_usage_since_last_result")
        if isinstance(since, dict):
            self._reported = {key: self._reported[key] + _summed(since, name) for key, name in _NAMES.items()}
        else:
            self._reported = {key: _summed(line.get("modelUsage"), name) for key, name in _NAMES.items()}
        missing = {key: max(0, self._reported[key] - self._seen[key]) for key in USAGE_KEYS}
        return missing if any(missing.values()) else None

    def cost(self, line: dict[str, Any]) -> int:
        """`total_cost_usd` goes on from the process before when a session is resumed; these sums do not."""
        since = line.get("model_usage_since_last_result")
        if not isinstance(since, dict):
            return microusd(line.get("total_cost_usd"))
        self._microusd += sum(
            microusd(model.get("costUSD")) if isinstance(model, dict) else 0 for model in since.values()
        )
        return self._microusd


_NAMES = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_creation_input_tokens": "cacheCreationInputTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
}


def microusd(dollars: Any) -> int:
    """Millionths of a dollar; 0 for what is no amount."""
    if isinstance(dollars, bool) or not isinstance(dollars, (int, float)) or not 0 <= dollars < 1e9:
        return 0
    return round(dollars * 1_000_000)


def _summed(models: Any, name: str) -> int:
    return sum(count_at(model, name) for model in models.values()) if isinstance(models, dict) else 0

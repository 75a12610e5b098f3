"""Live text: `event_start` and `event_delta` of messages that are still being said, joined to few broadcasts.

Nothing here is stored. A preview has the id of the event that will be: its message's id and its block's number. The
API's own previews of thinking only start (`BetaManagedAgentsStartEvent`, and the SDK's accumulator raises on a delta
without a message); thinking's text is therefore an `event_thinking_delta` of ours.
"""

from __future__ import annotations

from .blocks import Malformed, count_at, dict_at, event_id, text_at, text_or_none
from .messages import parent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...redact import Redactor

# 20 broadcasts a second.
INTERVAL_SECONDS = 0.05
# Broadcasts are paid for by the piece: a block's first words go at once, then so many deltas together, or what came
# within this time. Above 50 deltas a second that is at most 50 broadcasts for 1,000 of them.
GATHERED_DELTAS = 20
PATIENCE_SECONDS = 0.4
# JSON of one broadcast; preview_v1 takes 64 KiB. A character may need twelve bytes as escapes.
BROADCAST_BYTES = 48 * 1024
ESCAPE_BYTES = 12
ITEM_BYTES = 300
# What waits at most: the rest of a flood is not shown before the stored event.
WAITING_CHARS = 1024 * 1024
# What may be the beginning of a secret waits for the rest, up to this much.
HELD_BYTES = 16 * 1024
# By block type: the event's type, the delta's type, and the field of text in both.
PREVIEWED = {
    "text": ("agent.message", "text_delta", "text"),
    "thinking": ("agent.thinking", "thinking_delta", "thinking"),
}


class Block:
    """A block that is being said. `text`: what is redacted and not broadcast yet."""

    def __init__(self, id: str, kind: str, thread: str | None, redactor: Redactor) -> None:
        self.id = id
        self.kind = kind
        self.text = ""
        self._thread = thread
        self._redactor = redactor
        self._held = b""
        self._started = self._over = self._left = False

    def said(self, text: str) -> None:
        """More of it. What may be the beginning of a secret is held until the rest tells."""
        raw = self._held + text.encode("utf-8", "replace")
        cut = self._redactor.cut(raw, force=len(raw) > HELD_BYTES)
        self._held = raw[cut.consumed :]
        self._show(cut.text)

    def over(self) -> None:
        """All of it is said."""
        cut = self._redactor.cut(self._held, end=True)
        self._held = b""
        self._over = True
        self._show(cut.text)

    @property
    def waiting(self) -> bool:
        """Something of it is not broadcast yet. An empty text has no event; a thought that begins is news."""
        return bool(self.text) or (self.kind == "thinking" and not self._started)

    @property
    def urgent(self) -> bool:
        """Its first words and its last do not wait for company, nor does what was too much for one broadcast."""
        return not self._started or self._over or self._left

    def items(self, room: int) -> list[dict[str, Any]]:
        """What is to be broadcast of it, within about `room` bytes of JSON."""
        items = [] if self._started else [self._start()]
        self._started = True
        chars = max(0, room - ITEM_BYTES * 2) // ESCAPE_BYTES
        shown, self.text = self.text[:chars], self.text[chars:]
        self._left = bool(self.text)
        return [*items, self._delta(shown)] if shown else items

    def _show(self, raw: bytes) -> None:
        self.text = (self.text + raw.decode("utf-8", "replace").replace("\0", "\ufffd"))[:WAITING_CHARS]

    def _start(self) -> dict[str, Any]:
        event = {"type": PREVIEWED[self.kind][0], "id": self.id}
        return {"type": "event_start", "event": event, **parent_of(self._thread)}

    def _delta(self, text: str) -> dict[str, Any]:
        if self.kind == "thinking":
            return {"type": "event_thinking_delta", "event_id": self.id, "thinking": text}
        delta = {"type": "content_delta", "index": 0, "content": {"type": "text", "text": text}}
        return {"type": "event_delta", "event_id": self.id, "delta": delta}


class Previews:
    """The previews of one process of the CLI, from its first line on."""

    def __init__(self, redactor: Callable[[], Redactor], clock: Callable[[], float]) -> None:
        """`redactor` makes one for each block; `clock` says seconds and never goes back."""
        self._redactor = redactor
        self._clock = clock
        self._next_at = float("-inf")
        self._messages: dict[str | None, str] = {}
        self._blocks: dict[tuple[str | None, int], Block] = {}
        self._done: list[Block] = []
        self._gathered = 0
        self._gathering_since = 0.0

    def take(self, line: dict[str, Any]) -> None:
        """The next line of the CLI; only stream events matter, and malformed ones do not."""
        if line.get("type") != "stream_event":
            return
        try:
            event = dict_at(line, "event")
            self._take(event, text_or_none(line, "parent_tool_use_id"))
        except Malformed:
            return

    def due(self) -> list[dict[str, Any]]:
        """What is to be broadcast now; [] when nothing waits or the last broadcast is less than the interval ago."""
        if self.wait() != 0:
            return []
        items = self._collected()
        self._next_at = self._clock() + INTERVAL_SECONDS
        self._gathered = 0
        return items

    def wait(self) -> float | None:
        """Seconds until `due` has something; None when nothing waits."""
        waiting = [block for block in self._all() if block.waiting]
        if not waiting:
            return None
        ripe = self._gathered >= GATHERED_DELTAS or any(block.urgent for block in waiting)
        at = self._next_at if ripe else max(self._next_at, self._gathering_since + PATIENCE_SECONDS)
        return max(0.0, at - self._clock())

    def discard(self) -> None:
        """Forget what has been said so far: it is old. The rest of a block that has begun is no preview without it."""
        self._blocks.clear()
        self._done = []

    def _take(self, event: dict[str, Any], thread: str | None) -> None:
        kind, place = text_at(event, "type"), (thread, count_at(event, "index"))
        if kind in ("message_start", "message_stop"):
            self._over(thread)
        if kind == "message_start":
            self._messages[thread] = text_at(dict_at(event, "message"), "id")
        elif kind == "content_block_start" and thread in self._messages:
            self._started(place, dict_at(event, "content_block"))
        elif kind == "content_block_delta" and place in self._blocks:
            self._said(self._blocks[place], dict_at(event, "delta"))
        elif kind == "content_block_stop" and place in self._blocks:
            self._finish(place)

    def _started(self, place: tuple[str | None, int], content: dict[str, Any]) -> None:
        kind = text_at(content, "type")
        if kind not in PREVIEWED or place in self._blocks:
            return
        id = f"{event_id(self._messages[place[0]])}_{place[1]}"
        self._blocks[place] = Block(id, kind, place[0], self._redactor())
        self._blocks[place].said(text_or_none(content, PREVIEWED[kind][2]) or "")

    def _said(self, block: Block, delta: dict[str, Any]) -> None:
        _, kind, field = PREVIEWED[block.kind]
        if delta.get("type") == kind:
            if not self._gathered:
                self._gathering_since = self._clock()
            self._gathered += 1
            block.said(text_at(delta, field))

    def _finish(self, place: tuple[str | None, int]) -> None:
        block = self._blocks.pop(place)
        block.over()
        if block.waiting:
            self._done.append(block)

    def _over(self, thread: str | None) -> None:
        """A message that breaks off leaves its blocks open."""
        self._messages.pop(thread, None)
        for place in [place for place in self._blocks if place[0] == thread]:
            self._finish(place)

    def _all(self) -> list[Block]:
        """In the order in which they began to be said, as far as one thread goes."""
        return [*self._done, *self._blocks.values()]

    def _collected(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        room = BROADCAST_BYTES
        for block in self._all():
            if block.waiting and room > ITEM_BYTES * 3:
                found = block.items(room)
                room -= sum(ITEM_BYTES + ESCAPE_BYTES * _chars(item) for item in found)
                items += found
        self._done = [block for block in self._done if block.waiting]
        return items


def _chars(item: dict[str, Any]) -> int:
    if item["type"] == "event_delta":
        return len(item["delta"]["content"]["text"])
    return len(item.get("thinking", ""))

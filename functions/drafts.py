"""What is being said in a session and not yet in its log: previews, kept until the event itself is stored.

A reader that comes in the middle of a sentence gets its beginning too. Their form is that of the Managed Agents
stream: `event_start`, then `event_delta` with the same event's id.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sandstream.events import Event

# A sentence that is longer is not previewed to its end; the event is complete.
MAX_DRAFT_BYTES = 1024 * 1024
ENDS = ("session.status_idle", "session.status_terminated", "session.deleted")


class Part(BaseModel):
    """A piece of a preview; what this version does not know of it is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Id = Annotated[str, Field(max_length=200)]


class Begun(Part):
    """The event that is to come."""

    type: Literal["agent.message", "agent.thinking"]
    id: Id


class Start(Part):
    """An event has begun."""

    type: Literal["event_start"]
    event: Begun


class Text(Part):
    """Some more of a text."""

    type: Literal["text"]
    text: str


class Content(Part):
    """Which block of the event's content goes on."""

    type: Literal["content_delta"]
    index: int | None = None
    content: Text


class Delta(Part):
    """The event goes on."""

    type: Literal["event_delta"]
    event_id: Id
    delta: Content


PREVIEW: TypeAdapter[Start | Delta] = TypeAdapter(Annotated[Start | Delta, Field(discriminator="type")])


@dataclass(frozen=True)
class Draft:
    """One preview as an SSE message, which has no id: a client that comes back cannot ask for it."""

    place: int
    event_id: str
    kind: str
    message: bytes


class Drafts:
    """The previews of the events that the log does not have yet, in the order in which they came."""

    def __init__(self) -> None:
        self.last = 0
        self._kinds: dict[str, str] = {}
        self._kept: list[Draft] = []
        self._bytes = 0

    def heard(self, items: Iterable[dict[str, Any]]) -> bool:
        """True when there is something new in them. A delta whose start is not here is let go."""
        before = self.last
        for item in items:
            try:
                preview = PREVIEW.validate_python(item)
            except ValidationError:
                continue
            if isinstance(preview, Start):
                self._kinds.setdefault(preview.event.id, preview.event.type)
                self._keep(preview.event.id, preview)
            elif preview.event_id in self._kinds:
                self._keep(preview.event_id, preview)
        return self.last > before

    def stored(self, event: Event) -> None:
        """The log has the event: nothing that was said before of it, or of a request that ended, is shown any more."""
        if not self._kept:
            return
        if event.type in ENDS:
            self._drop(lambda _: True)
        elif event.type == "span.model_request_end":
            request = event.id.removesuffix("_end")
            self._drop(lambda id: id.startswith(f"{request}_"))
        else:
            self._drop(lambda id: id == event.id)

    def since(self, place: int, kinds: frozenset[str]) -> list[Draft]:
        """What of these kinds came after the place."""
        first = bisect_right(self._kept, place, key=lambda draft: draft.place)
        return [draft for draft in self._kept[first:] if draft.kind in kinds]

    def _keep(self, id: str, preview: Start | Delta) -> None:
        self.last += 1
        message = b"event: message\ndata: %b\n\n" % preview.model_dump_json(exclude_none=True).encode()
        self._kept.append(Draft(self.last, id, self._kinds[id], message))
        self._bytes += len(message)
        if self._bytes > MAX_DRAFT_BYTES:
            oldest = self._kept[0].event_id
            self._drop(lambda id: id == oldest)

    def _drop(self, is_done: Callable[[str], bool]) -> None:
        self._kinds = {id: kind for id, kind in self._kinds.items() if not is_done(id)}
        self._kept = [draft for draft in self._kept if not is_done(draft.event_id)]
        self._bytes = sum(len(draft.message) for draft in self._kept)

"""Who is on which topic, and who is present there. One process holds them all, so this is plain memory.

A private and a public channel of one name are two topics that never hear each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from local.supabase.realtime_protocol import Broadcast, Frame, Version, encode

WIRE_PREFIX = "realtime:"
Meta = dict[str, Any]
State = dict[str, dict[str, list[Meta]]]


class Topic(NamedTuple):
    """A channel's name without the wire's prefix, and whether it is private."""

    name: str
    private: bool

    @property
    def wire(self) -> str:
        """The topic as messages carry it."""
        return WIRE_PREFIX + self.name


class Subscriber(Protocol):
    """What a topic needs to know of a channel."""

    @property
    def topic(self) -> Topic:
        """Where it is joined."""

    @property
    def version(self) -> Version:
        """Which frames it reads."""

    @property
    def hears_broadcasts(self) -> bool:
        """Whether the policies let it read broadcasts."""

    @property
    def hears_presence(self) -> bool:
        """Whether it asked for presence, and the policies let it read that."""

    def send(self, frame: Frame) -> None:
        """Queue a frame. Never blocks."""


class Topics:
    """All channels by topic, and the presences tracked on each."""

    def __init__(self) -> None:
        self._members: dict[Topic, dict[Subscriber, None]] = {}
        self._presences: dict[Topic, Presences] = {}

    def join(self, subscriber: Subscriber) -> None:
        """From now on it hears the topic."""
        self._members.setdefault(subscriber.topic, {})[subscriber] = None

    def leave(self, subscriber: Subscriber) -> None:
        """It hears nothing more, and is present no longer. Does nothing when it never joined."""
        members = self._members.get(subscriber.topic, {})
        members.pop(subscriber, None)
        if not members:
            self._members.pop(subscriber.topic, None)
        self.untrack(subscriber)

    def publish(self, broadcast: Broadcast, topic: Topic, but: Subscriber | None = None) -> None:
        """Queue one message for everyone on the topic; each version's frame is encoded once."""
        for member in self._members.get(topic, ()):
            if member is not but and member.hears_broadcasts:
                frame = broadcast.frame(member.version)
                if frame is not None:
                    member.send(frame)

    def track(self, subscriber: Subscriber, key: str, payload: Meta) -> None:
        """Say that the subscriber is present as `key`; another track replaces its payload."""
        presences = self._presences.setdefault(subscriber.topic, Presences())
        self._tell(subscriber.topic, *presences.track(subscriber, key, payload))

    def untrack(self, subscriber: Subscriber) -> None:
        """Say that it is present no longer. Does nothing when it was not."""
        presences = self._presences.get(subscriber.topic)
        if presences is None:
            return
        left = presences.untrack(subscriber)
        if presences.is_empty:
            del self._presences[subscriber.topic]
        if left:
            self._tell(subscriber.topic, {}, left)

    def presence(self, topic: Topic) -> State:
        """Who is present, as `presence_state` carries it."""
        presences = self._presences.get(topic)
        return presences.state() if presences is not None else {}

    def _tell(self, topic: Topic, joins: State, leaves: State) -> None:
        listeners = [member for member in self._members.get(topic, ()) if member.hears_presence]
        diff = {"joins": joins, "leaves": leaves}
        send_all(listeners, lambda version: encode(version, topic.wire, "presence_diff", diff))


class Presences:
    """The presences of one topic: at most one per subscriber, any number per key."""

    def __init__(self) -> None:
        self._metas: dict[Subscriber, tuple[str, Meta]] = {}
        self._refs = itertools.count(1)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is present."""
        return not self._metas

    def track(self, subscriber: Subscriber, key: str, payload: Meta) -> tuple[State, State]:
        """The joins and leaves that follow, as Phoenix.Presence shapes them: an update is a join and a leave."""
        previous = self._metas.get(subscriber)
        meta = payload | {"phx_ref": f"{next(self._refs):x}"}
        if previous is not None:
            meta["phx_ref_prev"] = previous[1]["phx_ref"]
        self._metas[subscriber] = (key, meta)
        return group([(key, meta)]), group([previous] if previous is not None else [])

    def untrack(self, subscriber: Subscriber) -> State:
        """The leave that follows; empty when it was not present."""
        previous = self._metas.pop(subscriber, None)
        return group([previous] if previous is not None else [])

    def state(self) -> State:
        """Everyone present, by key."""
        return group(self._metas.values())


def group(entries: Iterable[tuple[str, Meta]]) -> State:
    """Metas by key, as Phoenix.Presence writes them."""
    state: State = {}
    for key, meta in entries:
        state.setdefault(key, {"metas": []})["metas"].append(meta)
    return state


def send_all(subscribers: Iterable[Subscriber], encoded: Callable[[Version], Frame]) -> None:
    """Send one message to many, encoded once per version."""
    frames: dict[Version, Frame] = {}
    for subscriber in subscribers:
        if subscriber.version not in frames:
            frames[subscriber.version] = encoded(subscriber.version)
        subscriber.send(frames[subscriber.version])

"""Topics and presences in memory: who is told what, and that nothing is left of those who went."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from local.supabase.realtime_protocol import Broadcast, Frame, Version
from local.supabase.realtime_topics import Presences, State, Topic, Topics

PRIVATE = Topic("a", private=True)


@dataclass(eq=False)
class Listener:
    """A subscriber that remembers."""

    topic: Topic = PRIVATE
    version: Version = Version.V2
    hears_broadcasts: bool = True
    hears_presence: bool = True
    heard: list[Frame] = field(default_factory=list)

    def send(self, frame: Frame) -> None:
        self.heard.append(frame)

    @property
    def payloads(self) -> list[Any]:
        """The payloads of the text messages it heard."""
        return [json.loads(frame)[4] for frame in self.heard]


def test_a_message_reaches_its_topic_and_nobody_else() -> None:
    """Private and public are two topics; a sender may be left out; the deaf hear nothing."""
    topics = Topics()
    one, two, deaf = Listener(), Listener(), Listener(hears_broadcasts=False)
    public = Listener(Topic("a", private=False))
    for listener in (one, two, deaf, public):
        topics.join(listener)
    topics.publish(Broadcast("realtime:a", "e", b"1", framed=False), PRIVATE, but=two)
    assert [len(listener.heard) for listener in (one, two, deaf, public)] == [1, 0, 0, 0]


def test_subscribers_share_one_frame() -> None:
    """A thousand subscribers get the same object: a message is encoded once per version."""
    topics = Topics()
    listeners = [Listener(version=version) for version in Version for _ in range(500)]
    for listener in listeners:
        topics.join(listener)
    topics.publish(Broadcast("realtime:a", "e", b"{}"), PRIVATE)
    assert len({id(listener.heard[0]) for listener in listeners}) == 2


def test_presence_tells_joins_updates_and_leaves() -> None:
    """An update is a join and a leave of one key, linked by phx_ref_prev; a second leave says nothing."""
    topics, ada, ben = Topics(), Listener(), Listener()
    topics.join(ada)
    topics.join(ben)
    topics.track(ada, "ada", {"mood": "calm"})
    topics.track(ada, "ada", {"mood": "busy"})
    topics.leave(ada)
    topics.leave(ada)
    joined, updated, left = ben.payloads
    assert joined == {"joins": {"ada": {"metas": [{"mood": "calm", "phx_ref": "1"}]}}, "leaves": {}}
    assert updated["joins"]["ada"]["metas"] == [{"mood": "busy", "phx_ref": "2", "phx_ref_prev": "1"}]
    assert updated["leaves"]["ada"]["metas"] == joined["joins"]["ada"]["metas"]
    assert left == {"joins": {}, "leaves": updated["joins"]}
    assert topics.presence(PRIVATE) == {}


def test_presence_is_not_told_to_those_who_may_not_read_it() -> None:
    """Diffs go to whom the policies allow presence."""
    topics, ada, deaf = Topics(), Listener(), Listener(hears_presence=False)
    topics.join(ada)
    topics.join(deaf)
    topics.track(ada, "ada", {})
    assert deaf.heard == []
    assert len(ada.heard) == 1


def test_nothing_is_kept_of_an_empty_topic() -> None:
    """Topics come and go by the thousand; memory does not grow with those that went."""
    topics, listener = Topics(), Listener()
    topics.join(listener)
    topics.track(listener, "k", {})
    topics.leave(listener)
    assert (topics._members, topics._presences) == ({}, {})


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]), st.integers(0, 2) | st.none())))
def test_the_diffs_add_up_to_the_state(moves: list[tuple[int, str, int | None]]) -> None:
    """Whoever applies every diff, as the SDKs do, knows exactly who is present."""
    presences, people = Presences(), [Listener() for _ in range(4)]
    known: dict[str, dict[str, Any]] = {}
    for who, key, payload in moves:
        if payload is None:
            joins, leaves = State(), presences.untrack(people[who])
        else:
            joins, leaves = presences.track(people[who], key, {"n": payload})
        for name, entry in joins.items():
            known.setdefault(name, {}).update({meta["phx_ref"]: meta for meta in entry["metas"]})
        for name, entry in leaves.items():
            for meta in entry["metas"]:
                del known[name][meta["phx_ref"]]
    state = {key: {meta["phx_ref"]: meta for meta in entry["metas"]} for key, entry in presences.state().items()}
    assert state == {key: metas for key, metas in known.items() if metas}

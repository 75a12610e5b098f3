"""What of a conversation is changed later: its title, metadata, budget and agent."""

from __future__ import annotations

from tests.sql.conftest import Connect
from tests.sql.conversations import AGENT, create, end_turn, say, update
from tests.sql.people import Connection, Person, refused
from tests.sql.runs import Json, Run, finish
from tests.sql.turns import behind


def test_changes_touch_what_they_name(rest: Connection, owner: Person) -> None:
    """Title, budget and agent change, each alone; null takes title and budget away; nothing named changes nothing."""
    session = create(rest, owner, title="A", budget_microusd=5)["session"]
    assert update(rest, owner, session["id"])["title"] == "A"
    assert update(rest, owner, session["id"], title="B")["budget_microusd"] == 5
    other: Json = {**AGENT, "system": "Be brief."}
    changed = update(rest, owner, session["id"], budget_microusd=9, agent=other)
    assert (changed["title"], changed["budget_microusd"], changed["agent"]) == ("B", 9, other)
    bare = update(rest, owner, session["id"], title=None, budget_microusd=None)
    assert (bare["title"], bare["budget_microusd"], bare["agent"]) == (None, None, other)


def test_metadata_is_patched(rest: Connection, owner: Person) -> None:
    """Keys that are named change, null takes one away, the others stay; more than 16 keys or 16 KiB is PT400."""
    session = create(rest, owner, metadata={"a": "1", "b": "2"})["session"]
    changed = update(rest, owner, session["id"], metadata={"b": None, "c": "3"})
    assert changed["metadata"] == {"a": "1", "c": "3"}
    for bad in ({str(n): "x" for n in range(16)}, {"a": "x" * 16384}, ["a"]):
        with refused("PT400", "bad_metadata"):
            update(rest, owner, session["id"], metadata=bad)


def test_two_patches_at_once_both_count(rest: Connection, connect: Connect, admin: Connection, owner: Person) -> None:
    """The second waits for the first and is merged into what that left."""
    session = create(rest, owner)["session"]
    second = connect("authenticator")
    merged = behind(
        admin,
        rest,
        lambda: update(rest, owner, session["id"], metadata={"a": "1"}),
        second,
        lambda: update(second, owner, session["id"], metadata={"b": "2"}),
    )
    assert merged["metadata"] == {"a": "1", "b": "2"}


def test_a_budget_is_raised_past_its_cost(rest: Connection, admin: Connection, turn: Run) -> None:
    """A limit that the session has reached already is PT400 budget_not_raised."""
    say(rest, turn.runner, 1, "agent.message")
    finish(rest, turn.runner, 1, "failed")
    admin.execute("update public.agent_sessions set cost_microusd = 700 where id = %s", (turn.session_id,))
    for budget in (0, 700):
        with refused("PT400", "budget_not_raised"):
            update(rest, turn.owner, turn.session_id, budget_microusd=budget)
    assert update(rest, turn.owner, turn.session_id, budget_microusd=701)["budget_microusd"] == 701


def test_the_agent_changes_between_turns(rest: Connection, admin: Connection, turn: Run) -> None:
    """PT409 session_running while one works; another agent's snapshot is PT400 whenever."""
    with refused("PT409", "session_running"):
        update(rest, turn.owner, turn.session_id, agent={**AGENT, "name": "B"})
    assert update(rest, turn.owner, turn.session_id, title="while it runs")["title"] == "while it runs"
    end_turn(rest, admin, turn)
    assert update(rest, turn.owner, turn.session_id, agent={**AGENT, "name": "B"})["agent"]["name"] == "B"
    with refused("PT400", "bad_agent"):
        update(rest, turn.owner, turn.session_id, agent={**AGENT, "id": "agent_other"})


def test_a_change_is_made_once_for_a_key(rest: Connection, owner: Person) -> None:
    """Sent again after another change it does not undo that one."""
    session = create(rest, owner)["session"]
    update(rest, owner, session["id"], "k", title="A")
    update(rest, owner, session["id"], title="B")
    assert update(rest, owner, session["id"], "k", title="A")["title"] == "B"

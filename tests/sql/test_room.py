"""How many sandboxes an owner may have at once: what counts, what is refused, and what does not ask."""

from __future__ import annotations

import pytest

from tests.sql.conversations import (
    confirmation,
    create,
    end_turn,
    interrupt,
    message,
    new_turn,
    send,
    session_row,
    turn_of,
    types_of,
)
from tests.sql.limits import allow, deployed
from tests.sql.people import SERVICE, Connection, Person, refused, scalar, sign_up
from tests.sql.runs import Json, Run, admit, append, finish, lose, new_run

ERROR: Json = {"type": "sandbox_lost"}
TOLD = "at most 1 sandboxes may run at once"


@pytest.fixture
def owner(rest: Connection, admin: Connection) -> Person:
    """Someone who may have one sandbox."""
    owner = sign_up(admin)
    allow(rest, admin, owner, max_concurrent_sandboxes=1)
    return owner


@pytest.fixture
def full(rest: Connection, admin: Connection, owner: Person) -> Run:
    """The one run that the owner may have."""
    return new_run(rest, admin, owner)


def rows(admin: Connection, owner: Person) -> list[int]:
    """How many sessions, runs, events and keys the owner has."""
    counts = "".join(
        f"(select count(*) from public.{table} where owner = %(owner)s), "
        for table in ("agent_sessions", "agent_runs", "idempotency_keys")
    )
    events = "(select count(*) from public.agent_events e join public.agent_sessions s on s.id = e.session_id "
    query = f"select array[{counts}{events}where s.owner = %(owner)s)]"
    return list(scalar(admin, query, {"owner": owner.id}))


def wait(rest: Connection, turn: Run) -> Json:
    """The answer of admit_waiting_v1."""
    return dict(turn.owner.call(rest, "admit_waiting_v1", session_id=turn.session_id, limit_seconds=60))


def test_one_more_than_may_be_is_refused(rest: Connection, admin: Connection, owner: Person, full: Run) -> None:
    """PT429 too_many_sandboxes, launching or running, and nothing is written; after the end there is room."""
    before = rows(admin, owner)
    for _ in range(2):
        with refused("PT429", "too_many_sandboxes", TOLD):
            admit(rest, owner, idempotency_key="k")
        assert rows(admin, owner) == before
        append(rest, full.runner, [])
    finish(rest, full.runner, 0)
    assert admit(rest, owner, idempotency_key="k")["replayed"] is False


def test_the_deployments_limit_holds_without_exceptions(rest: Connection, admin: Connection) -> None:
    """Two here; the third is refused."""
    owner = sign_up(admin)
    with deployed(rest, admin, max_concurrent_sandboxes=2):
        admit(rest, owner)
        admit(rest, owner)
        with refused("PT429", "too_many_sandboxes"):
            admit(rest, owner)


@pytest.mark.usefixtures("full")
def test_others_are_not_counted(rest: Connection, admin: Connection) -> None:
    """One owner's runs take nobody else's room."""
    assert admit(rest, sign_up(admin))["replayed"] is False


def test_nothing_may_start_where_none_may_be(rest: Connection, admin: Connection) -> None:
    """An owner with a limit of 0 starts nothing, and may still make a conversation to read later."""
    owner = sign_up(admin)
    allow(rest, admin, owner, max_concurrent_sandboxes=0)
    with refused("PT429", "too_many_sandboxes"):
        admit(rest, owner)
    assert create(rest, owner)["run"] is None


@pytest.mark.usefixtures("full")
def test_a_conversation_with_a_message_needs_room(rest: Connection, admin: Connection, owner: Person) -> None:
    """Its session is not made either; without a message it needs none."""
    before = rows(admin, owner)
    with refused("PT429", "too_many_sandboxes"):
        create(rest, owner, message(), idempotency_key="k")
    assert rows(admin, owner) == before
    assert create(rest, owner, idempotency_key="k")["admitted"] is False


def test_a_message_that_would_start_a_turn_needs_room(rest: Connection, admin: Connection, owner: Person) -> None:
    """It is refused with all that came with it: not in the log, not kept, its key free."""
    session_id = create(rest, owner)["session"]["id"]
    plan = new_run(rest, admin, owner)
    before = rows(admin, owner)
    attachment = {"id": str(plan.id), "media_type": "text/plain", "title": None, "data": "eA=="}
    with refused("PT429", "too_many_sandboxes", TOLD):
        send(rest, owner, session_id, message(), attachments=[attachment], idempotency_key="k")
    assert rows(admin, owner) == before
    assert scalar(admin, "select count(*) from public.session_attachments where session_id = %s", (session_id,)) == 0
    assert session_row(admin, session_id)["message_seq"] == 0
    finish(rest, plan.runner, 0)
    assert send(rest, owner, session_id, message(), idempotency_key="k")["admitted"] is True


def test_what_joins_a_turn_needs_no_room(rest: Connection, admin: Connection, owner: Person) -> None:
    """Messages, interrupts and answers to the one live turn start nothing."""
    turn = new_turn(rest, admin, owner)
    for event in (message("queued"), interrupt()):
        assert send(rest, owner, turn.session_id, event)["run"]["id"] == str(turn.id)
    with refused("PT400", "no_such_tool_use"):
        send(rest, owner, turn.session_id, confirmation("nothing"))


def test_a_paused_sandbox_takes_no_room(rest: Connection, admin: Connection, owner: Person) -> None:
    """A conversation between two turns keeps its sandbox, and a plan may run."""
    turn = new_turn(rest, admin, owner)
    SERVICE.call(rest, "record_sandbox_v1", run_id=turn.id, sandbox_id=str(turn.id), template="base")
    end_turn(rest, admin, turn)
    assert admit(rest, owner)["replayed"] is False


def test_a_replay_needs_no_room(rest: Connection, owner: Person) -> None:
    """What was admitted is answered to its key, though nothing more may start."""
    first = admit(rest, owner, idempotency_key="k")
    again = admit(rest, owner, idempotency_key="k")
    assert (again["replayed"], again["run"]["id"]) == (True, first["run"]["id"])


def test_a_conversations_replay_needs_no_room(rest: Connection, admin: Connection, owner: Person) -> None:
    """Its run was lost and another is live: the replay is answered, admits nothing, and does when there is room."""
    first = create(rest, owner, message(), idempotency_key="k")
    lose(admin, turn_of(first, owner))
    plan = new_run(rest, admin, owner)
    again = create(rest, owner, message(), idempotency_key="k")
    assert (again["replayed"], again["admitted"], again["run"]["id"]) == (True, False, first["run"]["id"])
    finish(rest, plan.runner, 0)
    assert create(rest, owner, message(), idempotency_key="k")["admitted"] is True


def test_what_waits_goes_on_waiting_without_room(rest: Connection, admin: Connection, owner: Person) -> None:
    """Messages of a lost run are neither refused nor lost: they are admitted once something has ended."""
    turn = new_turn(rest, admin, owner)
    SERVICE.call(rest, "lose_run_v1", run_id=turn.id, error=ERROR)
    plan = new_run(rest, admin, owner)
    answer = wait(rest, turn)
    assert (answer["admitted"], answer["run"]) == (False, None)
    assert types_of(admin, turn.session_id).count("run.created") == 1
    finish(rest, plan.runner, 0)
    assert wait(rest, turn)["admitted"] is True


def test_less_than_is_live_stops_nothing(rest: Connection, admin: Connection, full: Run) -> None:
    """A limit that is lowered ends no run; it only starts none."""
    allow(rest, admin, full.owner, max_concurrent_sandboxes=0)
    append(rest, full.runner, [1])
    assert scalar(admin, "select status from public.agent_runs where id = %s", (full.id,)) == "running"

"""A conversation's life: made with an agent's snapshot, archived and deleted, each by its owner only."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.conversations import (
    AGENT,
    ENVIRONMENT,
    archive,
    ask,
    create,
    delete,
    end_turn,
    interrupt,
    message,
    record,
    say,
    send,
    session_row,
    take,
    texts,
    turn_of,
    types_of,
    update,
)
from tests.sql.people import SERVICE, Connection, Person, column, refused, scalar, sign_up
from tests.sql.runs import HASH, OTHER_HASH, Json, Run, new_run, row_of
from tests.sql.turns import at_once

RESOURCE: Json = {"type": "github_repository", "url": "https://github.com/o/r", "mount_path": "~/workspace/r"}
SECRETS: Json = {"repositories": {"https://github.com/o/r": "a-token"}}


def sessions_of(admin: Connection, owner: Person) -> int:
    """How many sessions the owner has."""
    return int(scalar(admin, "select count(*) from public.agent_sessions where owner = %s", (owner.id,)))


def test_a_session_without_words_rests(rest: Connection, admin: Connection, owner: Person) -> None:
    """It has the snapshots, an empty log and no run; its facts say that there is nothing to resume."""
    answer = create(rest, owner, title="A page", metadata={"team": "a"}, resources=[RESOURCE], budget_microusd=5)
    session = answer["session"]
    assert (answer["run"], answer["events"], answer["admitted"], answer["replayed"]) == (None, [], False, False)
    assert (session["status"], session["title"], session["metadata"]) == ("idle", "A page", {"team": "a"})
    assert (session["agent_id"], session["agent"], session["environment"]) == ("default", AGENT, ENVIRONMENT)
    assert (session["resources"], session["budget_microusd"], session["cost_microusd"]) == ([RESOURCE], 5, 0)
    facts = {name: session[name] for name in ("sandbox_id", "has_transcript", "had_sandbox", "has_files")}
    assert facts == {"sandbox_id": None, "has_transcript": False, "had_sandbox": False, "has_files": False}
    assert types_of(admin, session["id"]) == []


def test_a_session_may_begin_at_once(rest: Connection, admin: Connection, owner: Person) -> None:
    """With messages its first run is admitted in the same call."""
    answer = create(rest, owner, message("a"), message("b"))
    assert (answer["admitted"], answer["run"]["kind"], answer["run"]["input"]) == (True, "claude", {"after_seq": 0})
    assert texts(answer["events"]) == ["a", "b"]
    assert answer["session"]["status"] == "running"
    assert types_of(admin, answer["session"]["id"]) == ["user.message", "user.message", "run.created"]


@pytest.mark.parametrize("event", [interrupt(), {"type": "user.tool_confirmation"}, {}, "hello"])
def test_a_session_begins_with_messages_only(rest: Connection, admin: Connection, owner: Person, event: Json) -> None:
    """PT400 bad_event, and no session is left."""
    with refused("PT400", "bad_event"):
        create(rest, owner, message(), event)
    assert sessions_of(admin, owner) == 0


def test_secrets_are_for_the_control_plane_alone(rest: Connection, admin: Connection, owner: Person) -> None:
    """They are in no answer and in no event; the service reads them, and {} where there are none."""
    answer = create(rest, owner, message(), secrets=SECRETS)
    session_id = answer["session"]["id"]
    assert "a-token" not in str(answer)
    assert SERVICE.call(rest, "session_secrets_v1", session_id=session_id) == SECRETS
    assert SERVICE.call(rest, "session_secrets_v1", session_id=create(rest, owner)["session"]["id"]) == {}
    assert column(admin, "select 1 from public.agent_events where data::text like '%%a-token%%'") == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"agent": {**AGENT, "id": "agent_nobody"}}, "agent_not_found"),
        ({"agent": {**AGENT, "version": 2}}, "agent_not_found"),
        ({"agent": {"name": "x"}}, "agent_not_found"),
        ({"environment_id": "env_nobody"}, "environment_not_found"),
    ],
)
def test_what_is_not_there_starts_nothing(
    rest: Connection, admin: Connection, owner: Person, changes: Json, word: str
) -> None:
    """An unknown agent, version or environment is PT404, and no session is left."""
    with refused("PT404", word):
        create(rest, owner, message(), **changes)
    assert sessions_of(admin, owner) == 0


def test_others_agents_and_environments_start_nothing(rest: Connection, admin: Connection, owner: Person) -> None:
    """To their owner they are there, to a stranger they are not."""
    made = owner.call(rest, "create_agent_v1", config={"name": "Mine"}, request_hash=HASH)
    place = owner.call(rest, "create_environment_v1", config={"name": "Mine"}, request_hash=HASH)
    agent = {"id": made["id"], "version": 1, "name": "Mine"}
    stranger = sign_up(admin, "stranger")
    assert create(rest, owner, agent=agent, environment_id=place["id"])["session"]["agent_id"] == made["id"]
    with refused("PT404", "agent_not_found"):
        create(rest, stranger, agent=agent)
    with refused("PT404", "environment_not_found"):
        create(rest, stranger, environment_id=place["id"])


def test_sessions_pin_a_version(rest: Connection, owner: Person) -> None:
    """An older version starts a session as well, and the snapshot stays when the agent changes or is archived."""
    made = owner.call(rest, "create_agent_v1", config={"name": "One"}, request_hash=HASH)
    owner.call(rest, "update_agent_v1", agent_id=made["id"], config={"name": "Two"}, request_hash=HASH)
    snapshot = {"id": made["id"], "version": 1, "name": "One"}
    session = create(rest, owner, agent=snapshot)["session"]
    owner.call(rest, "archive_agent_v1", agent_id=made["id"], request_hash=HASH)
    assert update(rest, owner, session["id"])["agent"] == snapshot
    with refused("PT409", "agent_archived"):
        create(rest, owner, agent=snapshot)


def test_an_environment_leaves_its_sessions_as_they_are(rest: Connection, owner: Person) -> None:
    """Archived it starts none; deleted it is still in the session's copy."""
    place = owner.call(rest, "create_environment_v1", config={"name": "Mine"}, request_hash=HASH)
    session = create(rest, owner, environment_id=place["id"], environment={"name": "Mine"})["session"]
    owner.call(rest, "archive_environment_v1", environment_id=place["id"], request_hash=HASH)
    with refused("PT409", "environment_archived"):
        create(rest, owner, environment_id=place["id"])
    owner.call(rest, "delete_environment_v1", environment_id=place["id"])
    after = update(rest, owner, session["id"])
    assert (after["environment_id"], after["environment"]) == (place["id"], {"name": "Mine"})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"agent": {**AGENT, "x": 10**400}}, "bad_agent"),
        ({"agent": {**AGENT, "system": "x" * (256 << 10)}}, "bad_agent"),
        ({"environment": {"name": ""}}, "bad_environment"),
        ({"resources": {}}, "bad_resources"),
        ({"resources": [{"url": "x" * (64 << 10)}]}, "bad_resources"),
    ],
)
def test_unreadable_snapshots_are_refused(rest: Connection, owner: Person, changes: Json, word: str) -> None:
    """Whoever calls SQL past the endpoint makes no session that readers choke on: PT400."""
    with refused("PT400", word):
        create(rest, owner, **changes)


def test_a_key_makes_one_session(rest: Connection, admin: Connection, owner: Person) -> None:
    """Sent again it is answered with the same session, run and rows; another request under the key is PT409."""
    first = create(rest, owner, message(), idempotency_key="k")
    again = create(rest, owner, message(), idempotency_key="k")
    assert (again["replayed"], again["admitted"]) == (True, False)
    assert {name: again[name] for name in ("session", "run", "events")} == {
        name: first[name] for name in ("session", "run", "events")
    }
    with refused("PT409", "idempotency_key_reused"):
        create(rest, owner, idempotency_key="k", request_hash=OTHER_HASH)
    assert sessions_of(admin, owner) == 1
    assert create(rest, sign_up(admin, "stranger"), idempotency_key="k")["replayed"] is False


def test_ten_requests_at_once_make_one_session(connect: Connect, admin: Connection, owner: Person) -> None:
    """All ten answer with one session and one run, which exactly one of them must launch."""
    connections = [connect("authenticator") for _ in range(10)]
    calls = [lambda c=c: create(c, owner, message(), idempotency_key="k") for c in connections]
    answers = at_once(calls)
    assert len({answer["session"]["id"] for answer in answers}) == len({a["run"]["id"] for a in answers}) == 1
    assert sorted(answer["admitted"] for answer in answers) == [False] * 9 + [True]
    assert sessions_of(admin, owner) == 1


def test_others_cannot_touch_a_session(rest: Connection, admin: Connection, turn: Run) -> None:
    """To a stranger, and under an id that never was, nothing is found: no change, no archiving, no deletion."""
    end_turn(rest, admin, turn)
    before = session_row(admin, turn.session_id)
    stranger = sign_up(admin, "stranger")
    for person, session in ((stranger, turn.session_id), (turn.owner, uuid4())):
        for act in (update, archive, delete):
            with refused("PT404", "session_not_found"):
                act(rest, person, session)
    assert session_row(admin, turn.session_id) == before


def test_an_archived_session_keeps_its_log_and_nothing_else_happens(
    rest: Connection, admin: Connection, turn: Run
) -> None:
    """Terminated, with its last event; the answer names the open sandboxes; archived again it answers the same."""
    record(rest, turn, f"a-{turn.id}")
    end_turn(rest, admin, turn)
    answer = archive(rest, turn.owner, turn.session_id)
    assert (answer["status"], answer["sandbox_ids"]) == ("terminated", [f"a-{turn.id}"])
    assert answer["archived_at"] is not None
    assert types_of(admin, turn.session_id)[-1] == "session.status_terminated"
    assert archive(rest, turn.owner, turn.session_id) == answer
    assert archive(rest, turn.owner, turn.session_id, idempotency_key="k") == answer
    with refused("PT409", "session_terminated"):
        update(rest, turn.owner, turn.session_id, title="late")


@pytest.mark.parametrize("act", [archive, delete])
def test_a_session_at_work_is_left_alone(rest: Connection, admin: Connection, turn: Run, act: Any) -> None:
    """PT409 session_running, whether the run is launching or has started; a plan's session as well."""
    plan = new_run(rest, admin, turn.owner)
    for session in (turn.session_id, plan.session_id):
        with refused("PT409", "session_running"):
            act(rest, turn.owner, session)
    say(rest, turn.runner, 1, "session.status_running")
    with refused("PT409", "session_running"):
        act(rest, turn.owner, turn.session_id)
    assert row_of(admin, turn)["status"] == "running"


def test_archiving_ends_a_run_that_only_waits(rest: Connection, admin: Connection, turn: Run) -> None:
    """The run that waits for an answer is cancelled first, and its runner is told."""
    ask(rest, turn)
    archive(rest, turn.owner, turn.session_id)
    assert row_of(admin, turn)["status"] == "cancelled"
    assert types_of(admin, turn.session_id)[-3:] == [
        "run.cancelled", "session.status_idle", "session.status_terminated",
    ]  # fmt: skip
    assert session_row(admin, turn.session_id)["status"] == "terminated"
    assert turn.runner.call(rest, "heartbeat_v1")["status"] == "cancelled"


def test_a_deleted_session_takes_everything_along(rest: Connection, admin: Connection, owner: Person) -> None:
    """Runs, events, sandboxes, secrets, attachments, transcript and files go; listeners hear session.deleted last."""
    attachment = {"id": str(uuid4()), "media_type": "text/plain", "data": "aGk=", "title": None}
    turn = turn_of(create(rest, owner, message(), attachments=[attachment], secrets=SECRETS), owner)
    record(rest, turn, f"a-{turn.id}")
    turn.runner.call(rest, "append_transcript_v1", subpath="", entries=[{"uuid": "a"}])
    turn.runner.call(rest, "save_files_v1", archive="aGk=", files=1, bytes=2)
    ask(rest, turn)
    assert delete(rest, owner, turn.session_id) == {"sandbox_ids": [f"a-{turn.id}"]}
    tables = (
        "agent_runs", "agent_events", "sandbox_executions", "session_secrets", "session_attachments",
        "session_transcripts", "session_files",
    )  # fmt: skip
    left = [t for t in tables if column(admin, f"select 1 from public.{t} where session_id = %s", (turn.session_id,))]
    assert (left, sessions_of(admin, owner)) == ([], 0)
    query = (
        "select payload from realtime.messages where topic = %s order by (payload ->> 'first_seq')::int desc limit 1"
    )
    (event,) = scalar(admin, query, (f"session:{turn.session_id}",))["events"]
    assert event["type"] == "session.deleted"


def test_a_deletion_is_answered_again_under_its_key(rest: Connection, admin: Connection, turn: Run) -> None:
    """With a key the answer stays known; without one the session is not found any more."""
    record(rest, turn, f"a-{turn.id}")
    end_turn(rest, admin, turn)
    key = {"request_hash": HASH, "idempotency_key": "k"}
    first = delete(rest, turn.owner, turn.session_id, **key)
    assert delete(rest, turn.owner, turn.session_id, **key) == first == {"sandbox_ids": [f"a-{turn.id}"]}
    with refused("PT404", "session_not_found"):
        delete(rest, turn.owner, turn.session_id)


def test_the_newest_open_sandbox_is_the_sessions(rest: Connection, admin: Connection, turn: Run) -> None:
    """sandbox_id is null once it is closed; had_sandbox tells of one from before the live run."""

    def facts(run: Run) -> tuple[object, object]:
        session = SERVICE.call(rest, "launch_facts_v1", run_id=run.id)["session"]
        return session["sandbox_id"], session["had_sandbox"]

    assert facts(turn) == (None, False)
    record(rest, turn, f"a-{turn.id}")
    assert facts(turn) == (f"a-{turn.id}", False)
    end_turn(rest, admin, turn)
    assert facts(turn) == (f"a-{turn.id}", True)
    SERVICE.call(rest, "close_sandbox_v1", sandbox_id=f"a-{turn.id}", reason="gone")
    assert facts(turn) == (None, True)


def test_a_sandbox_that_was_never_used_is_none_that_was_had(rest: Connection, admin: Connection, turn: Run) -> None:
    """What a failed launch leaves behind: the next run's sandbox is no replacement that lost files."""
    record(rest, turn, f"a-{turn.id}")
    SERVICE.call(rest, "close_sandbox_v1", sandbox_id=f"a-{turn.id}", reason="launch_failed")
    end_turn(rest, admin, turn)
    assert SERVICE.call(rest, "launch_facts_v1", run_id=turn.id)["session"]["had_sandbox"] is False


def test_what_lost_runs_were_told_is_pointed_to(rest: Connection, admin: Connection, turn: Run) -> None:
    """lost_after_seq is where the first of the lost runs began, until one ends well."""

    def told(text: str) -> tuple[Run, object]:
        answer = send(rest, turn.owner, turn.session_id, message(text))
        return turn_of(answer, turn.owner), answer["session"]["lost_after_seq"]

    def lost(run: Run) -> None:
        take(rest, run)
        SERVICE.call(rest, "lose_run_v1", run_id=run.id, error={"type": "sandbox_gone"})

    lost(turn)
    second, first_place = told("second")
    lost(second)
    third, second_place = told("third")
    end_turn(rest, admin, third)
    _, no_place = told("fourth")
    assert (first_place, second_place, no_place) == (0, 0, None)

"""Conversations to test with: sessions with an agent, what is said to them, and the runners of their turns."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID, uuid4

from tests.sql.people import SERVICE, Connection, Person, column, scalar, sign_up
from tests.sql.runs import HASH, Json, Run, finish

AGENT: Json = {"id": "default", "version": 1, "type": "agent", "name": "Claude", "model": {"id": "claude-sonnet-5"}}
ENVIRONMENT: Json = {"name": "default", "config": {"type": "cloud"}}
LIMIT_SECONDS = 5400


def message(text: str = "hello") -> Json:
    """A user.message as the endpoint passes it on."""
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def interrupt() -> Json:
    """A user.interrupt."""
    return {"type": "user.interrupt"}


def confirmation(tool_use_id: str, result: str = "allow") -> Json:
    """A user.tool_confirmation of the tool use whose event has this id."""
    return {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, "result": result}


def custom_result(tool_use_id: str) -> Json:
    """A user.custom_tool_result for the custom tool use whose event has this id."""
    return {"type": "user.custom_tool_result", "custom_tool_use_id": tool_use_id, "content": []}


def create(rest: Connection, owner: Person, *events: Json, **changes: object) -> Json:
    """The answer of create_session_v1 for the ready-made agent and environment."""
    request: Json = {
        "agent": AGENT, "environment_id": "default", "environment": ENVIRONMENT, "events": list(events),
        "limit_seconds": LIMIT_SECONDS, "request_hash": HASH,
    }  # fmt: skip
    return dict(owner.call(rest, "create_session_v1", **{**request, **changes}))


def send(rest: Connection, owner: Person, session_id: UUID | str, *events: Json, **changes: object) -> Json:
    """The answer of send_events_v1."""
    request: Json = {"events": list(events), "limit_seconds": LIMIT_SECONDS, "request_hash": HASH}
    return dict(owner.call(rest, "send_events_v1", session_id=str(session_id), **{**request, **changes}))


def turn_of(answer: Json, owner: Person) -> Run:
    """The run in an answer of create or send, with its runner."""
    row = answer["run"]
    claims = {
        "role": "runner", "aud": "runner", "sub": row["id"], "run_id": row["id"], "session_id": row["session_id"],
        "epoch": row["epoch"],
    }  # fmt: skip
    return Run(UUID(row["id"]), UUID(row["session_id"]), owner, Person("runner", "runner", claims))


def new_turn(rest: Connection, admin: Connection, owner: Person | None = None, **changes: object) -> Run:
    """A conversation's first run, admitted with one message, by default of a new user."""
    owner = owner or sign_up(admin)
    return turn_of(create(rest, owner, message(), **changes), owner)


def say(rest: Connection, runner: Person, n: int, type: str, **data: object) -> Json:
    """The answer of append_events_v1 to one event of this type."""
    event = {"n": n, "type": type, "data": data, "at": "2026-11-21T08:00:00.123456Z"}
    return dict(runner.call(rest, "append_events_v1", events=[event]))


def ask(rest: Connection, turn: Run, n: int = 1, kind: str = "agent.tool_use") -> str:
    """A tool use of the turn's, which then waits for an answer: two events. Its event's id."""
    id = f"sevt_toolu_{uuid4().hex}"
    say(rest, turn.runner, n, kind, id=id, name="bash", input={})
    stop_reason = {"type": "requires_action", "event_ids": [id]}
    say(rest, turn.runner, n + 1, "session.status_idle", stop_reason=stop_reason)
    return id


def take(rest: Connection, turn: Run, after: int = 0) -> Json:
    """The answer of take_input_v1."""
    return dict(turn.runner.call(rest, "take_input_v1", after=after))


def end_turn(rest: Connection, admin: Connection, turn: Run) -> None:
    """The turn takes what was said and succeeds."""
    take(rest, turn)
    held = scalar(admin, "select last_n from public.agent_runs where id = %s", (turn.id,))
    finish(rest, turn.runner, held)


def session_row(admin: Connection, session_id: UUID | str) -> Json:
    """The session's row."""
    return dict(scalar(admin, "select to_jsonb(s) from public.agent_sessions s where id = %s", (session_id,)))


def types_of(admin: Connection, session_id: UUID | str) -> list[str]:
    """The types in the session's log, in order, checked to have no hole in seq."""
    query = "select seq from public.agent_events where session_id = %s order by seq"
    seqs = column(admin, query, (session_id,))
    assert seqs == list(range(1, len(seqs) + 1))
    return column(admin, query.replace("select seq", "select type"), (session_id,))


def texts(events: Iterable[Json]) -> list[str]:
    """The texts of the messages among these events, as rows or as take_input_v1 answers them."""
    return [event["data"]["content"][0]["text"] for event in events if event["type"] == "user.message"]


def update(rest: Connection, owner: Person, session_id: object, key: str | None = None, **changes: object) -> Json:
    """The answer of update_session_v1 to these changes."""
    arguments = {"session_id": session_id, "changes": changes, "request_hash": HASH, "idempotency_key": key}
    return dict(owner.call(rest, "update_session_v1", **arguments))


def archive(rest: Connection, owner: Person, session_id: object, **changes: object) -> Json:
    """The answer of archive_session_v1."""
    return dict(owner.call(rest, "archive_session_v1", **{"session_id": session_id, "request_hash": HASH, **changes}))


def delete(rest: Connection, owner: Person, session_id: object, **changes: object) -> Json:
    """The answer of delete_session_v1."""
    return dict(owner.call(rest, "delete_session_v1", session_id=session_id, **changes))


def record(rest: Connection, run: Run, sandbox_id: str) -> None:
    """The launch stores the run's sandbox."""
    SERVICE.call(rest, "record_sandbox_v1", run_id=run.id, sandbox_id=sandbox_id, template="sandstream")

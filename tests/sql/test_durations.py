"""How long an owner's runs may last: refused where somebody named a length, cut where nobody did."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.sql.conversations import create, message, send, turn_of
from tests.sql.limits import allow, deployed
from tests.sql.people import Connection, Person, refused, scalar, sign_up
from tests.sql.runs import Json, Run, admit, lose


@pytest.fixture(autouse=True)
def deployment(rest: Connection, admin: Connection) -> Iterator[None]:
    """An hour for a sandbox, of which a minute is margin."""
    with deployed(rest, admin):
        yield


@pytest.fixture
def owner(rest: Connection, admin: Connection) -> Person:
    """Someone whose sandboxes live ten minutes."""
    owner = sign_up(admin)
    allow(rest, admin, owner, max_sandbox_duration_ms=600_000)
    return owner


def seconds(admin: Connection, run: Json) -> list[int]:
    """The run's limit: as its row has it, as its deadline has it, as the log has it."""
    query = """
      select array[r.limit_seconds, extract(epoch from r.deadline_at - r.created_at)::integer,
        (e.data ->> 'limit_seconds')::integer]
      from public.agent_runs r join public.agent_events e on e.run_id = r.id and e.type = 'run.created' where r.id = %s
    """
    return list(scalar(admin, query, (run["id"],)))


def test_the_longest_run_is_admitted(rest: Connection, admin: Connection, owner: Person) -> None:
    """Ten minutes less the margin."""
    assert seconds(admin, admit(rest, owner, limit_seconds=540)["run"]) == [540] * 3


def test_a_longer_one_is_refused_by_the_fields_name(rest: Connection, admin: Connection, owner: Person) -> None:
    """PT400 as for any wrong field; its name is the hint. Nothing is written."""
    with pytest.raises(psycopg.Error, match="invalid_request_error") as caught:
        admit(rest, owner, limit_seconds=541)
    diag = caught.value.diag
    assert (diag.sqlstate, diag.message_hint) == ("PT400", "timeout")
    assert diag.message_detail == "a run may last 540 seconds here"
    assert scalar(admin, "select count(*) from public.agent_sessions where owner = %s", (owner.id,)) == 0


def test_the_deployments_limit_holds_past_the_endpoints(rest: Connection, admin: Connection) -> None:
    """Who calls admission by themselves gets no longer run than the endpoints would give."""
    owner = sign_up(admin)
    with refused("PT400", "invalid_request_error", "a run may last 3540 seconds here"):
        admit(rest, owner, limit_seconds=3541)
    assert seconds(admin, admit(rest, owner, limit_seconds=3540)["run"]) == [3540] * 3


def test_a_length_that_nobody_named_is_cut(rest: Connection, admin: Connection, owner: Person) -> None:
    """The sum of a plan's commands may be more; what is less stays as it is."""
    assert seconds(admin, admit(rest, owner, limit_seconds=3000, is_cut=True)["run"]) == [540] * 3
    assert seconds(admin, admit(rest, owner, limit_seconds=300, is_cut=True)["run"]) == [300] * 3


def test_turns_are_cut(rest: Connection, admin: Connection, owner: Person) -> None:
    """A turn's length is the deployment's, not the user's: the first, the next, and one that takes what waited."""
    first = turn_of(create(rest, owner, message()), owner)
    assert seconds(admin, {"id": first.id}) == [540] * 3
    lose(admin, first)
    waiting = owner.call(rest, "admit_waiting_v1", session_id=first.session_id, limit_seconds=5400)
    assert seconds(admin, waiting["run"]) == [540] * 3
    lose(admin, Run(waiting["run"]["id"], first.session_id, owner, first.runner))
    assert seconds(admin, send(rest, owner, first.session_id, message())["run"]) == [540] * 3


def test_a_replay_is_answered_though_it_would_be_too_long_now(rest: Connection, admin: Connection) -> None:
    """A limit that is lowered changes nothing about what was admitted."""
    owner = sign_up(admin)
    first = admit(rest, owner, limit_seconds=3000, idempotency_key="k")
    allow(rest, admin, owner, max_sandbox_duration_ms=60_000)
    again = admit(rest, owner, limit_seconds=3000, idempotency_key="k")
    assert (again["replayed"], again["run"]["limit_seconds"]) == (True, first["run"]["limit_seconds"])


def test_a_refused_length_gives_its_key_back(rest: Connection, owner: Person) -> None:
    """The same key may be used for the mended request."""
    with refused("PT400"):
        admit(rest, owner, limit_seconds=3000, idempotency_key="k")
    assert admit(rest, owner, limit_seconds=300, idempotency_key="k")["replayed"] is False


@pytest.mark.parametrize(("asked", "code"), [(0, "23514"), (None, "23502"), (-1, "23514")])
def test_no_length_at_all_is_the_schemas_to_refuse(
    rest: Connection, owner: Person, asked: int | None, code: str
) -> None:
    """Zero, less or nothing is refused as it was, cut or not."""
    for is_cut in (False, True):
        with refused(code):
            admit(rest, owner, limit_seconds=asked, is_cut=is_cut)

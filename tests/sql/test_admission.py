"""admit_run_v1 and request_cancel_v1: what an owner may start and stop, once for one request."""

from functools import partial
from uuid import uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.people import Connection, Person, column, refused, scalar, sign_up
from tests.sql.runs import HASH, OTHER_HASH, Run, admit, append, finish, lose, new_run, row_of
from tests.sql.turns import at_once, behind

THREADS = 20


def count(admin: Connection, table: str, owner: Person) -> int:
    """The owner's rows."""
    return int(scalar(admin, f"select count(*) from public.{table} where owner = %s", (owner.id,)))


def cancel(
    rest: Connection, run: Run, person: Person | None = None, key: str | None = None, hash_: str = HASH
) -> object:
    """The answer of request_cancel_v1, by default to the owner."""
    arguments = {"run_id": run.id, "request_hash": hash_, "idempotency_key": key}
    return (person or run.owner).call(rest, "request_cancel_v1", **arguments)


def test_an_admission_is_session_run_and_event(rest: Connection, admin: Connection, owner: Person) -> None:
    """One call makes the session, the run and run.created as seq 1; the answer is the run without its input."""
    answer = admit(rest, owner, title="A title", metadata={"a": 1}, limit_seconds=60)
    row = answer["run"]
    assert answer["replayed"] is False
    assert "input" not in row
    assert {name: row[name] for name in ("owner", "kind", "status", "epoch", "last_n", "limit_seconds")} == {
        "owner": str(owner.id), "kind": "commands", "status": "launching", "epoch": 1, "last_n": 0, "limit_seconds": 60,
    }  # fmt: skip
    session = admin.execute(
        "select owner, title, metadata, status, last_seq from public.agent_sessions where id = %s", (row["session_id"],)
    ).fetchall()
    assert session == [(owner.id, "A title", {"a": 1}, "running", 1)]
    events = admin.execute(
        "select seq, n, type, data from public.agent_events where session_id = %s", (row["session_id"],)
    ).fetchall()
    created = {"run_id": row["id"], "kind": "commands", "limit_seconds": 60}
    assert events == [(1, None, "run.created", created)]


def test_the_deadline_is_the_limit_from_now(rest: Connection, admin: Connection, owner: Person) -> None:
    """deadline_at is created_at plus the limit."""
    admit(rest, owner, limit_seconds=600)
    query = "select extract(epoch from deadline_at - created_at)::int from public.agent_runs where owner = %s"
    assert column(admin, query, (owner.id,)) == [600]


def test_the_same_key_and_request_answer_with_the_same_run(rest: Connection, admin: Connection, owner: Person) -> None:
    """A repeat is marked as replayed, carries the run as it stands now, and makes nothing."""
    first = admit(rest, owner, idempotency_key="k")
    run = first["run"]["id"]
    admin.execute("update public.agent_runs set sandbox_id = 'later' where id = %s", (run,))
    again = admit(rest, owner, idempotency_key="k")
    assert again == {"replayed": True, "run": {**first["run"], "sandbox_id": "later"}}
    assert [count(admin, table, owner) for table in ("agent_sessions", "agent_runs", "idempotency_keys")] == [1, 1, 1]


def test_a_replay_outlives_the_run(rest: Connection, admin: Connection) -> None:
    """The key answers with its run after the end too, instead of starting another."""
    run = new_run(rest, admin, idempotency_key="k")
    finish(rest, run.runner, 0)
    again = admit(rest, run.owner, idempotency_key="k")
    assert (again["replayed"], again["run"]["status"]) == (True, "succeeded")


def test_the_same_key_with_another_request_is_refused(rest: Connection, admin: Connection, owner: Person) -> None:
    """PT409 idempotency_key_reused, and nothing is made."""
    admit(rest, owner, idempotency_key="k")
    with refused("PT409", "idempotency_key_reused"):
        admit(rest, owner, idempotency_key="k", request_hash=OTHER_HASH)
    assert count(admin, "agent_runs", owner) == 1


def test_keys_belong_to_their_owner(rest: Connection, admin: Connection, owner: Person) -> None:
    """Another owner's equal key is another key: nothing of the first owner's run is answered."""
    first, second = admit(rest, owner, idempotency_key="k"), admit(rest, sign_up(admin), idempotency_key="k")
    assert second["replayed"] is False
    assert first["run"]["id"] != second["run"]["id"]


def test_without_a_key_every_request_is_new(rest: Connection, admin: Connection, owner: Person) -> None:
    """No key, no claim: two equal requests are two runs."""
    assert admit(rest, owner)["run"]["id"] != admit(rest, owner)["run"]["id"]
    assert count(admin, "idempotency_keys", owner) == 0


def test_twenty_requests_at_once_with_one_key(connect: Connect, admin: Connection, owner: Person) -> None:
    """One run, one session, one fresh answer, nineteen replays of the same run."""
    connections = [connect("authenticator") for _ in range(THREADS)]
    answers = at_once([partial(admit, connection, owner, idempotency_key="k") for connection in connections])
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * (THREADS - 1)
    assert len({answer["run"]["id"] for answer in answers}) == 1
    assert [count(admin, table, owner) for table in ("agent_sessions", "agent_runs", "idempotency_keys")] == [1, 1, 1]


def test_a_second_request_waits_for_the_first(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """The claim is taken before anything else is written: the second waits for its commit, and replays."""
    second = connect("authenticator")
    send = partial(admit, owner=owner, idempotency_key="k")
    assert behind(admin, rest, lambda: send(rest), second, lambda: send(second))["replayed"] is True
    assert count(admin, "agent_runs", owner) == 1


def test_a_second_request_takes_over_when_the_first_is_undone(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """A first request that is rolled back leaves no claim: the one that waited starts the run."""
    second = connect("authenticator")
    send = partial(admit, owner=owner, idempotency_key="k")
    answer = behind(admin, rest, lambda: send(rest), second, lambda: send(second), commit=False)
    assert answer["replayed"] is False
    assert count(admin, "agent_runs", owner) == 1


def test_a_session_has_one_live_run(rest: Connection, admin: Connection, run: Run) -> None:
    """While a run is launching or running its session takes no other; after the end it does."""
    for _ in range(2):
        with refused("PT409", "session_busy"):
            admit(rest, run.owner, session_id=run.session_id)
        append(rest, run.runner, [1])
    lose(admin, run)
    assert admit(rest, run.owner, session_id=run.session_id)["run"]["session_id"] == str(run.session_id)


def test_requests_for_one_session_at_once(connect: Connect, rest: Connection, admin: Connection, run: Run) -> None:
    """Of two admissions to a free session the second waits, and hears that it is busy."""
    finish(rest, run.runner, 0)
    second = connect("authenticator")
    send = partial(admit, owner=run.owner, session_id=run.session_id)
    with refused("PT409", "session_busy"):
        behind(admin, rest, lambda: send(rest), second, lambda: send(second))
    assert count(admin, "agent_runs", run.owner) == 2


def test_a_session_of_someone_else_is_not_found(rest: Connection, admin: Connection, run: Run) -> None:
    """A stranger's session id is answered just as one that does not exist, even while the session is busy."""
    for session in (run.session_id, uuid4()):
        with refused("PT404", "session_not_found"):
            admit(rest, sign_up(admin, "stranger"), session_id=session)
    assert row_of(admin, run)["status"] == "launching"


def test_a_terminated_session_takes_no_run(rest: Connection, admin: Connection, run: Run) -> None:
    """PT409 session_terminated."""
    finish(rest, run.runner, 0)
    admin.execute("update public.agent_sessions set status = 'terminated' where id = %s", (run.session_id,))
    with refused("PT409", "session_terminated"):
        admit(rest, run.owner, session_id=run.session_id)


def test_a_refused_admission_gives_its_key_back(rest: Connection, admin: Connection, run: Run) -> None:
    """Busy, unknown or badly filled in: the key was not used, and the same key starts a run later."""
    with refused("PT409", "session_busy"):
        admit(rest, run.owner, session_id=run.session_id, idempotency_key="k")
    with refused("PT404"):
        admit(rest, run.owner, session_id=uuid4(), idempotency_key="k")
    with refused("23514"):
        admit(rest, run.owner, limit_seconds=0, idempotency_key="k")
    assert count(admin, "idempotency_keys", run.owner) == 0
    assert count(admin, "agent_sessions", run.owner) == 1
    finish(rest, run.runner, 0)
    assert admit(rest, run.owner, session_id=run.session_id, idempotency_key="k")["replayed"] is False


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kind": "mischief"}, "23514"),
        ({"kind": None}, "23502"),
        ({"input": []}, "23514"),
        ({"limit_seconds": 604801}, "23514"),
        ({"limit_seconds": None}, "23502"),
        ({"title": ""}, "23514"),
        ({"idempotency_key": ""}, "23514"),
        ({"idempotency_key": "k", "request_hash": "short"}, "23514"),
        ({"idempotency_key": "k", "request_hash": None}, "23502"),
    ],
)
def test_a_bad_admission_leaves_nothing(
    rest: Connection, admin: Connection, owner: Person, changes: dict[str, object], code: str
) -> None:
    """What the schema refuses is refused as a whole: no session stays behind."""
    with refused(code):
        admit(rest, owner, **changes)
    assert count(admin, "agent_sessions", owner) == 0


def test_who_has_no_id_is_not_signed_in(rest: Connection, run: Run) -> None:
    """A token with the role authenticated but no user in it can neither start nor stop anything: PT401."""
    nobody = Person("nobody", "authenticated")
    with refused("PT401", "not_signed_in"):
        admit(rest, nobody)
    with refused("PT401", "not_signed_in"):
        cancel(rest, run, nobody)


def test_the_token_of_a_deleted_user_starts_nothing(rest: Connection, admin: Connection, run: Run) -> None:
    """A user that is gone cannot admit with a token that has not expired yet, nor can the runner of its run write."""
    admin.execute("delete from auth.users where id = %s", (run.owner.id,))
    with refused("PT401", "not_signed_in"):
        admit(rest, run.owner)
    with refused("PT403", "not_a_run_token"):
        append(rest, run.runner, [1])


def test_a_cancel_is_noted_once(rest: Connection, admin: Connection, run: Run) -> None:
    """The first request sets the time and writes run.cancel_requested; another, key or not, changes nothing."""
    first = cancel(rest, run)
    assert isinstance(first, dict)
    assert first["cancel_requested_at"] is not None
    assert "input" not in first
    assert cancel(rest, run) == cancel(rest, run, key="k") == cancel(rest, run, key="k") == first
    query = "select count(*) from public.agent_events where session_id = %s and type = 'run.cancel_requested'"
    assert scalar(admin, query, (run.session_id,)) == 1
    assert row_of(admin, run)["status"] == "launching"


def test_a_finished_run_cannot_be_cancelled(rest: Connection, run: Run) -> None:
    """PT409 run_finished, with or without a key; the key is given back."""
    finish(rest, run.runner, 0)
    for key in (None, "k", "k"):
        with refused("PT409", "run_finished", "the run has succeeded"):
            cancel(rest, run, key=key)


def test_a_cancel_is_replayed_after_the_end(rest: Connection, run: Run) -> None:
    """A cancel that was accepted is answered to its key for ever, also when the run has ended meanwhile."""
    cancel(rest, run, key="k")
    finish(rest, run.runner, 0, "cancelled")
    again = cancel(rest, run, key="k")
    assert isinstance(again, dict)
    assert again["status"] == "cancelled"
    with refused("PT409", "idempotency_key_reused"):
        cancel(rest, run, key="k", hash_=OTHER_HASH)


def test_a_key_that_cancelled_one_run_does_not_cancel_another(rest: Connection, admin: Connection, run: Run) -> None:
    """Asked by key for two runs, the second is refused, not taken for a repeat of the first."""
    cancel(rest, run, key="k")
    other = new_run(rest, admin, owner=run.owner)
    with refused("PT409", "idempotency_key_reused", "the key was used for another run"):
        cancel(rest, other, key="k")
    assert row_of(admin, other)["cancel_requested_at"] is None


def test_admission_and_cancel_share_their_keys(rest: Connection, admin: Connection) -> None:
    """A key that started a run does not stop it: the hash tells the requests apart."""
    run = new_run(rest, admin, idempotency_key="k")
    with refused("PT409", "idempotency_key_reused"):
        cancel(rest, run, key="k", hash_=OTHER_HASH)
    assert row_of(admin, run)["cancel_requested_at"] is None


def test_a_stranger_cannot_cancel(rest: Connection, admin: Connection, run: Run) -> None:
    """Another tenant's run is not found, live or ended, and so is one that never was."""
    stranger = sign_up(admin, "stranger")
    with refused("PT404", "run_not_found"):
        cancel(rest, run, stranger)
    finish(rest, run.runner, 0)
    with refused("PT404", "run_not_found"):
        cancel(rest, run, stranger)
    with refused("PT404", "run_not_found"):
        stranger.call(rest, "request_cancel_v1", run_id=uuid4(), request_hash=HASH)
    assert row_of(admin, run)["cancel_requested_at"] is None

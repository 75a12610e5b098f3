"""How often an owner may: what is counted and how, what is refused and until when, and what costs nothing."""

from __future__ import annotations

from collections import Counter
from functools import partial

import psycopg
import pytest

from tests.sql.conftest import Connect
from tests.sql.conversations import create, interrupt, message, send
from tests.sql.limits import allow, deployed
from tests.sql.people import Connection, Person, refused, scalar, sign_up
from tests.sql.runs import HASH, OTHER_HASH, Json, admit, finish, new_run
from tests.sql.turns import at_once, behind

CLASSES = ("submit", "message", "other")


@pytest.fixture
def owner(rest: Connection, admin: Connection) -> Person:
    """Someone with two requests a minute of each kind, and all the room they want."""
    owner = sign_up(admin)
    allow(
        rest, admin, owner, submits_per_minute=2, messages_per_minute=2, others_per_minute=2,
        max_concurrent_sandboxes=1000,
    )  # fmt: skip
    return owner


def left(admin: Connection, owner: Person) -> dict[str, int]:
    """Whole requests in each of the owner's buckets, as they were left."""
    query = "select class, floor(tokens)::integer from private.rate_buckets where owner = %s"
    return dict(admin.execute(query, (owner.id,)).fetchall())


def pass_time(admin: Connection, owner: Person, seconds: float) -> None:
    """The owner's last requests were so much longer ago."""
    query = "update private.rate_buckets set refilled_at = refilled_at - make_interval(secs => %s) where owner = %s"
    admin.execute(query, (seconds, owner.id))


def agent(rest: Connection, owner: Person, **changes: object) -> Json:
    """The answer of create_agent_v1."""
    return dict(owner.call(rest, "create_agent_v1", config={"name": "a"}, **{"request_hash": HASH, **changes}))


def test_more_than_a_minute_may_have_is_refused(rest: Connection, admin: Connection, owner: Person) -> None:
    """PT429 rate_limited with the seconds until the next one, and how many may be; nothing is written."""
    admit(rest, owner)
    admit(rest, owner)
    with pytest.raises(psycopg.Error) as caught:
        admit(rest, owner, idempotency_key="k")
    told = caught.value.diag
    assert (caught.value.sqlstate, told.message_primary) == ("PT429", "rate_limited")
    assert told.message_hint == "2"
    assert 1 <= int(told.message_detail or 0) <= 30
    assert scalar(admin, "select count(*) from public.agent_runs where owner = %s", (owner.id,)) == 2
    assert scalar(admin, "select count(*) from public.idempotency_keys where owner = %s", (owner.id,)) == 0


def test_a_bucket_fills_all_the_time(rest: Connection, admin: Connection, owner: Person) -> None:
    """At two a minute the next one may come after thirty seconds, and only that one."""
    admit(rest, owner)
    admit(rest, owner)
    pass_time(admin, owner, 31)
    admit(rest, owner)
    with refused("PT429", "rate_limited"):
        admit(rest, owner)


def test_a_bucket_holds_one_minute(rest: Connection, admin: Connection, owner: Person) -> None:
    """Who has been away for a day may not make up for it."""
    admit(rest, owner)
    pass_time(admin, owner, 86_400)
    admit(rest, owner)
    admit(rest, owner)
    with refused("PT429", "rate_limited"):
        admit(rest, owner)


def test_a_clock_that_goes_back_takes_nothing(rest: Connection, admin: Connection, owner: Person) -> None:
    """A server's clock may be set: a bucket that was filled in the future neither loses nor gains by it."""
    admit(rest, owner)
    pass_time(admin, owner, -3600)
    admit(rest, owner)
    with refused("PT429", "rate_limited", "30"):
        admit(rest, owner)


def test_a_lowered_limit_holds_at_once(rest: Connection, admin: Connection) -> None:
    """What was left of a larger bucket does not count."""
    owner = sign_up(admin)
    admit(rest, owner)
    allow(rest, admin, owner, submits_per_minute=1)
    admit(rest, owner)
    with refused("PT429", "rate_limited"):
        admit(rest, owner)


def test_the_deployments_rate_holds_without_exceptions(rest: Connection, admin: Connection) -> None:
    """One a minute for everyone here."""
    owner = sign_up(admin)
    with deployed(rest, admin, requests_per_minute=1):
        admit(rest, owner)
        with refused("PT429", "rate_limited"):
            admit(rest, owner)


def test_each_kind_has_a_bucket_of_its_own(rest: Connection, admin: Connection, owner: Person) -> None:
    """Plans and sessions are submits, what is said is a message, and every other change is the third kind."""
    session_id = create(rest, owner)["session"]["id"]
    run = new_run(rest, admin, owner)
    for _ in range(2):
        send(rest, owner, session_id, interrupt())
    agent(rest, owner)
    owner.call(rest, "request_cancel_v1", run_id=run.id, request_hash=HASH)
    assert left(admin, owner) == dict.fromkeys(CLASSES, 0)
    for call in (
        lambda: admit(rest, owner),
        lambda: create(rest, owner),
        lambda: send(rest, owner, session_id, message()),
        lambda: agent(rest, owner),
        lambda: owner.call(rest, "create_environment_v1", config={"name": "a"}, request_hash=HASH),
        lambda: owner.call(rest, "update_session_v1", session_id=session_id, changes={}, request_hash=HASH),
        lambda: owner.call(rest, "archive_session_v1", session_id=session_id, request_hash=HASH),
    ):
        with refused("PT429", "rate_limited"):
            call()


def test_each_owner_has_buckets_of_their_own(rest: Connection, admin: Connection, owner: Person) -> None:
    """One owner's requests are nobody else's."""
    admit(rest, owner)
    admit(rest, owner)
    assert admit(rest, sign_up(admin))["replayed"] is False


def test_replays_cost_nothing(rest: Connection, admin: Connection, owner: Person) -> None:
    """Of each kind: the first is counted, its repeats are answered as often as they come."""
    session_id = create(rest, owner)["session"]["id"]
    for _ in range(5):
        admit(rest, owner, idempotency_key="plan")
        send(rest, owner, session_id, message(), idempotency_key="message")
        agent(rest, owner, idempotency_key="agent")
    assert left(admin, owner) == {"submit": 0, "message": 1, "other": 1}


def test_refused_requests_cost_nothing(rest: Connection, admin: Connection, owner: Person) -> None:
    """Busy, or a key of another request: what was not done is not counted."""
    run = new_run(rest, admin, owner, idempotency_key="k")
    for _ in range(5):
        with refused("PT409", "session_busy"):
            admit(rest, owner, session_id=run.session_id)
        with refused("PT409", "idempotency_key_reused"):
            admit(rest, owner, idempotency_key="k", request_hash=OTHER_HASH)
    assert left(admin, owner) == {"submit": 1}


def test_the_runner_is_not_counted(rest: Connection, admin: Connection, owner: Person) -> None:
    """What a run does is its own pace: events and ends come as they come."""
    run = new_run(rest, admin, owner)
    before = left(admin, owner)
    for _ in range(5):
        run.runner.call(rest, "heartbeat_v1")
    finish(rest, run.runner, 0)
    assert left(admin, owner) == before


@pytest.mark.parametrize("again", range(5))
def test_requests_at_once_are_counted_one_by_one(
    connect: Connect, admin: Connection, owner: Person, again: int
) -> None:
    """Of twenty at the same moment two are admitted, and the rest are told to wait."""

    def submit(connection: Connection) -> str:
        try:
            return str(admit(connection, owner)["replayed"])
        except psycopg.Error as error:
            return str(error.diag.message_primary)

    found = Counter(at_once([partial(submit, connect("authenticator")) for _ in range(20)]))
    assert found == {"False": 2, "rate_limited": 18}
    assert left(admin, owner) == {"submit": 0}


def test_the_last_request_of_a_minute_is_had_once(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """Who comes while the last one is being spent waits, and hears that it is gone."""
    second = connect("authenticator")
    admit(rest, owner)
    with refused("PT429", "rate_limited"):
        behind(admin, rest, lambda: admit(rest, owner), second, lambda: admit(second, owner))


def test_a_request_that_is_undone_was_none(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """Who waits for a request that is rolled back has its place."""
    second = connect("authenticator")
    admit(rest, owner)
    behind(admin, rest, lambda: admit(rest, owner), second, lambda: admit(second, owner), commit=False)
    with refused("PT429", "rate_limited"):
        admit(rest, owner)


def test_buckets_go_with_their_owner(rest: Connection, admin: Connection, owner: Person) -> None:
    """A deleted user leaves none."""
    admit(rest, owner)
    admin.execute("delete from auth.users where id = %s", (owner.id,))
    assert left(admin, owner) == {}

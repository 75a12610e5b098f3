"""Limits as the database keeps them: the deployment's settings, and one owner's exceptions."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.sql.limits import ROOMY, allow, deployed, limits_of, operator
from tests.sql.people import SERVICE, Connection, Person, refused, scalar, sign_up


@pytest.fixture
def owner(admin: Connection) -> Person:
    """A new user."""
    return sign_up(admin)


def test_before_any_endpoint_has_spoken_the_defaults_hold(admin: Connection, owner: Person) -> None:
    """A database that was only migrated is limited already, but for durations, which the schema bounds."""
    assert limits_of(admin, owner) == {
        "max_concurrent_sandboxes": 10, "max_sandbox_duration_ms": None, "max_run_seconds": None,
        "submits_per_minute": 120, "messages_per_minute": 120, "others_per_minute": 120,
        "max_month_microusd": None,
    }  # fmt: skip


def test_the_deployments_settings_hold_for_everyone(rest: Connection, admin: Connection, owner: Person) -> None:
    """One rate for each kind of request; a run may last as long as its sandbox, less the margin."""
    with deployed(rest, admin, max_concurrent_sandboxes=3, requests_per_minute=7):
        assert limits_of(admin, owner) == {
            "max_concurrent_sandboxes": 3, "max_sandbox_duration_ms": 3_600_000, "max_run_seconds": 3540,
            "submits_per_minute": 7, "messages_per_minute": 7, "others_per_minute": 7,
            "max_month_microusd": None,
        }  # fmt: skip


def test_an_owners_exceptions_hold_for_that_owner(rest: Connection, admin: Connection, owner: Person) -> None:
    """More or less than the deployment's, each by itself; nobody else notices."""
    before = limits_of(admin, sign_up(admin))
    allow(rest, admin, owner, max_concurrent_sandboxes=50, messages_per_minute=1)
    held = limits_of(admin, owner)
    assert (held["max_concurrent_sandboxes"], held["messages_per_minute"], held["submits_per_minute"]) == (50, 1, 120)
    assert limits_of(admin, sign_up(admin)) == before


def test_exceptions_are_replaced_whole(rest: Connection, admin: Connection, owner: Person) -> None:
    """What is left out the second time is as the deployment again."""
    allow(rest, admin, owner, max_concurrent_sandboxes=50, messages_per_minute=1)
    row = allow(rest, admin, owner, others_per_minute=9)
    assert (row["owner"], row["max_concurrent_sandboxes"], row["others_per_minute"]) == (str(owner.id), 10, 9)
    held = limits_of(admin, owner)
    assert (held["max_concurrent_sandboxes"], held["messages_per_minute"], held["others_per_minute"]) == (10, 120, 9)


@pytest.mark.parametrize(
    ("allowed_ms", "run_seconds"), [(600_000, 540), (7_200_000, 3540), (60_000, 1), (3_600_000, 3540), (None, 3540)]
)
def test_no_exception_outlives_the_plan(
    rest: Connection, admin: Connection, owner: Person, allowed_ms: int | None, run_seconds: int
) -> None:
    """An owner may have shorter sandboxes than the deployment's plan allows, never longer ones."""
    allow(rest, admin, owner, max_sandbox_duration_ms=allowed_ms)
    with deployed(rest, admin):
        assert limits_of(admin, owner)["max_run_seconds"] == run_seconds


def test_telling_the_same_again_writes_nothing(rest: Connection, admin: Connection) -> None:
    """Each container that starts says its settings; only new ones touch the row."""
    version = "select xmin::text from private.deployment_limits"
    with deployed(rest, admin):
        before = scalar(admin, version)
        SERVICE.call(rest, "set_limits_v1", **ROOMY)
        assert scalar(admin, version) == before
        SERVICE.call(rest, "set_limits_v1", **{**ROOMY, "requests_per_minute": 5})
        assert scalar(admin, version) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"max_concurrent_sandboxes": -1},
        {"max_sandbox_duration_ms": 59_999},
        {"max_sandbox_duration_ms": 604_800_001},
        {"sandbox_margin_seconds": 601},
        {"requests_per_minute": 0},
        {"idle_sandbox_seconds": 0},
        {"max_month_microusd": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(rest: Connection, changes: dict[str, object]) -> None:
    """The schema refuses what no deployment can mean."""
    with refused("23514"):
        SERVICE.call(rest, "set_limits_v1", **{**ROOMY, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"max_concurrent_sandboxes": -1},
        {"max_sandbox_duration_ms": 1},
        {"submits_per_minute": 0},
        {"messages_per_minute": 1_000_001},
        {"others_per_minute": -5},
        {"max_month_microusd": -1},
    ],
)
def test_exceptions_that_make_no_sense_are_refused(
    rest: Connection, admin: Connection, owner: Person, changes: dict[str, object]
) -> None:
    """So does an owner's row."""
    with refused("23514"):
        allow(rest, admin, owner, **changes)


def test_nobodys_exceptions_are_refused(rest: Connection, admin: Connection) -> None:
    """An id that no user has gets no row."""
    with refused("PT404", "owner_not_found"):
        operator(admin).call(rest, "set_account_limits_v1", owner=uuid4())


def test_exceptions_are_an_operators_to_make(rest: Connection, admin: Connection, owner: Person) -> None:
    """An owner may not raise their own limits, whatever their metadata that they write themselves says."""
    admin.execute(
        'update auth.users set raw_user_meta_data = \'{"sandstream_role": "admin"}\' where id = %s', (owner.id,)
    )
    with refused("PT403", "not_an_operator"):
        owner.call(rest, "set_account_limits_v1", owner=owner.id, max_concurrent_sandboxes=1000)


def test_exceptions_go_with_their_owner(rest: Connection, admin: Connection, owner: Person) -> None:
    """A deleted user leaves no row."""
    allow(rest, admin, owner)
    admin.execute("delete from auth.users where id = %s", (owner.id,))
    assert scalar(admin, "select count(*) from public.account_limits where owner = %s", (owner.id,)) == 0

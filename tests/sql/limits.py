"""Limits to test with: what holds for the deployment, and for one owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.sql.people import SERVICE, Connection, Person, scalar, sign_up
from tests.sql.runs import Json

ROOMY: Json = {
    "max_concurrent_sandboxes": 10,
    "max_sandbox_duration_ms": 3_600_000,
    "sandbox_margin_seconds": 60,
    "requests_per_minute": 120,
    "idle_sandbox_seconds": 300,
    "max_month_microusd": None,
}
UNTOLD = "update private.deployment_limits set max_sandbox_duration_ms = null, sandbox_margin_seconds = 0"


@contextmanager
def deployed(rest: Connection, admin: Connection, **changes: object) -> Iterator[None]:
    """A deployment with these settings; afterwards the database is as one that no endpoint has told its own."""
    SERVICE.call(rest, "set_limits_v1", **{**ROOMY, **changes})
    try:
        yield
    finally:
        SERVICE.call(rest, "set_limits_v1", **ROOMY)
        admin.execute(UNTOLD)


def operator(admin: Connection) -> Person:
    """A user who runs the deployment."""
    person = sign_up(admin, "operator")
    admin.execute(
        'update auth.users set raw_app_meta_data = \'{"sandstream_role": "admin"}\' where id = %s', (person.id,)
    )
    return person


def allow(rest: Connection, admin: Connection, owner: Person, **limits: object) -> Json:
    """The answer of set_account_limits_v1 to an operator."""
    return dict(operator(admin).call(rest, "set_account_limits_v1", owner=owner.id, **limits))


def limits_of(admin: Connection, owner: Person) -> Json:
    """What holds for the owner."""
    return dict(scalar(admin, "select to_jsonb(l) from private.limits_of(%s) l", (owner.id,)))

"""E2B's deliveries: its own signature, and both generations of its payload."""

import base64
import hashlib
import json
from typing import Any

import pytest
from pydantic import SecretStr

from functions.errors import InvalidRequest, NotAuthenticated
from functions.hooks import Delivery, is_signed

SECRET = SecretStr("a-secret")
OURS = SECRET.get_secret_value()
OLDER = {
    "version": "v1",
    "id": "evt-1",
    "type": "sandbox.lifecycle.killed",
    "eventData": None,
    "sandboxId": "sbx1",
    "sandboxTeamId": "team",
    "timestamp": "2025-08-06T20:59:24Z",
}
NEWER = {
    "version": "v2",
    "id": "evt-2",
    "type": "sandbox.lifecycle.paused",
    "event_data": {"sandbox_metadata": {"sandstream_run": "x"}, "execution": {"execution_time": 1000}},
    "sandbox_id": "sbx2",
    "sandbox_team_id": "team",
    "timestamp": "2026-08-06T20:59:24Z",
}


def signature(body: bytes, secret: str = OURS) -> str:
    """As E2B makes it: base64url of sha256(secret + body), without padding."""
    digest = hashlib.sha256(secret.encode() + body).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def read(content: Any, secret: str = OURS) -> Delivery:
    """The delivery of a signed body."""
    body = json.dumps(content).encode()
    return Delivery.read(body, signature(body, secret), SECRET)


@pytest.mark.parametrize(("content", "id", "sandbox_id"), [(OLDER, "evt-1", "sbx1"), (NEWER, "evt-2", "sbx2")])
def test_both_generations_are_read(content: dict[str, Any], id: str, sandbox_id: str) -> None:
    """camelCase and snake_case say the same."""
    delivery = read(content)
    assert (delivery.id, delivery.sandbox_id, delivery.is_telling) == (id, sandbox_id, True)


@pytest.mark.parametrize("kind", ["created", "updated", "resumed", "snapshotted"])
def test_some_tell_nothing(kind: str) -> None:
    """After these no run can be without its runner."""
    assert not read({**NEWER, "type": f"sandbox.lifecycle.{kind}"}).is_telling


def test_a_known_signature() -> None:
    """Worked out apart from this code: sha256 of `a-secret{}`, in either alphabet, padded or not."""
    assert is_signed(b"{}", "1JqQMpyjhaoC-kEcvhx2QaelRIiYO99LTHZMceESCC4", SECRET)
    for body in (json.dumps({"n": n}).encode() for n in range(20)):
        standard = base64.b64encode(hashlib.sha256(b"a-secret" + body).digest()).decode()
        assert is_signed(body, standard, SECRET)
        assert is_signed(body, standard.rstrip("="), SECRET)
        assert is_signed(body, signature(body), SECRET)


@pytest.mark.parametrize("given", [None, "", "x", "é", signature(b"{}", "another"), signature(b"{} ")])
def test_any_other_is_refused(given: str | None) -> None:
    """Nothing, nonsense, another secret's, another body's: before the body is looked at."""
    assert not is_signed(b"{}", given, SECRET)
    with pytest.raises(NotAuthenticated):
        Delivery.read(b"{}", given, SECRET)


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({**NEWER, "id": ""}, "id"),
        ({**NEWER, "id": "x" * 129}, "id"),
        ({name: value for name, value in NEWER.items() if name != "sandbox_id"}, "sandbox_id"),
        ([], "body"),
    ],
)
def test_a_signed_body_may_be_wrong_all_the_same(content: Any, param: str) -> None:
    """400 with the name of what is wrong."""
    with pytest.raises(InvalidRequest) as refused:
        read(content)
    assert refused.value.param == param

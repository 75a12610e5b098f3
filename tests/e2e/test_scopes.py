"""Every operation that the OpenAPI document names, and whom it lets in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from functions.identity import SCOPES
from local.stack import Stack
from tests.conftest import Person, sign_up
from tests.e2e.researching import Scholar
from tests.e2e.test_refusals import NOTHING, assert_refused

Json = dict[str, Any]

PUBLIC = {"GET /healthz", "GET /v1/config"}
# A runner's own, which no user and no key may call.
RUNNERS = {"POST /v1/runs/{run_id}/ended"}
# Signed by E2B; without the secret that it is signed with, there is no such path.
HOOKS = {"POST /v1/hooks/e2b"}
# They make something new and name nothing that there is.
OF_NOBODY = {"POST /v1/agents", "POST /v1/environments", "POST /v1/keys", "POST /v1/research"}
# They take a role that no scope gives.
OPERATORS = {"PUT /v1/limits"}
MESSAGE = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}


@dataclass(frozen=True)
class Operation:
    """A method and a path, and the scopes that the document says it takes."""

    method: str
    path: str
    scopes: frozenset[str]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    async def ask(self, http: httpx.AsyncClient, things: Json, body: Json | None = None) -> httpx.Response:
        """Send it, about these things."""
        return await http.request(self.method, self.path.format(**things), json=body)


def operations(document: Json) -> Iterator[Operation]:
    """All of them, each with what every one of its ways to authenticate asks for."""
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            asked = {frozenset(scopes) for way in told.get("security", []) for scopes in way.values()}
            assert len(asked) <= 1, f"{method} {path} asks for more by one way than by another"
            yield Operation(method.upper(), path, next(iter(asked), frozenset()))


def bodies(things: Json) -> dict[str, Json]:
    """What each operation is sent so that only the caller can be wrong."""
    return {
        "POST /v1/runs": {"commands": [{"command": "true"}], "session_id": things["session_id"]},
        "POST /v1/sessions": {"agent": things["agent_id"], "environment_id": things["environment_id"]},
        "POST /v1/sessions/{session_id}": {"title": "mine"},
        "POST /v1/sessions/{session_id}/events": {"events": [MESSAGE]},
        "POST /v1/agents/{agent_id}": {"name": "mine"},
        "POST /v1/environments/{environment_id}": {"name": "mine"},
        "PUT /v1/limits": {"owner": things["owner"]},
    }


@pytest.fixture
async def things(owner: Person) -> Json:
    """One of everything, the owner's."""
    async with owner.endpoints() as http:
        run = (await http.post("/v1/runs", json={"commands": [{"command": "true"}]})).json()
        agent = (await http.post("/v1/agents", json={"name": "a", "model": "claude-sonnet-5"})).json()
        environment = (await http.post("/v1/environments", json={"name": "a"})).json()
    return {
        "run_id": run["id"], "session_id": run["session_id"], "agent_id": agent["id"],
        "task_id": await Scholar(owner.stack, owner).remember("What is it?"),
        "environment_id": environment["id"], "key_id": (await owner.key("read"))["id"], "owner": str(owner.id),
    }  # fmt: skip


async def without(person: Person, scopes: frozenset[str]) -> Person:
    """The person behind a key that may do everything but this."""
    return await person.behind_key(*(scope for scope in SCOPES if scope not in scopes))


async def test_every_operation_refuses_nobody_a_wrong_scope_and_a_stranger(
    stack: Stack, owner: Person, things: Json
) -> None:
    """No token is 401; a key without the scope 403, one with it alone is let in; a stranger finds nothing."""
    stranger = await sign_up(stack)
    no_things = dict.fromkeys(things, NOTHING)
    sent = bodies(things)
    async with httpx.AsyncClient(base_url=stack.api.url, timeout=60) as nobody:
        walked = list(operations((await nobody.get("/openapi.json")).json()))
        for operation in walked:
            if operation.name not in PUBLIC | HOOKS:
                assert_refused(await operation.ask(nobody, things), 401, "authentication_error")
    assert {each.name for each in walked if not each.scopes} == PUBLIC | RUNNERS | HOOKS
    scoped = [each for each in walked if each.scopes]
    for scopes in {each.scopes for each in scoped}:
        mine = [each for each in scoped if each.scopes == scopes]
        async with (await without(owner, scopes)).endpoints() as wrong:
            for operation in mine:
                answer = await operation.ask(wrong, things, sent.get(operation.name))
                assert_refused(answer, 403, "scope_missing")
        async with (await owner.behind_key(*scopes)).endpoints() as right:
            for operation in mine:
                answer = await operation.ask(right, no_things, {})
                assert answer.status_code in (200, 400, 404), (operation, answer.text)
    async with stranger.endpoints() as http:
        for operation in scoped:
            if operation.name in OF_NOBODY:
                continue
            body = sent.get(operation.name)
            answer = await operation.ask(http, things, body)
            if operation.name in OPERATORS:
                assert_refused(answer, 403, "not_an_operator")
                continue
            assert answer.status_code == (404 if "{" in operation.path or body else 200), (operation, answer.text)
            assert not [id for id in things.values() if id in answer.text], operation


async def test_a_key_is_no_runner(stack: Stack, owner: Person, things: Json) -> None:
    """What is the runner's alone is nobody else's, whatever their scopes."""
    for person in (owner, await owner.behind_key(*SCOPES)):
        async with person.endpoints() as http:
            assert_refused(await http.post(f"/v1/runs/{things['run_id']}/ended"), 401, "authentication_error")


async def test_a_key_with_every_scope_is_as_good_as_its_owner(owner: Person, things: Json) -> None:
    """Of everything that there is, it sees the same."""
    async with owner.endpoints() as direct, (await owner.behind_key(*SCOPES)).endpoints() as behind:
        for path in ("/v1/runs/{run_id}", "/v1/sessions", "/v1/agents", "/v1/environments", "/v1/keys"):
            seen = [(await http.get(path.format(**things))) for http in (direct, behind)]
            assert [answer.status_code for answer in seen] == [200, 200]
            ids = [{item["id"] for item in found.json().get("data", [found.json()])} for found in seen]
            assert ids[0] == ids[1], path

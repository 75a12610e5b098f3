"""What the endpoints refuse, and how: a status, a word, the field's name, a request id, never a trace."""

import base64
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person

PLAN = {"commands": [{"command": "true"}]}


def plan(**changes: Any) -> dict[str, Any]:
    return {**PLAN, **changes}


def command(**changes: Any) -> dict[str, Any]:
    return {"commands": [{"command": "true", **changes}]}


BAD_BODIES = {
    "no commands": ({}, "commands"),
    "an empty plan": ({"commands": []}, "commands"),
    "201 commands": ({"commands": [{"command": "true"}] * 201}, "commands"),
    "commands that are no list": ({"commands": "true"}, "commands"),
    "a command that is no object": ({"commands": ["true"]}, "commands.0"),
    "an empty command": (command(command=""), "commands.0.command"),
    "a command over 32 KiB": (command(command="x" * 32_769), "commands.0.command"),
    "a command over 32 KiB in bytes": (command(command="é" * 16_385), "commands.0.command"),
    "a NUL in a command": (command(command="a\x00b"), "commands.0.command"),
    "a lone surrogate": (command(command="a\ud800b"), "commands.0.command"),
    "a timeout of 0": (command(timeout=0), "commands.0.timeout"),
    "a timeout of 3601": (command(timeout=3601), "commands.0.timeout"),
    "a timeout in words": (command(timeout="10"), "commands.0.timeout"),
    "a broken timeout": (command(timeout=1.5), "commands.0.timeout"),
    "retryable as a word": (command(retryable="yes"), "commands.0.retryable"),
    "an unknown field": (plan(priority=1), "priority"),
    "an unknown field of a command": (command(cwd="/"), "commands.0.cwd"),
    "a session id that is none": (plan(session_id="x"), "session_id"),
    "a NUL in the title": (plan(title="a\x00"), "title"),
    "a title of 201 letters": (plan(title="x" * 201), "title"),
    "metadata that is no text": (plan(metadata={"a": 1}), "metadata.a"),
    "egress to a URL": (plan(egress=["https://example.test/x"]), "egress.0"),
    "egress to loopback": (plan(egress=["127.0.0.1:5432"]), "egress.0"),
    "egress to loopback by name": (plan(egress=["localhost:5432"]), "egress.0"),
    "egress to loopback in short": (plan(egress=["127.1"]), "egress.0"),
    "egress to loopback as a number": (plan(egress=["2130706433"]), "egress.0"),
    "egress to a private network": (plan(egress=["10.0.0.1"]), "egress.0"),
    "egress to link-local": (plan(egress=["example.test", "169.254.169.254"]), "egress.1"),
    "egress to port 0": (plan(egress=["example.test:0"]), "egress.0"),
    "egress to port 99999": (plan(egress=["example.test:99999"]), "egress.0"),
    "egress to a host with two dots": (plan(egress=["a..b"]), "egress.0"),
    "metadata over 16 KiB": (plan(metadata={str(n): "é" * 512 for n in range(16)} | {"x": '"' * 512}), "metadata"),
    "a run limit of 0": (plan(timeout=0), "timeout"),
    "a run limit over the plan's": (plan(timeout=10**6), "timeout"),
    "a list": ([], "body"),
    "a number": (7, "body"),
    "null": (None, "body"),
}


def assert_refused(answer: httpx.Response, status: int, type: str | None = None) -> dict[str, Any]:
    """The one form that every refusal has."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"]
    assert body["request_id"].startswith("req_")
    assert "Traceback" not in answer.text
    if type is not None:
        assert body["error"]["type"] == type
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize(("body", "param"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_is_400_with_the_fields_name(body: Any, param: str, owner: Person) -> None:
    """The client is told which field is wrong, as it wrote it."""
    async with owner.endpoints() as http:
        content = json.dumps(body).encode()
        answer = await http.post("/v1/runs", content=content, headers={"content-type": "application/json"})
    assert assert_refused(answer, 400, "invalid_request_error")["param"] == param


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"commands": [}', b"NaN"])
async def test_a_body_that_is_no_json_is_400(content: bytes, owner: Person) -> None:
    """Rubbish is the client's mistake, not ours."""
    async with owner.endpoints() as http:
        answer = await http.post("/v1/runs", content=content, headers={"content-type": "application/json"})
    assert_refused(answer, 400, "invalid_request_error")


async def test_a_deeply_nested_body_is_400(owner: Person) -> None:
    """A body made to exhaust a parser is refused like any other."""
    async with owner.endpoints() as http:
        content = b"[" * 100_000
        answer = await http.post("/v1/runs", content=content, headers={"content-type": "application/json"})
    assert_refused(answer, 400)


async def test_another_content_type_is_415(owner: Person) -> None:
    """The body must be JSON and say so."""
    async with owner.endpoints() as http:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
            answer = await http.post("/v1/runs", content=json.dumps(PLAN), headers={"content-type": content_type})
            assert_refused(answer, 415, "unsupported_media_type")


async def test_a_body_over_the_limit_is_413(owner: Person) -> None:
    """Also one that does not say its length, and before all of it is read."""

    async def endless() -> Any:
        for _ in range(17):
            yield b" " * 1024 * 1024

    async with owner.endpoints() as http:
        declared = await http.post("/v1/runs", content=b" " * (17 << 20), headers={"content-type": "application/json"})
        assert_refused(declared, 413, "request_too_large")
        chunked = await http.post("/v1/runs", content=endless(), headers={"content-type": "application/json"})
        assert_refused(chunked, 413, "request_too_large")


async def test_the_longest_plan_is_accepted(owner: Person, client: Sandstream) -> None:
    """200 commands of 32 KiB are a plan: the limits are what they say."""
    filler = ": " + "x" * (32_768 - 2)
    async with owner.endpoints() as http:
        answer = await http.post("/v1/runs", json={"commands": [{"command": filler}] * 200, "timeout": 60})
    assert answer.status_code == 202, answer.text
    await client.cancel(answer.json()["id"])


async def test_hosts_that_may_be_asked_for(owner: Person, client: Sandstream) -> None:
    """Names, wildcards, public addresses, with and without a port."""
    hosts = ["example.test", "*.example.test", "8.8.8.8", "8.8.8.8:53", "a-b.example.test:8443", "Example.Test"]
    async with owner.endpoints() as http:
        answer = await http.post("/v1/runs", json=plan(egress=hosts))
    assert answer.status_code == 202, answer.text


async def test_two_idempotency_keys_are_none(owner: Person) -> None:
    """Which of them counts is not ours to guess."""
    async with owner.endpoints() as http:
        headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
        answer = await http.post("/v1/runs", json=PLAN, headers=headers)
    assert assert_refused(answer, 400)["param"] == "Idempotency-Key"


async def test_a_cursor_that_no_calendar_has_is_400(owner: Person) -> None:
    """What Postgres cannot take is the client's mistake, not a failure of ours."""
    cursor = base64.urlsafe_b64encode(f"0001-01-01T00:00:00+23:59 {uuid4()}".encode()).decode()
    async with owner.endpoints() as http:
        assert_refused(await http.get("/v1/sessions", params={"after": cursor}), 400)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_bad_idempotency_key_is_400(key: str, owner: Person) -> None:
    """1 to 255 printable characters."""
    async with owner.endpoints() as http:
        answer = await http.post("/v1/runs", json=PLAN, headers={"Idempotency-Key": key})
    assert assert_refused(answer, 400)["param"] == "Idempotency-Key"


EMPTY = {"data": [], "has_more": False, "next_cursor": None, "next_page": None}
# A made-up id; the same in every test process, since it is part of the tests' names.
NOTHING = "00000000-0000-4000-8000-000000000000"
PATHS = [
    ("POST", "/v1/runs"),
    ("GET", f"/v1/runs/{NOTHING}"),
    ("POST", f"/v1/runs/{NOTHING}/cancel"),
    ("POST", f"/v1/runs/{NOTHING}/ended"),
    ("POST", "/v1/agents"),
    ("GET", "/v1/agents"),
    ("GET", f"/v1/agents/{NOTHING}"),
    ("POST", f"/v1/agents/{NOTHING}"),
    ("POST", f"/v1/agents/{NOTHING}/archive"),
    ("GET", f"/v1/agents/{NOTHING}/versions"),
    ("POST", "/v1/environments"),
    ("GET", "/v1/environments"),
    ("GET", f"/v1/environments/{NOTHING}"),
    ("POST", f"/v1/environments/{NOTHING}"),
    ("DELETE", f"/v1/environments/{NOTHING}"),
    ("POST", f"/v1/environments/{NOTHING}/archive"),
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions"),
    ("GET", f"/v1/sessions/{NOTHING}"),
    ("POST", f"/v1/sessions/{NOTHING}"),
    ("DELETE", f"/v1/sessions/{NOTHING}"),
    ("POST", f"/v1/sessions/{NOTHING}/archive"),
    ("POST", f"/v1/sessions/{NOTHING}/token"),
    ("POST", f"/v1/sessions/{NOTHING}/events"),
    ("GET", f"/v1/sessions/{NOTHING}/events"),
    ("GET", f"/v1/sessions/{NOTHING}/events/stream"),
    ("POST", "/v1/keys"),
    ("GET", "/v1/keys"),
    ("DELETE", f"/v1/keys/{NOTHING}"),
    ("GET", "/v1/limits"),
    ("PUT", "/v1/limits"),
    ("GET", "/v1/usage"),
    ("POST", "/v1/research"),
    ("GET", "/v1/research"),
    ("GET", f"/v1/research/{NOTHING}"),
    ("GET", f"/v1/research/{NOTHING}/stream"),
]


async def test_every_path_is_in_the_list_below(stack: Stack) -> None:
    """The tests of who is let in cover every path that OpenAPI names, but what anyone may read and what E2B signs."""
    async with httpx.AsyncClient(base_url=stack.api.url) as http:
        document = (await http.get("/openapi.json")).json()
    named = {(method.upper(), shape(path)) for path, methods in document["paths"].items() for method in methods}
    covered = {(method, shape(path)) for method, path in PATHS}
    assert named - covered == {("GET", "/healthz"), ("GET", "/v1/config"), ("POST", "/v1/hooks/e2b")}


def shape(path: str) -> str:
    """A path with its ids and parameters blotted out."""
    return "/".join("{}" if part.startswith("{") or len(part) == 36 else part for part in path.split("/"))


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("header", [None, "Bearer", "Bearer x", "Basic dXNlcjpwYXNz", "publishable", "secret"])
async def test_nobody_is_401(method: str, path: str, header: str | None, stack: Stack) -> None:
    """No token, no scheme, a made-up token, a password, Supabase's own keys: none of them is a user."""
    keys = {"publishable": stack.keys.publishable_key, "secret": stack.keys.secret_key}
    headers = {} if header is None else {"Authorization": f"Bearer {keys[header]}" if header in keys else header}
    async with httpx.AsyncClient(base_url=stack.api.url) as http:
        answer = await http.request(method, path, headers=headers, json=PLAN if path == "/v1/runs" else None)
    assert_refused(answer, 401, "authentication_error")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_stranger_finds_nothing(owner: Person, stranger: Person, client: Sandstream) -> None:
    """Another tenant's run and session do not exist: not to read, to cancel, to stream or to add to."""
    run = await client.submit(["true"])
    async with stranger.endpoints() as http:
        for method, path in [
            ("GET", f"/v1/runs/{run.id}"),
            ("POST", f"/v1/runs/{run.id}/cancel"),
            ("GET", f"/v1/sessions/{run.session_id}"),
            ("GET", f"/v1/sessions/{run.session_id}/events"),
            ("GET", f"/v1/sessions/{run.session_id}/events/stream"),
        ]:
            assert_refused(await http.request(method, path), 404)
        answer = await http.post("/v1/runs", json=plan(session_id=str(run.session_id)))
        assert_refused(answer, 404, "session_not_found")
        assert (await http.get("/v1/sessions")).json() == EMPTY


async def test_unknown_paths_and_methods_are_refused_in_the_same_form(owner: Person) -> None:
    """404 and 405 look like every other refusal."""
    async with owner.endpoints() as http:
        assert_refused(await http.get("/v1/nothing"), 404, "not_found_error")
        assert_refused(await http.delete("/v1/runs"), 405)
        assert_refused(await http.get("/v1/runs/not-a-uuid"), 400)


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", f"after={2**63}", "limit=0", "limit=1001", "limit=x"],
)
async def test_bad_page_parameters_are_400(query: str, owner: Person) -> None:
    """A page's parameters are checked like a body's fields."""
    async with owner.endpoints() as http:
        answer = await http.get(f"/v1/sessions/{uuid4()}/events?{query}")
    assert assert_refused(answer, 400)["param"] == query.split("=")[0]


@pytest.mark.parametrize("cursor", ["x", "eA==", "é", "MjAyNiBub3QtYS11dWlk", "' or 1=1"])
async def test_a_made_up_cursor_is_400(cursor: str, owner: Person) -> None:
    """Cursors are opaque, and what is none of ours is refused before the database sees it."""
    async with owner.endpoints() as http:
        answer = await http.get("/v1/sessions", params={"after": cursor})
    assert assert_refused(answer, 400)["param"] == "after"


async def test_sessions_are_paged_newest_first(owner: Person, client: Sandstream) -> None:
    """Following the cursor gives every session once, newest first."""
    submitted = [(await client.submit(["true"])).session_id for _ in range(5)]
    found: list[str] = []
    cursor = None
    async with owner.endpoints() as http:
        while True:
            page = (await http.get("/v1/sessions", params={"limit": 2, **({"after": cursor} if cursor else {})})).json()
            found += [session["id"] for session in page["data"]]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
    assert found == [str(id) for id in reversed(submitted)]


async def test_events_are_paged_by_seq(owner: Person, client: Sandstream) -> None:
    """Keyset pages put together are the log."""
    run = await client.submit(["seq 1 3"])
    watched = [event.seq async for event in client.watch(run.session_id)]
    found: list[int] = []
    after = "0"
    async with owner.endpoints() as http:
        while True:
            path = f"/v1/sessions/{run.session_id}/events"
            page = (await http.get(path, params={"after": after, "limit": 2})).json()
            found += [event["seq"] for event in page["data"]]
            if not page["has_more"]:
                break
            after = page["next_cursor"]
    assert found == watched


async def test_what_anyone_may_ask(stack: Stack) -> None:
    """Health and the client's configuration need no token, and hold no secret."""
    async with httpx.AsyncClient(base_url=stack.api.url) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        config = await http.get("/v1/config")
    assert config.json() == {"supabase_url": stack.supabase.url, "publishable_key": stack.keys.publishable_key}

"""API keys over HTTP: shown once, used like a token, listed without their secrets, revoked for good."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx
import pytest

from functions.identity import SCOPES
from local.stack import Stack
from tests.conftest import Person
from tests.e2e.acting import acting
from tests.e2e.sandboxes import until
from tests.e2e.test_refusals import assert_refused

Json = dict[str, Any]


async def make(person: Person, *, key: str | None = None, **changes: Any) -> httpx.Response:
    """The answer to `POST /v1/keys`."""
    headers = {"Idempotency-Key": key} if key else {}
    async with person.endpoints() as http:
        return await http.post("/v1/keys", json={"name": "ci", "scopes": ["read"], **changes}, headers=headers)


async def listed(person: Person) -> list[Json]:
    """All of the person's keys."""
    async with person.endpoints() as http:
        answer = await http.get("/v1/keys", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["data"]
    return found


async def revoke(person: Person, id: str) -> Json:
    """The answer to `DELETE /v1/keys/{id}`."""
    async with person.endpoints() as http:
        answer = await http.delete(f"/v1/keys/{id}")
    assert answer.status_code == 200, answer.text
    told: Json = answer.json()
    return told


async def test_a_secret_is_shown_once(owner: Person) -> None:
    """In the answer that made it, and in no answer afterwards."""
    answer = await make(owner)
    assert answer.status_code == 201
    made = answer.json()
    secret = made.pop("key")
    assert secret.startswith("sst_")
    assert made["prefix"] == secret[:12]
    assert (made["type"], made["name"], made["scopes"], made["expires_at"]) == ("api_key", "ci", ["read"], None)
    assert await listed(owner) == [made]
    assert secret not in json.dumps(await revoke(owner, made["id"]))


async def test_a_key_is_taken_in_either_header(stack: Stack, owner: Person) -> None:
    """As Bearer and as `x-api-key`; where both are sent, Bearer counts."""
    made = await owner.key("read")
    bearer, header = {"Authorization": f"Bearer {made['key']}"}, {"x-api-key": made["key"]}
    async with httpx.AsyncClient(base_url=stack.api.url) as http:
        for headers in (bearer, header, {**bearer, "x-api-key": "sst_wrong"}):
            assert (await http.get("/v1/sessions", headers=headers)).status_code == 200, headers
        wrong = {"Authorization": "Bearer sst_wrong", **header}
        assert_refused(await http.get("/v1/sessions", headers=wrong), 401, "invalid_key")
    assert (await listed(owner))[0]["last_used_at"] is not None


async def test_the_official_sdk_takes_a_key_as_its_api_key(owner: Person) -> None:
    """`api_key` is where users of that SDK look for it."""
    secret = (await owner.key("read", "run"))["key"]
    async with anthropic.AsyncAnthropic(base_url=owner.stack.api.url, api_key=secret, auth_token=None) as client:
        made = await client.beta.agents.create(name="Helper", model="claude-sonnet-5")
        assert (await client.beta.agents.retrieve(made.id)).name == "Helper"
        with pytest.raises(anthropic.PermissionDeniedError):
            await client.get("/v1/keys", cast_to=object)


async def test_a_key_starts_a_run_to_its_end(owner: Person) -> None:
    """What is started behind a key is the owner's, and goes on like any other."""
    behind = await owner.behind_key("run", "read")
    async with behind.client() as client, owner.client() as mine:
        run = await client.submit(["echo hello"])
        ended = await mine.result(run)
        assert (await client.run(run.id)).status == ended.status == "succeeded"


async def test_a_revoked_key_opens_nothing(owner: Person) -> None:
    """Once the second has passed for which an answer is remembered; its row stays, with the time."""
    made = await owner.key("read")
    behind = replace(owner, token=made["key"])
    async with behind.endpoints() as http:
        assert (await http.get("/v1/sessions")).status_code == 200
        revoked = await revoke(owner, made["id"])

        async def refused() -> bool:
            return (await http.get("/v1/sessions")).status_code == 401

        await until(refused, "the revocation to be noticed")
    assert revoked["revoked_at"] is not None
    assert await revoke(owner, made["id"]) == revoked
    assert (await listed(owner))[0]["revoked_at"] == revoked["revoked_at"]


async def test_a_revoked_key_ends_the_streams_that_it_opened(stack: Stack, owner: Person) -> None:
    """What happens after the revocation is not told to those who came with the key."""
    made = await owner.key("read")
    async with acting(stack, owner, "hello") as actor, replace(owner, token=made["key"]).endpoints() as http:
        path = f"/v1/sessions/{actor.session_id}/events/stream"
        async with http.stream("GET", path, params={"after": 0}) as answer:
            lines = answer.aiter_lines()
            assert answer.status_code == 200
            await anext(line async for line in lines if line.startswith("id:"))
            await revoke(owner, made["id"])
            reading = asyncio.create_task(drained(lines))
            while not reading.done():
                await actor.append("agent.message", content=[])
            assert len(await reading) < await actor.append("agent.message", content=[])


async def drained(lines: AsyncIterator[str]) -> list[str]:
    """The ids that still come."""
    return [line async for line in lines if line.startswith("id:")]


async def test_an_expired_key_opens_nothing(owner: Person, service: httpx.AsyncClient) -> None:
    """Its end is its own, not its token's."""
    ends = datetime.now(UTC) + timedelta(seconds=2)
    made = (await make(owner, expires_at=ends.isoformat())).json()
    assert datetime.fromisoformat(made["expires_at"]) == ends
    async with replace(owner, token=made["key"]).endpoints() as http:
        assert (await http.get("/v1/sessions")).status_code == 200

        async def refused() -> bool:
            return (await http.get("/v1/sessions")).status_code == 401

        await until(refused, "the key's end")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": ["read", "read"]}, "scopes"),
        ({"name": ""}, "name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"hash": "0" * 64}, "hash"),
    ],
    ids=str,
)
async def test_a_request_that_makes_no_sense_is_400(change: Json, param: str, owner: Person) -> None:
    """With the field's name."""
    assert assert_refused(await make(owner, **change), 400, "invalid_request_error")["param"] == param


async def test_the_same_request_again_is_refused_by_the_first_keys_id(owner: Person) -> None:
    """Its secret cannot be shown again, and an answer without one would be stored as if it had it."""
    made = (await make(owner, key="k")).json()
    again = assert_refused(await make(owner, key="k"), 409, "secret_not_shown_again")
    assert made["id"] in again["message"]
    assert_refused(await make(owner, key="k", name="other"), 409, "idempotency_key_reused")
    assert [key["id"] for key in await listed(owner)] == [made["id"]]


async def test_a_key_hands_on_no_more_than_it_has(owner: Person) -> None:
    """An administering key makes keys, but none that may do what it may not."""
    keeper = await owner.behind_key("admin", "read")
    assert (await make(keeper, scopes=["read", "admin"])).status_code == 201
    assert_refused(await make(keeper, scopes=["read", "run"]), 403, "scope_missing")


async def test_keys_are_paged_newest_first(owner: Person) -> None:
    """Following the cursor gives every key once."""
    made = [(await owner.key("read"))["id"] for _ in range(5)]
    found: list[str] = []
    page: Json = {"next_page": None, "has_more": True}
    async with owner.endpoints() as http:
        while page["has_more"]:
            asked = {"limit": 2, **({"page": page["next_page"]} if page["next_page"] else {})}
            page = (await http.get("/v1/keys", params=asked)).json()
            found += [key["id"] for key in page["data"]]
    assert found == list(reversed(made))


async def test_a_strangers_key_is_not_there(owner: Person, stranger: Person) -> None:
    """Not to be listed, not to be revoked."""
    made = await owner.key(*SCOPES)
    assert await listed(stranger) == []
    async with stranger.endpoints() as http:
        assert_refused(await http.delete(f"/v1/keys/{made['id']}"), 404, "key_not_found")
    async with replace(owner, token=made["key"]).endpoints() as http:
        assert (await http.get("/v1/sessions")).status_code == 200


async def test_no_table_shows_a_hash(owner: Person) -> None:
    """Nor does Supabase itself, to the owner: the other columns are theirs to read."""
    await owner.key("read")
    async with owner.tables() as http:
        assert (await http.get("/api_keys", params={"select": "*"})).status_code == 403
        assert (await http.get("/api_keys", params={"select": "hash"})).status_code == 403
        assert len((await http.get("/api_keys", params={"select": "id,name"})).json()) == 1

"""Sessions that cannot be made: what is wrong with the request, or not built, is named."""

from typing import Any

import pytest
from anthropic import APIStatusError

from tests.conftest import Person
from tests.e2e import official
from tests.e2e.official import sdk
from tests.e2e.test_sessions_api import DEFAULTS, REPOSITORY, make

BAD_RESOURCES: dict[str, tuple[list[Any], str]] = {
    "plain http": ([{**REPOSITORY, "url": "http://github.com/a/b"}], "resources.0.url"),
    "no repository": ([{**REPOSITORY, "url": "https://github.com/"}], "resources.0.url"),
    "a password in the URL": ([{**REPOSITORY, "url": "https://a:b@github.com/a/b"}], "resources.0.url"),
    "loopback": ([{**REPOSITORY, "url": "https://127.0.0.1/a/b"}], "resources.0.url"),
    "a line break in the token": ([{**REPOSITORY, "authorization_token": "a\nb"}], "resources.0.authorization_token"),
    "an option for a branch": (
        [{**REPOSITORY, "checkout": {"type": "branch", "name": "--upload-pack=x"}}],
        "resources.0.checkout.name",
    ),
    "a short hash": ([{**REPOSITORY, "checkout": {"type": "commit", "sha": "abc"}}], "resources.0.checkout.sha"),
    "a way out": ([{**REPOSITORY, "mount_path": "~/workspace/../.sandstream"}], "resources.0.mount_path"),
    "a relative path": ([{**REPOSITORY, "mount_path": "todo"}], "resources.0.mount_path"),
    "one place twice": ([REPOSITORY, REPOSITORY], "resources"),
    "two tokens of one host": (
        [
            REPOSITORY,
            {**REPOSITORY, "mount_path": "/srv/x", "url": "https://github.com/a/b", "authorization_token": "t"},
        ],
        "resources",
    ),
}


@pytest.mark.parametrize(("resources", "param"), BAD_RESOURCES.values(), ids=BAD_RESOURCES.keys())
async def test_a_bad_repository_is_400(resources: list[Any], param: str, owner: Person) -> None:
    """What cannot be cloned, or would be cloned to a place that nobody meant, is refused before a session is made."""
    async with owner.endpoints() as http:
        told = official.plain(await http.post("/v1/sessions", json={**DEFAULTS, "resources": resources}), 400)
        assert (await http.get("/v1/sessions")).json()["data"] == []
    assert told["param"] == param


UNBUILT: dict[str, tuple[dict[str, Any], str]] = {
    "vaults": ({"vault_ids": ["vlt_1"]}, "vault_ids"),
    "files": ({"resources": [{"type": "file", "file_id": "file_1"}]}, "file"),
    "memory stores": ({"resources": [{"type": "memory_store", "memory_store_id": "m"}]}, "memory_store"),
    "outcomes": (
        {"initial_events": [{"type": "user.define_outcome", "description": "x", "rubric": {"type": "text"}}]},
        "user.define_outcome",
    ),
    "skills": ({"agent": {"type": "agent_with_overrides", "id": "default", "skills": [{"type": "custom"}]}}, "skills"),
}


@pytest.mark.parametrize(("more", "name"), UNBUILT.values(), ids=UNBUILT.keys())
async def test_what_is_not_built_is_501_by_its_name(more: dict[str, Any], name: str, owner: Person) -> None:
    """A session that would lack what was asked for is not made."""
    async with sdk(owner) as client:
        with pytest.raises(APIStatusError) as refused:
            await make(client, **more)
        assert [one async for one in client.beta.sessions.list()] == []
    assert refused.value.status_code == 501
    assert official.error(refused.value)["type"] == "not_implemented"
    assert name in official.error(refused.value)["message"]


async def test_what_is_empty_is_not_missed(owner: Person) -> None:
    """A client that sends every field, with nothing in those that are not built, gets its session."""
    async with sdk(owner) as client:
        made = await make(client, vault_ids=[], resources=[], initial_events=[], metadata={}, title=None)
    official.session(made)


BAD_SESSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"priority": 1}, "priority"),
    "an agent that is a number": ({"agent": 7}, "agent"),
    "an agent of no type": ({"agent": {"id": "default"}}, "agent"),
    "an agent's version 0": ({"agent": {"type": "agent", "id": "default", "version": 0}}, "agent.version"),
    "an override of the name": (
        {"agent": {"type": "agent_with_overrides", "id": "default", "name": "x"}},
        "agent.name",
    ),
    "a title of 201 letters": ({"title": "x" * 201}, "title"),
    "an empty title": ({"title": ""}, "title"),
    "a NUL in the metadata": ({"metadata": {"a": "\x00"}}, "metadata.a"),
    "a budget of nothing": ({"budget": {"type": "limit"}}, "budget.max_list_cost"),
    "51 events": ({"initial_events": [{"type": "user.message", "content": []}] * 51}, "initial_events"),
    "a tool's answer to begin with": (
        {"initial_events": [{"type": "user.interrupt"}]},
        "initial_events.0.type",
    ),
}


@pytest.mark.parametrize(("more", "param"), BAD_SESSIONS.values(), ids=BAD_SESSIONS.keys())
async def test_a_bad_session_is_400_with_the_fields_name(more: dict[str, Any], param: str, owner: Person) -> None:
    """The field is named as the client wrote it, whatever kind of agent or resource it belongs to."""
    async with owner.endpoints() as http:
        told = official.plain(await http.post("/v1/sessions", json={**DEFAULTS, **more}), 400)
    assert (told["type"], told["param"]) == ("invalid_request_error", param)

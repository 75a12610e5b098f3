"""Agents, made, read, changed and archived by the official SDK."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from anthropic import (
    APIStatusError,
    AsyncAnthropic,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
)

from tests.conftest import Person
from tests.e2e import official
from tests.e2e.official import sdk

TOOLSET = {"type": "agent_toolset_20260401"}
MODEL = "claude-sonnet-5"


async def make(client: AsyncAnthropic, **more: Any) -> Any:
    """An agent with as little as there can be."""
    return await client.beta.agents.create(**{"name": "Helper", "model": MODEL, **more})


async def test_an_agent_is_made_and_read(owner: Person) -> None:
    """What the SDK is answered is an agent of its own type, at version 1, and reads the same again."""
    async with sdk(owner) as client:
        made = await make(client, tools=[TOOLSET], system="Be brief.", metadata={"team": "web"}, description="Helps.")
        read = await client.beta.agents.retrieve(made.id)
    sent = official.agent(made)
    assert official.agent(read) == sent
    assert (made.version, made.name, made.system, made.metadata) == (1, "Helper", "Be brief.", {"team": "web"})
    assert sent["model"] == {"id": MODEL, "effort": None, "speed": "standard", "inference_geo": None}
    assert made.id.startswith("agent_")
    assert made.archived_at is None


async def test_the_ready_made_agent_is_there(owner: Person) -> None:
    """`default` is everyone's: read like any other, listed, and changed by nobody."""
    async with sdk(owner) as client:
        official.agent(await client.beta.agents.retrieve("default"))
        listed = [agent.id async for agent in client.beta.agents.list()]
        with pytest.raises(PermissionDeniedError) as refused:
            await client.beta.agents.update("default", name="Mine")
        with pytest.raises(PermissionDeniedError):
            await client.beta.agents.archive("default")
    assert listed == ["default"]
    assert official.error(refused.value)["type"] == "ready_made"


async def test_an_update_makes_a_version(owner: Person) -> None:
    """The new version has what was named, keeps the rest, and the old one is still there to be read."""
    async with sdk(owner) as client:
        first = await make(client, system="Be brief.", tools=[TOOLSET], metadata={"a": "1", "b": "2"})
        second = await client.beta.agents.update(
            first.id, version=1, name="Helper 2", metadata={"a": None, "c": "3"}, model={"id": MODEL, "effort": "high"}
        )
        latest = await client.beta.agents.retrieve(first.id)
        old = await client.beta.agents.retrieve(first.id, version=1)
    sent = official.agent(second)
    assert (second.version, second.name, second.system) == (2, "Helper 2", "Be brief.")
    assert second.metadata == {"b": "2", "c": "3"}
    assert sent["model"]["effort"] == {"type": "high"}
    assert official.agent(latest) == sent
    assert official.agent(old)["name"] == "Helper"
    assert (old.version, old.metadata) == (1, {"a": "1", "b": "2"})


async def test_an_update_that_changes_nothing_makes_no_version(owner: Person) -> None:
    """The same configuration said again is the same version."""
    async with sdk(owner) as client:
        made = await make(client, tools=[TOOLSET])
        again = await client.beta.agents.update(made.id, version=1, name="Helper", tools=[TOOLSET])
    assert official.agent(again) == official.agent(made)


async def test_a_clearing_update(owner: Person) -> None:
    """null clears what can be cleared, and a name cannot."""
    async with sdk(owner) as client:
        made = await make(client, system="Be brief.", description="Helps.", tools=[TOOLSET])
        cleared = await client.beta.agents.update(made.id, system=None, description="", tools=None)
        with pytest.raises(BadRequestError) as refused:
            await client.beta.agents.update(made.id, name=None)  # type: ignore[arg-type]
    official.agent(cleared)
    assert (cleared.system, cleared.description, cleared.tools) == (None, None, [])
    assert official.error(refused.value)["param"] == "name"


async def test_an_old_version_cannot_be_updated(owner: Person) -> None:
    """Of two who saw the same version one writes; the other is told, once, and nothing of theirs is kept."""
    async with sdk(owner) as client:
        made = await make(client)
        outcomes = await asyncio.gather(
            *(client.beta.agents.update(made.id, version=1, name=name) for name in ("One", "Two")),
            return_exceptions=True,
        )
        latest = await client.beta.agents.retrieve(made.id)
    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert (len(refused), len(won)) == (1, 1)
    assert official.error(refused[0])["type"] == "version_conflict"
    assert refused[0].response.headers["x-should-retry"] == "false"
    assert (latest.version, latest.name) == (2, won[0].name)


async def test_versions_are_listed(owner: Person) -> None:
    """All versions, newest first, page by page, each as it was."""
    async with sdk(owner) as client:
        made = await make(client, name="v1")
        for number in range(2, 6):
            await client.beta.agents.update(made.id, name=f"v{number}")
        found = [official.agent(version) async for version in client.beta.agents.versions.list(made.id, limit=2)]
    assert [(version["version"], version["name"]) for version in found] == [(n, f"v{n}") for n in range(5, 0, -1)]
    assert {version["id"] for version in found} == {made.id}


async def test_agents_are_listed_in_pages(owner: Person) -> None:
    """The SDK's iterator finds every agent once, newest first; the bounds of created_at hold."""
    async with sdk(owner) as client:
        made = [await make(client, name=f"Helper {n}") for n in range(5)]
        found = [official.agent(agent)["id"] async for agent in client.beta.agents.list(limit=2)]
        since = client.beta.agents.list(created_at_gte=made[3].created_at)
        until = client.beta.agents.list(created_at_lte=made[1].created_at)
        assert [agent.id async for agent in since] == [made[4].id, made[3].id]
        assert [agent.id async for agent in until] == [made[1].id, made[0].id, "default"]
    assert found == [agent.id for agent in reversed(made)] + ["default"]


async def test_an_archived_agent_is_out_of_the_list(owner: Person) -> None:
    """Archiving hides it, keeps it readable, ends its versions, and may be asked for twice."""
    async with sdk(owner) as client:
        made = await make(client)
        archived = await client.beta.agents.archive(made.id)
        again = await client.beta.agents.archive(made.id)
        official.agent(archived)
        assert archived.archived_at is not None
        assert again.archived_at == archived.archived_at
        assert made.id not in [agent.id async for agent in client.beta.agents.list()]
        assert made.id in [agent.id async for agent in client.beta.agents.list(include_archived=True)]
        with pytest.raises(ConflictError) as refused:
            await client.beta.agents.update(made.id, name="Again")
    assert official.error(refused.value)["type"] == "agent_archived"


async def test_a_key_makes_one_agent(owner: Person) -> None:
    """The same POST with the same key is the same agent; with another body it is a conflict."""
    async with sdk(owner) as client:
        key = {"Idempotency-Key": uuid4().hex}
        first, second = [await make(client, extra_headers=key) for _ in range(2)]
        with pytest.raises(ConflictError) as refused:
            await make(client, name="Other", extra_headers=key)
        update = {"Idempotency-Key": uuid4().hex}
        changes = [await client.beta.agents.update(first.id, name="New", extra_headers=update) for _ in range(2)]
    assert official.agent(first) == official.agent(second)
    assert official.error(refused.value)["type"] == "idempotency_key_reused"
    assert [change.version for change in changes] == [2, 2]


async def test_tools_are_answered_resolved(owner: Person) -> None:
    """Each tool says whether it is enabled and whether it asks; `deny`, a word of ours, is not enabled."""
    toolset = {
        **TOOLSET,
        "default_config": {"permission_policy": {"type": "always_ask"}},
        "configs": [
            {"name": "bash", "permission_policy": {"type": "deny"}},
            {"name": "read", "permission_policy": {"type": "always_allow"}},
            {"name": "write"},
        ],
    }
    mcp = {"type": "mcp_toolset", "mcp_server_name": "docs"}
    custom = {"type": "custom", "name": "ask", "description": "Asks.", "input_schema": {"type": "object"}}
    servers = [{"type": "url", "name": "docs", "url": "https://mcp.example.com/sse"}]
    async with sdk(owner) as client:
        made = await make(client, tools=[toolset, mcp, custom], mcp_servers=servers)
        kept = await client.beta.agents.update(made.id, tools=official.agent(made)["tools"])
    built_in, server, own = official.agent(made)["tools"]
    assert {tool["name"]: (tool["enabled"], tool["permission_policy"]["type"]) for tool in built_in["configs"]} == {
        "bash": (False, "always_ask"),
        "read": (True, "always_allow"),
        "write": (True, "always_ask"),
    }
    assert server["default_config"] == {"enabled": True, "permission_policy": {"type": "always_ask"}}
    assert own == custom
    assert kept.version == 1, "what was answered is a request that changes nothing"


UNBUILT: dict[str, tuple[dict[str, Any], str]] = {
    "skills": ({"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}, "skills"),
    "multiagent": ({"multiagent": {"type": "coordinator", "agents": []}}, "multiagent"),
    "aws_role": ({"execution_identity": {"type": "aws_role", "role_arn": "x"}}, "aws_role"),
    "fast": ({"model": {"id": MODEL, "speed": "fast"}}, "fast"),
    "inference_geo": ({"model": {"id": MODEL, "inference_geo": "us"}}, "inference_geo"),
    "auto": ({"tools": [{**TOOLSET, "default_config": {"permission_policy": {"type": "auto"}}}]}, "auto"),
    "allowed_domains": (
        {"tools": [{**TOOLSET, "configs": [{"name": "web_fetch", "allowed_domains": ["a.com"]}]}]},
        "allowed_domains",
    ),
}


@pytest.mark.parametrize(("more", "name"), UNBUILT.values(), ids=UNBUILT.keys())
async def test_what_is_not_built_is_501_by_its_name(more: dict[str, Any], name: str, owner: Person) -> None:
    """Nothing that was asked for is left out in silence; and the SDK does not ask three times."""
    async with sdk(owner) as client:
        with pytest.raises(APIStatusError) as refused:
            await make(client, **more)
    assert refused.value.status_code == 501
    assert official.error(refused.value)["type"] == "not_implemented"
    assert name in official.error(refused.value)["message"]
    assert refused.value.response.headers["x-should-retry"] == "false"


BAD_AGENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"model": MODEL}, "name"),
    "no model": ({"name": "x"}, "model"),
    "an option for a model": ({"name": "x", "model": "--help"}, "model"),
    "a model without an id": ({"name": "x", "model": {"effort": "high"}}, "model.id"),
    "an unknown effort": ({"name": "x", "model": {"id": "m", "effort": "extreme"}}, "model.effort"),
    "an unknown field": ({"name": "x", "model": MODEL, "tool": []}, "tool"),
    "an unknown tool type": ({"name": "x", "model": MODEL, "tools": [{"type": "computer"}]}, "tools.0"),
    "an unknown tool": (
        {"name": "x", "model": MODEL, "tools": [{**TOOLSET, "configs": [{"name": "sh"}]}]},
        "tools.0.configs.0.name",
    ),
    "a toolset twice": ({"name": "x", "model": MODEL, "tools": [TOOLSET, TOOLSET]}, "tools"),
    "a toolset without its server": (
        {"name": "x", "model": MODEL, "tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}]},
        "tools",
    ),
    "a server that no toolset uses": (
        {"name": "x", "model": MODEL, "mcp_servers": [{"type": "url", "name": "d", "url": "https://a.example"}]},
        "mcp_servers",
    ),
    "a custom tool without a description": (
        {
            "name": "x",
            "model": MODEL,
            "tools": [{"type": "custom", "name": "t", "input_schema": {"type": "object"}}],
        },
        "tools.0.description",
    ),
    "a system of 100,001 letters": ({"name": "x", "model": MODEL, "system": "x" * 100_001}, "system"),
    "17 pairs of metadata": ({"name": "x", "model": MODEL, "metadata": {str(n): "" for n in range(17)}}, "metadata"),
}


@pytest.mark.parametrize(("body", "param"), BAD_AGENTS.values(), ids=BAD_AGENTS.keys())
async def test_a_bad_agent_is_400_with_the_fields_name(body: dict[str, Any], param: str, owner: Person) -> None:
    """The field is named as the client wrote it."""
    async with owner.endpoints() as http:
        told = official.plain(await http.post("/v1/agents", json=body), 400)
    assert (told["type"], told["param"]) == ("invalid_request_error", param)


async def test_the_largest_agent_that_the_bounds_allow_is_refused_cleanly_or_kept(owner: Person) -> None:
    """What fits the fields but not the table is the client's mistake, not a failure of ours."""
    tool = {"type": "custom", "description": "x" * 4096, "input_schema": {"type": "object"}}
    async with owner.endpoints() as http:
        tools = [{**tool, "name": f"tool_{n}"} for n in range(256)]
        told = official.plain(await http.post("/v1/agents", json={"name": "x", "model": MODEL, "tools": tools}), 400)
    assert told["type"] == "invalid_request_error"


async def test_a_stranger_finds_no_agent_and_no_environment(owner: Person, stranger: Person) -> None:
    """Another tenant's configurations do not exist: not to read, to change, to archive or to delete."""
    async with sdk(owner) as client:
        agent = await make(client)
        environment = await client.beta.environments.create(name="Mine")
    async with sdk(stranger) as client:
        assert [one.id async for one in client.beta.agents.list()] == ["default"]
        assert [one.id async for one in client.beta.environments.list()] == ["default"]
    async with stranger.endpoints() as http:
        for method, path, body in (
            ("GET", f"/v1/agents/{agent.id}", None),
            ("GET", f"/v1/agents/{agent.id}?version=1", None),
            ("GET", f"/v1/agents/{agent.id}/versions", None),
            ("POST", f"/v1/agents/{agent.id}", {"name": "x"}),
            ("POST", f"/v1/agents/{agent.id}/archive", None),
            ("GET", f"/v1/environments/{environment.id}", None),
            ("POST", f"/v1/environments/{environment.id}", {"name": "x"}),
            ("POST", f"/v1/environments/{environment.id}/archive", None),
            ("DELETE", f"/v1/environments/{environment.id}", None),
        ):
            answer = await http.request(method, path, json=body)
            assert answer.status_code == 404, (method, path, answer.text)


async def test_a_version_that_is_not_there_is_404(owner: Person) -> None:
    """Neither a later version, nor one that no agent can have."""
    async with sdk(owner) as client:
        made = await make(client)
        with pytest.raises(NotFoundError):
            await client.beta.agents.retrieve(made.id, version=2)
        with pytest.raises(BadRequestError):
            await client.beta.agents.retrieve(made.id, version=0)


async def test_a_cursor_of_another_list_is_400(owner: Person) -> None:
    """Agents' cursors do not page versions, nor the other way round beyond what they name."""
    async with sdk(owner) as client:
        made = [await make(client) for _ in range(2)]
        page = await client.beta.agents.list(limit=1)
        with pytest.raises(BadRequestError) as refused:
            await client.beta.agents.versions.list(made[0].id, page=page.next_page or "")
    assert official.error(refused.value)["param"] == "page"


async def test_plain_http_reads_pages_by_both_names(owner: Person) -> None:
    """`after` and `next_cursor` are ours, `page` and `next_page` the SDK's: one and the same."""
    async with sdk(owner) as client:
        made = [await make(client) for _ in range(2)]
    async with owner.endpoints() as http:
        first = (await http.get("/v1/agents", params={"limit": 1})).json()
        assert first["has_more"] is True
        assert first["next_page"] == first["next_cursor"]
        for name in ("after", "page"):
            second: httpx.Response = await http.get("/v1/agents", params={"limit": 1, name: first["next_page"]})
            assert [agent["id"] for agent in second.json()["data"]] == [made[0].id]

"""Environments, made, read, changed, archived and deleted by the official SDK."""

from typing import Any

import pytest
from anthropic import APIStatusError, NotFoundError, PermissionDeniedError
from anthropic.types.beta import BetaEnvironmentDeleteResponse

from tests.conftest import Person
from tests.e2e import official
from tests.e2e.official import sdk


async def test_an_environment_is_made_read_and_changed(owner: Person) -> None:
    """An environment is closed but for the hosts that it names; what an update leaves out stays."""
    networking = {"type": "limited", "allowed_hosts": ["Example.com", "*.example.org:8443"], "allow_mcp_servers": True}
    async with sdk(owner) as client:
        made = await client.beta.environments.create(
            name="Open", config={"type": "cloud", "networking": networking}, metadata={"a": "1"}, description="Two."
        )
        sent = official.environment(made)
        read = official.environment(await client.beta.environments.retrieve(made.id))
        changed = await client.beta.environments.update(
            made.id,
            config={"type": "cloud", "networking": {"type": "limited", "allow_mcp_servers": False}},
            metadata={"a": "", "b": "2"},
        )
    assert read == sent
    assert sent["config"]["networking"] == {
        "type": "limited",
        "allowed_hosts": ["example.com", "*.example.org:8443"],
        "allow_mcp_servers": True,
        "allow_package_managers": False,
    }
    after = official.environment(changed)
    assert after["config"]["networking"]["allowed_hosts"] == ["example.com", "*.example.org:8443"]
    assert after["config"]["networking"]["allow_mcp_servers"] is False
    assert (after["metadata"], after["description"], after["name"]) == ({"b": "2"}, "Two.", "Open")


async def test_an_environment_without_a_word_on_networking_is_closed(owner: Person) -> None:
    """Where Managed Agents would be open, we are not; the ready-made one reaches its agent's MCP servers."""
    async with sdk(owner) as client:
        made = official.environment(await client.beta.environments.create(name="Closed"))
        ready_made = official.environment(await client.beta.environments.retrieve("default"))
    for environment, opens_mcp in ((made, False), (ready_made, True)):
        assert environment["config"]["networking"] == {
            "type": "limited",
            "allowed_hosts": [],
            "allow_mcp_servers": opens_mcp,
            "allow_package_managers": False,
        }


async def test_environments_are_listed_archived_and_deleted(owner: Person) -> None:
    """Pages hold each once; an archived one is left out unless asked for; a deleted one is gone."""
    async with sdk(owner) as client:
        made = [await client.beta.environments.create(name=f"E{n}") for n in range(3)]
        found = [official.environment(one)["id"] async for one in client.beta.environments.list(limit=2)]
        assert found == [one.id for one in reversed(made)] + ["default"]
        archived = await client.beta.environments.archive(made[0].id)
        assert official.environment(archived)["archived_at"] is not None
        gone = await client.beta.environments.delete(made[1].id)
        official.exact(BetaEnvironmentDeleteResponse, gone)
        assert [one.id async for one in client.beta.environments.list()] == [made[2].id, "default"]
        everything = [one.id async for one in client.beta.environments.list(include_archived=True)]
        assert everything == [made[2].id, made[0].id, "default"]
        with pytest.raises(NotFoundError):
            await client.beta.environments.retrieve(made[1].id)
        with pytest.raises(PermissionDeniedError):
            await client.beta.environments.delete("default")


UNBUILT: dict[str, tuple[dict[str, Any], str]] = {
    "unrestricted": ({"config": {"type": "cloud", "networking": {"type": "unrestricted"}}}, "unrestricted"),
    "self_hosted": ({"config": {"type": "self_hosted"}}, "self_hosted"),
    "packages": ({"config": {"type": "cloud", "packages": {"type": "packages", "pip": ["httpx"]}}}, "packages"),
    "package managers": (
        {"config": {"type": "cloud", "networking": {"type": "limited", "allow_package_managers": True}}},
        "allow_package_managers",
    ),
    "organization": ({"scope": "organization"}, "organization"),
}


@pytest.mark.parametrize(("more", "name"), UNBUILT.values(), ids=UNBUILT.keys())
async def test_an_environment_that_is_not_built_is_501(more: dict[str, Any], name: str, owner: Person) -> None:
    """A sandbox that would be less open, or less equipped, than was asked for is not made."""
    async with sdk(owner) as client:
        with pytest.raises(APIStatusError) as refused:
            await client.beta.environments.create(name="x", **more)
    assert refused.value.status_code == 501
    assert name in official.error(refused.value)["message"]


@pytest.mark.parametrize("host", ["localhost:5432", "10.0.0.1", "169.254.169.254", "https://example.com", "a..b", ""])
async def test_an_environment_opens_public_hosts_only(host: str, owner: Person) -> None:
    """What stands beside the sandboxes is the operator's to open."""
    networking = {"type": "limited", "allowed_hosts": ["example.com", host]}
    async with owner.endpoints() as http:
        body = {"name": "x", "config": {"type": "cloud", "networking": networking}}
        told = official.plain(await http.post("/v1/environments", json=body), 400)
    assert told["param"] == "config.networking.allowed_hosts.1"

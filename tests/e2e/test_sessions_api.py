"""Sessions, made, read, listed, changed, archived and deleted by the official SDK."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from anthropic import AsyncAnthropic, BadRequestError, ConflictError, NotFoundError
from anthropic.types.beta import BetaManagedAgentsDeletedSession

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e import official
from tests.e2e.conversing import said, script, turn
from tests.e2e.official import sdk

TOOLSET: Any = {"type": "agent_toolset_20260401"}
MODEL = "claude-sonnet-5"
DEFAULTS: Any = {"agent": "default", "environment_id": "default"}
BUDGET: Any = {"type": "limit", "max_list_cost": {"amount": "250", "currency": "USD"}}
TOKEN = "ghp_canary-not-a-real-token-0123456789"
REPOSITORY: Any = {
    "type": "github_repository",
    "url": "https://github.com/example/todo.git",
    "authorization_token": TOKEN,
    "checkout": {"type": "branch", "name": "main"},
}


async def make(client: AsyncAnthropic, **more: Any) -> Any:
    """A session that waits for its first message."""
    return await client.beta.sessions.create(**{**DEFAULTS, **more})


async def test_a_session_is_made_and_read(owner: Person) -> None:
    """What the SDK is answered is a session of its own type, idle, with the agent in it, and reads the same again."""
    async with sdk(owner) as client:
        made = await make(client, title="Mine", metadata={"team": "web"})
        read = await client.beta.sessions.retrieve(made.id)
    sent, again = official.session(made), official.session(read)
    assert sent.pop("stats")["duration_seconds"] <= again.pop("stats")["duration_seconds"]
    assert again == sent
    assert (made.status, made.title, made.metadata, made.environment_id) == ("idle", "Mine", {"team": "web"}, "default")
    assert (made.agent.id, made.agent.version, made.agent.name) == ("default", 1, "Claude")
    assert (sent["last_seq"], sent["budget"], sent["vault_ids"], sent["resources"]) == (0, None, [], [])
    assert sent["usage"]["list_cost"] == {"amount": "0", "currency": "USD"}


async def test_a_session_with_a_message_starts_at_once(stack: Stack, owner: Person) -> None:
    """One call: the answer says `running`, and after the turn the session is idle and has been charged for."""
    word = script(stack, said("Hello.", usage={"input_tokens": 100, "output_tokens": 10}))
    event = {"type": "user.message", "content": [{"type": "text", "text": word}]}
    async with sdk(owner) as client:
        made = await make(client, initial_events=[event])
        assert (made.status, official.session(made)["last_seq"] > 0) == ("running", True)
        with pytest.raises(ConflictError) as refused:
            await client.beta.sessions.delete(made.id)
        await turn(client, made.id)
        after = official.session(await client.beta.sessions.retrieve(made.id))
    assert official.error(refused.value)["type"] == "session_running"
    assert after["status"] == "idle"
    assert (after["usage"]["input_tokens"], after["usage"]["output_tokens"]) == (100, 10)


async def test_plain_http_may_leave_the_environment_out(owner: Person) -> None:
    """It is then the ready-made one; an agent must be named."""
    async with owner.endpoints() as http:
        made = await http.post("/v1/sessions", json={"agent": "default"})
        assert official.session(made.json())["environment_id"] == "default"
        assert "total;dur=" in made.headers["server-timing"]
        assert official.plain(await http.post("/v1/sessions", json={}), 400)["param"] == "agent"


async def test_a_session_pins_a_version_of_its_agent(owner: Person) -> None:
    """The latest by default, or the one that is named; what the agent becomes later is not the session's."""
    async with sdk(owner) as client:
        agent = await client.beta.agents.create(name="v1", model=MODEL, tools=[TOOLSET])
        by_id = await make(client, agent=agent.id)
        await client.beta.agents.update(agent.id, name="v2", system="Be brief.")
        latest = await make(client, agent=agent.id)
        pinned = await make(client, agent={"type": "agent", "id": agent.id, "version": 1})
        unpinned = await make(client, agent={"type": "agent", "id": agent.id})
        again = await client.beta.sessions.retrieve(by_id.id)
        with pytest.raises(NotFoundError):
            await make(client, agent={"type": "agent", "id": agent.id, "version": 3})
    versions = [official.session(one)["agent"]["version"] for one in (by_id, latest, pinned, unpinned, again)]
    assert versions == [1, 2, 1, 2, 1]
    assert [one.agent.name for one in (by_id, latest, pinned, again)] == ["v1", "v2", "v1", "v1"]
    assert (latest.agent.system, pinned.agent.system) == ("Be brief.", None)


async def test_overrides_are_the_sessions_alone(owner: Person) -> None:
    """Each field replaces the agent's, a null system clears it, and the agent stays as it was."""
    custom: Any = {"type": "custom", "name": "ask", "description": "Asks.", "input_schema": {"type": "object"}}
    async with sdk(owner) as client:
        agent = await client.beta.agents.create(name="Helper", model=MODEL, system="Be brief.", tools=[TOOLSET])
        overrides = {"model": {"id": "claude-opus-5", "effort": "low"}, "system": None, "tools": [custom]}
        made = await make(client, agent={"type": "agent_with_overrides", "id": agent.id, **overrides})
        kept = await make(client, agent={"type": "agent_with_overrides", "id": agent.id, "version": 1})
        after = await client.beta.agents.retrieve(agent.id)
        wrong = {"type": "agent_with_overrides", "id": agent.id, "tools": [TOOLSET, TOOLSET]}
        with pytest.raises(BadRequestError) as refused:
            await make(client, agent=wrong)
    sent = official.session(made)["agent"]
    assert (sent["model"]["id"], sent["model"]["effort"], sent["system"]) == ("claude-opus-5", {"type": "low"}, None)
    assert sent["tools"] == [custom]
    assert official.session(kept)["agent"]["system"] == "Be brief."
    assert official.agent(after) == official.agent(agent)
    assert official.error(refused.value)["param"] == "tools"


async def test_an_archived_agent_or_environment_starts_nothing(owner: Person) -> None:
    """Nor does one that is not there, or that is somebody else's."""
    async with sdk(owner) as client:
        agent = await client.beta.agents.create(name="x", model=MODEL)
        environment = await client.beta.environments.create(name="x")
        await client.beta.agents.archive(agent.id)
        await client.beta.environments.archive(environment.id)
        for wrong in ({"agent": agent.id}, {"environment_id": environment.id}):
            with pytest.raises(ConflictError) as refused:
                await make(client, **wrong)
            assert official.error(refused.value)["type"].endswith("_archived")
        for wrong in ({"agent": "agent_0"}, {"environment_id": "env_0"}):
            with pytest.raises(NotFoundError):
                await make(client, **wrong)


async def test_a_repositorys_token_is_never_shown(owner: Person, service: httpx.AsyncClient) -> None:
    """The answer has the repository and where it will lie; the token is in no answer and no row of a user's."""
    async with sdk(owner) as client:
        made = await make(client, resources=[REPOSITORY])
        read = await client.beta.sessions.retrieve(made.id)
        listed = await client.beta.sessions.list()
    (resource,) = official.session(made)["resources"]
    assert (
        resource.items()
        >= {
            "type": "github_repository",
            "url": "https://github.com/example/todo.git",
            "mount_path": "~/workspace/todo",
            "checkout": {"type": "branch", "name": "main"},
        }.items()
    )
    for answer in (made, read, listed):
        assert TOKEN not in answer.to_json()
    async with owner.tables() as tables:
        assert TOKEN not in (await tables.get("/agent_sessions")).text
        assert (await tables.get("/session_secrets")).status_code >= 400
    secrets = await service.post("/rpc/session_secrets_v1", json={"session_id": made.id})
    assert secrets.json() == {"repositories": {REPOSITORY["url"]: TOKEN}}


async def test_a_budget_is_kept_in_cents(owner: Person) -> None:
    """An amount comes back as it was sent; it can be raised and taken away; other money is refused."""
    async with sdk(owner) as client:
        made = await make(client, budget=BUDGET)
        raised: Any = {"type": "limit", "max_list_cost": {"amount": "500", "currency": "USD"}}
        more = await client.beta.sessions.update(made.id, budget=raised)
        same = await client.beta.sessions.update(made.id, title="Other")
        none = await client.beta.sessions.update(made.id, budget=None)
        for wrong in ({"amount": "250", "currency": "EUR"}, {"amount": "2.5", "currency": "USD"}):
            with pytest.raises(BadRequestError):
                await make(client, budget={"type": "limit", "max_list_cost": wrong})
    assert [official.session(one)["budget"] for one in (made, more, same, none)] == [BUDGET, raised, raised, None]


async def test_title_and_metadata_are_changed(owner: Person) -> None:
    """What is left out stays; null takes a key, or the title, away."""
    async with sdk(owner) as client:
        made = await make(client, title="Mine", metadata={"a": "1", "b": "2"})
        patched = await client.beta.sessions.update(made.id, metadata={"a": None, "c": "3"})
        cleared = await client.beta.sessions.update(made.id, title=None)
        with pytest.raises(BadRequestError) as refused:
            await client.beta.sessions.update(made.id, metadata={str(n): "x" for n in range(17)})
    assert (patched.title, patched.metadata) == ("Mine", {"b": "2", "c": "3"})
    assert (cleared.title, cleared.metadata) == (None, {"b": "2", "c": "3"})
    assert official.session(cleared)["updated_at"] >= official.session(made)["updated_at"]
    assert official.error(refused.value)["type"] == "bad_metadata"


async def test_the_tools_of_a_session_are_changed(owner: Person) -> None:
    """Between turns the session gets other tools; its agent, and the rest of its own, stay."""
    async with sdk(owner) as client:
        made = await make(client)
        asking: Any = {**TOOLSET, "default_config": {"permission_policy": {"type": "always_ask"}}}
        changed = await client.beta.sessions.update(made.id, agent={"tools": [asking]})
        agent = await client.beta.agents.retrieve("default")
    before, after = official.session(made)["agent"], official.session(changed)["agent"]
    assert after["tools"][0]["default_config"]["permission_policy"] == {"type": "always_ask"}
    assert {**after, "tools": before["tools"]} == before
    assert official.agent(agent)["tools"] == before["tools"]


async def test_sessions_are_listed_by_what_is_asked_for(owner: Person) -> None:
    """By agent and version, status, time and order, in pages that hold each once."""
    async with sdk(owner) as client:
        agent = await client.beta.agents.create(name="x", model=MODEL)
        made = [await make(client), await make(client, agent=agent.id), await make(client)]
        await client.beta.agents.update(agent.id, name="y")
        made.append(await make(client, agent=agent.id))
        archived = await client.beta.sessions.archive(made[0].id)
        assert archived.archived_at is not None

        async def listed(**query: Any) -> list[int]:
            found = [official.session(one)["id"] async for one in client.beta.sessions.list(limit=2, **query)]
            return [[one.id for one in made].index(id) for id in found]

        assert await listed() == [3, 2, 1]
        assert await listed(order="asc") == [1, 2, 3]
        assert await listed(include_archived=True) == [3, 2, 1, 0]
        assert await listed(include_archived=True, order="asc", statuses=["terminated", "running"]) == [0]
        assert await listed(statuses=["idle"]) == [3, 2, 1]
        assert await listed(agent_id=agent.id) == [3, 1]
        assert await listed(agent_id=agent.id, agent_version=1) == [1]
        assert await listed(created_at_gt=made[1].created_at) == [3, 2]
        assert await listed(created_at_gte=made[1].created_at, created_at_lt=made[3].created_at) == [2, 1]
        assert await listed(created_at_lte=made[1].created_at - timedelta(microseconds=1)) == []


async def test_lists_are_asked_for_in_plain_http_too(owner: Person) -> None:
    """`statuses` may be repeated without brackets; a status, an order or a time that is none is 400."""
    async with sdk(owner) as client:
        made = await make(client)
    async with owner.endpoints() as http:
        page = (await http.get("/v1/sessions?statuses=running&statuses=idle")).json()
        assert [one["id"] for one in page["data"]] == [made.id]
        assert (await http.get("/v1/sessions?statuses=running")).json()["data"] == []
        for query in ("statuses=busy", "statuses[]=busy", "order=up", "created_at[gt]=soon", "agent_id=a b", "limit=0"):
            told = official.plain(await http.get(f"/v1/sessions?{query}"), 400)
            assert told["param"].removesuffix(".0") == query.split("=")[0]
        for name in ("deployment_id", "memory_store_id"):
            assert name in official.plain(await http.get(f"/v1/sessions?{name}=x"), 501)["message"]


async def test_a_session_is_archived(owner: Person) -> None:
    """It ends for good, its log stays to be read, and nothing about it changes any more."""
    async with sdk(owner) as client:
        made = await make(client)
        archived = await client.beta.sessions.archive(made.id)
        again = await client.beta.sessions.archive(made.id)
        events = [event.type async for event in client.beta.sessions.events.list(made.id)]
        with pytest.raises(ConflictError) as refused:
            await client.beta.sessions.update(made.id, title="Late")
    sent = official.session(archived)
    assert (sent["status"], sent["archived_at"]) == ("terminated", official.session(again)["archived_at"])
    assert sent["stats"]["duration_seconds"] == official.session(again)["stats"]["duration_seconds"]
    assert datetime.fromisoformat(sent["archived_at"]) >= made.created_at
    assert events == ["session.status_terminated"]
    assert official.error(refused.value)["type"] == "session_terminated"


async def test_a_session_is_deleted(owner: Person) -> None:
    """Nothing is left of it: not the session, not its log, and not the second time."""
    async with sdk(owner) as client:
        made = await make(client, resources=[REPOSITORY])
        gone = official.exact(BetaManagedAgentsDeletedSession, await client.beta.sessions.delete(made.id))
        assert gone == {"id": made.id, "type": "session_deleted"}
        with pytest.raises(NotFoundError):
            await client.beta.sessions.retrieve(made.id)
        with pytest.raises(NotFoundError):
            await client.beta.sessions.delete(made.id)
    async with owner.tables() as tables:
        assert (await tables.get(f"/agent_events?session_id=eq.{made.id}")).json() == []


async def test_a_plan_of_commands_is_a_session_like_others(owner: Person, client: Sandstream) -> None:
    """Its agent is called `commands`; it validates as the SDK's type, is listed, renamed, archived and deleted."""
    run = await client.submit(["true"], title="Plan")
    await client.result(run)
    async with sdk(owner) as official_client:
        (listed,) = [one async for one in official_client.beta.sessions.list()]
        assert (listed.agent.id, listed.environment_id, listed.title) == ("commands", "default", "Plan")
        official.session(listed)
        renamed = await official_client.beta.sessions.update(listed.id, title="Done")
        assert official.session(renamed)["title"] == "Done"
        with pytest.raises(BadRequestError):
            await official_client.beta.sessions.update(listed.id, agent={"tools": []})
        assert (await official_client.beta.sessions.archive(listed.id)).status == "terminated"
        await official_client.beta.sessions.delete(listed.id)


async def test_a_key_makes_one_session(owner: Person) -> None:
    """The same POST with the same key is the same session; with another body, or for another thing, a conflict."""
    key = {"Idempotency-Key": uuid4().hex}
    async with sdk(owner) as client:
        made = [await make(client, resources=[REPOSITORY], extra_headers=key) for _ in range(2)]
        assert len([one async for one in client.beta.sessions.list()]) == 1
        for other in ({"title": "Other"}, {"resources": [{**REPOSITORY, "authorization_token": "other"}]}):
            with pytest.raises(ConflictError) as refused:
                await make(client, **{"resources": [REPOSITORY], **other}, extra_headers=key)
            assert official.error(refused.value)["type"] == "idempotency_key_reused"
        update = {"Idempotency-Key": uuid4().hex}
        await client.beta.sessions.update(made[0].id, title="One", extra_headers=update)
        await client.beta.sessions.update(made[0].id, title="Two")
        repeated = await client.beta.sessions.update(made[0].id, title="One", extra_headers=update)
    assert official.session(made[0])["id"] == official.session(made[1])["id"]
    assert repeated.title == "Two", "the change was made once, by the first of the two"


async def test_a_stranger_finds_no_session(owner: Person, stranger: Person) -> None:
    """Another tenant's session is not there: not to read, change, archive or delete, and not by its agent."""
    async with sdk(owner) as client:
        agent = await client.beta.agents.create(name="x", model=MODEL)
        environment = await client.beta.environments.create(name="x")
        made = await make(client, agent=agent.id)
    async with sdk(stranger) as client:
        assert [one async for one in client.beta.sessions.list(agent_id=agent.id)] == []
        for wrong in ({"agent": agent.id}, {"environment_id": environment.id}):
            with pytest.raises(NotFoundError):
                await make(client, **wrong)
    async with stranger.endpoints() as http:
        for method, path, body in (
            ("GET", "", None),
            ("POST", "", {"title": "x"}),
            ("POST", "", {"agent": {"tools": []}}),
            ("POST", "/archive", None),
            ("DELETE", "", None),
        ):
            answer = await http.request(method, f"/v1/sessions/{made.id}{path}", json=body)
            assert answer.status_code == 404, (method, path, answer.text)
    async with sdk(owner) as client:
        assert (await client.beta.sessions.retrieve(made.id)).status == "idle"

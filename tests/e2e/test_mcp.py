"""An agent's MCP server: the CLI in the sandbox calls it, and its tools have policies and events of their own."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from anthropic import AsyncAnthropic
from mcp.server.mcpserver import MCPServer

from local.stack import Stack
from tests.conftest import Person
from tests.e2e.conversing import begin, log, of, said, script, send, seq, texts, turn, used
from tests.e2e.faults import endpoints

ALLOW, ASK = {"type": "always_allow"}, {"type": "always_ask"}


@asynccontextmanager
async def library() -> AsyncIterator[tuple[str, list[str]]]:
    """A server with one tool, on a free port: its host, and what was asked of it."""
    asked: list[str] = []
    server = MCPServer("library")

    @server.tool()
    def look_up(title: str) -> str:
        """Where a book stands."""
        asked.append(title)
        return f"{title} is on shelf 7"

    listener = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(server.streamable_http_app(), log_level="critical", timeout_graceful_shutdown=1)
    serving = uvicorn.Server(config)
    task = asyncio.create_task(serving.serve(sockets=[listener]))
    try:
        yield place, asked
    finally:
        serving.should_exit = True
        await task


@asynccontextmanager
async def reader(stack: Stack, owner: Person, logs: Path, place: str) -> AsyncIterator[AsyncAnthropic]:
    """The official SDK at endpoints whose operator has opened that place."""
    async with (
        endpoints(stack, owner, logs, EGRESS_ALLOW=place) as http,
        AsyncAnthropic(base_url=str(http.base_url), auth_token=owner.token, max_retries=0) as client,
    ):
        yield client


async def librarian(client: AsyncAnthropic, place: str, policy: dict[str, str]) -> str:
    """An agent with that server; its id."""
    toolset: Any = {
        "type": "mcp_toolset",
        "mcp_server_name": "library",
        "default_config": {"enabled": True, "permission_policy": policy},
    }
    server: Any = {"type": "url", "name": "library", "url": f"http://{place}/mcp"}
    agent = await client.beta.agents.create(
        name="Librarian", model="claude-sonnet-5", tools=[toolset], mcp_servers=[server]
    )
    return agent.id


def dune(stack: Stack) -> str:
    """A prompt that looks a book up."""
    return script(stack, used("mcp__library__look_up", {"title": "Dune"}), said("Found it."))


async def test_a_tool_of_an_mcp_server_is_called(stack: Stack, owner: Person, tmp_path: Path) -> None:
    """In the ready-made environment, without a word about hosts: the agent's servers are its owner's choice."""
    async with library() as (place, asked), reader(stack, owner, tmp_path, place) as client:
        session_id = await begin(client, dune(stack), agent=await librarian(client, place, ALLOW))
        events = await turn(client, session_id)
        (use,) = of(events, "agent.mcp_tool_use")
        (result,) = of(events, "agent.mcp_tool_result")
        assert (use.mcp_server_name, use.name, use.input) == ("library", "look_up", {"title": "Dune"})
        assert use.evaluated_permission == "allow"
        assert result.mcp_tool_use_id == use.id
        assert "Dune is on shelf 7" in result.content[0].text
        assert (asked, texts(events)[-1]) == (["Dune"], "Found it.")
        await log(client, session_id)


@pytest.mark.parametrize(("answer", "calls"), [("allow", ["Dune"]), ("deny", [])])
async def test_a_tool_of_an_mcp_server_may_ask_first(
    answer: str, calls: list[str], stack: Stack, owner: Person, tmp_path: Path
) -> None:
    """Nothing reaches the server before a person's yes."""
    async with library() as (place, asked), reader(stack, owner, tmp_path, place) as client:
        session_id = await begin(client, dune(stack), agent=await librarian(client, place, ASK))
        events = await turn(client, session_id)
        (use,) = of(events, "agent.mcp_tool_use")
        assert asked == []
        await send(client, session_id, {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": answer})
        rest = await turn(client, session_id, after=seq(events[-1]))
        assert (asked, texts(rest)[-1]) == (calls, "Found it.")
        assert of(rest, "agent.mcp_tool_result")[0].is_error is (answer == "deny")

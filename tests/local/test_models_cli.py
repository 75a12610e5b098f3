"""The real CLI against the scripted model: it runs real tools, and what it sends is understood."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ResultMessage,
    TextBlock,
    ToolUseBlock,
)

from tests.local.models_world import Cli, Models, called, said, texts

TURN_SECONDS = 60


@pytest.fixture
def cli(models: Models, tmp_path: Path) -> Cli:
    """One that has said nothing yet."""
    return Cli(models, tmp_path)


def tool_results(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    contents = [line["message"]["content"] for line in lines if line["type"] == "user"]
    return [
        block for blocks in contents if isinstance(blocks, list) for block in blocks if block["type"] == "tool_result"
    ]


async def test_it_runs_a_real_tool_and_ends(models: Models, cli: Cli) -> None:
    """A file is written where the CLI works, the result ends the turn, and each message costs what the ledger says."""
    write = called("Write", file_path="{{cwd}}/note.txt", content="from the script")
    prompt = models.follow({"content": [said("Writing."), write]}, {"content": [said("Written.")]})
    lines = await asyncio.to_thread(cli.ask, prompt)
    assert (cli.directory / "note.txt").read_text() == "from the script"
    assert texts(lines) == ["Writing.", "Written."]
    result = lines[-1]
    assert (result["type"], result["subtype"], result["is_error"]) == ("result", "success", False)
    noted = await models.ledger(prompt)
    ids = [line["message"]["id"] for line in lines if line["type"] == "assistant"]
    assert [entry["message_id"] for entry in noted] == sorted(set(ids), key=ids.index)
    assert {entry["session"] for entry in noted} == {cli.session}
    for name in ("input_tokens", "output_tokens"):
        assert result["usage"][name] == sum(entry["usage"][name] for entry in noted)


async def test_a_resumed_session_remembers_even_when_compacted(models: Models, cli: Cli) -> None:
    """What was said in an earlier process is in the request of a later one, also as a summary."""
    word = models.follow({"content": [said("Noted.")]})
    recall = models.follow({"content": [said("{{memory:it is (\\w+)}}")]})
    await asyncio.to_thread(cli.ask, f"{word}: it is plum")
    assert texts(await asyncio.to_thread(cli.ask, recall)) == ["plum"]
    compacted = await asyncio.to_thread(cli.ask, "/compact")
    assert [line["subtype"] for line in compacted if line["type"] == "system"].count("compact_boundary") == 1
    assert texts(await asyncio.to_thread(cli.ask, recall)) == ["plum"]


async def test_a_sub_agent_follows_a_script_of_its_own(models: Models, cli: Cli) -> None:
    """Its prompt is the one that the tool call gave it; the caller goes on with its own next turn."""
    inner = models.follow({"content": [called("Bash", command="echo inside")]}, {"content": [said("It says inside.")]})
    ask = called("Agent", description="Look", prompt=inner, subagent_type="general-purpose", run_in_background=False)
    outer = models.follow({"content": [ask]}, {"content": [said("It came back.")]})
    lines = await asyncio.to_thread(cli.ask, outer)
    assert texts(lines)[-1] == "It came back."
    assert [len(await models.ledger(prompt)) for prompt in (inner, outer)] == [2, 2]
    assert "inside" in [result["content"] for result in tool_results(lines)]


async def test_the_clis_own_retries_reach_the_answer(models: Models, cli: Cli) -> None:
    """After an overload and after a cut stream it asks again; the ledger has one complete answer each."""
    late = models.follow({"content": [said("late")], "error": {"status": 529, "times": 1, "retry_after": 0}})
    cut = models.follow({"content": [said("one two three")], "cut_after": 1, "times": 1})
    assert texts(await asyncio.to_thread(cli.ask, late)) == ["late"]
    assert texts(await asyncio.to_thread(cli.ask, cut)) == ["one two three"]
    assert [entry["outcome"] for entry in await models.ledger(late)] == ["failed", "complete"]
    assert [entry["outcome"] for entry in await models.ledger(cut)] == ["cut", "complete"]


async def test_a_message_while_it_works_is_the_newest_prompt(models: Models, cli: Cli) -> None:
    """Sent while a tool runs, it is answered next, in the same turn."""
    wait = called("Bash", command="until [ -e go ]; do sleep 0.05; done")
    first = models.follow({"content": [wait]}, {"content": [said("nobody hears this")]})
    second = models.follow({"content": [said("heard you")]})
    async with asyncio.timeout(TURN_SECONDS), ClaudeSDKClient(options(cli)) as client:
        await client.query(first)
        await reached(client, ToolUseBlock)
        await client.query(second)
        (cli.directory / "go").touch()
        assert await spoken(client) == ["heard you"]


async def test_an_interrupted_turn_does_not_confuse_the_next(models: Models, cli: Cli) -> None:
    """Interrupted in a tool, and before a word was said: the next message is answered from its script's beginning."""
    tool = models.follow({"content": [called("Bash", command="sleep 60")]})
    silent = models.follow({"hang": True})
    after = [models.follow({"content": [said(text)]}) for text in ("one", "two")]
    async with asyncio.timeout(TURN_SECONDS), ClaudeSDKClient(options(cli)) as client:
        await client.query(tool)
        await reached(client, ToolUseBlock)
        await client.interrupt()
        await spoken(client)
        await client.query(after[0])
        assert await spoken(client) == ["one"]
        await client.query(silent)
        await asked(models, silent)
        await client.interrupt()
        await spoken(client)
        await client.query(after[1])
        assert await spoken(client) == ["two"]


def options(cli: Cli) -> ClaudeAgentOptions:
    cli.directory.mkdir(parents=True)
    return ClaudeAgentOptions(
        cwd=cli.directory, env=cli.environment(), setting_sources=[], permission_mode="bypassPermissions",
        model="claude-sonnet-5",
    )  # fmt: skip


async def reached(client: ClaudeSDKClient, block: type[object]) -> None:
    """Returns at the first block of that kind; the turn goes on."""
    async for message in client.receive_messages():
        if isinstance(message, AssistantMessage) and any(isinstance(found, block) for found in message.content):
            return


async def asked(models: Models, prompt: str) -> None:
    """Returns when the model was asked that."""
    while not await models.ledger(prompt):  # noqa: ASYNC110 another process' book
        await asyncio.sleep(0.02)


async def spoken(client: ClaudeSDKClient) -> list[str]:
    """The texts up to the next result."""
    found: list[str] = []
    async for message in client.receive_messages():
        if isinstance(message, AssistantMessage):
            found += [block.text for block in message.content if isinstance(block, TextBlock)]
        if isinstance(message, ResultMessage):
            break
    return found

"""The main path of a conversation, driven by the official SDK: create, stream, confirm, interrupt, follow up, list."""

from collections.abc import AsyncIterator

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.beta import BetaManagedAgentsSession

from local.stack import Stack
from tests.conftest import CANARY_MODEL_KEY, Person
from tests.e2e.conversing import (
    bash,
    begin,
    converse,
    log,
    message,
    of,
    official,
    read,
    results,
    said,
    script,
    send,
    seq,
    stop_reason,
    texts,
    turn,
    types,
    used,
)
from tests.e2e.sandboxes import is_gone, sandbox_of_session, until

ASKING = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}


@pytest.fixture
async def official_client(owner: Person) -> AsyncIterator[AsyncAnthropic]:
    """The owner, with the official SDK."""
    async with official(owner) as client:
        yield client


async def asking_agent(client: AsyncAnthropic, **more: object) -> str:
    """An agent that may use no tool unasked; its id."""
    agent = await client.beta.agents.create(name="careful", model="claude-sonnet-5", tools=[ASKING], **more)  # type: ignore[arg-type, list-item]
    return agent.id


async def test_a_session_is_one_call_and_all_that_claude_says_and_does_is_in_the_log(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """A prompt runs the real CLI in the sandbox: its words, its tool call, its result and its end, in order."""
    word = script(stack, bash("echo written > note.txt; cat note.txt", text="I will write it."), said("It is written."))
    session_id = await begin(official_client, f"{word} please", title="A note")
    events = await turn(official_client, session_id)
    assert texts(events) == ["I will write it.", "It is written."]
    assert results(events) == ["written"]
    use = of(events, "agent.tool_use")[0]
    assert (use.name, of(events, "agent.tool_result")[0].tool_use_id) == ("bash", use.id)
    order = ["user.message", "session.status_running", "agent.message", "agent.tool_use", "agent.tool_result"]
    assert [type for type in types(events) if type in order][:5] == order
    assert stop_reason(events) == "end_turn"
    session = await official_client.beta.sessions.retrieve(session_id)
    BetaManagedAgentsSession.model_validate(session.to_dict())
    assert (session.status, session.title) == ("idle", "A note")


async def test_every_event_of_a_turn_validates_as_the_sdks_type_and_none_comes_twice(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """Thinking, text, a tool and its result: what the list gives is what the SDK's models say."""
    thinking = {
        "content": [
            {"type": "thinking", "thinking": "Two plus two."},
            {"type": "text", "text": "4"},
        ]
    }
    word = script(stack, bash("expr 2 + 2"), thinking)
    session_id = await begin(official_client, word)
    await turn(official_client, session_id)
    events = await log(official_client, session_id)
    assert {"agent.thinking", "agent.message", "span.model_request_start", "span.model_request_end"} <= set(
        types(events)
    )


async def test_the_second_turn_knows_the_first_and_works_in_the_same_sandbox(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """A follow-up resumes Claude's own conversation: files and words are still there."""
    first = script(stack, bash("echo kept > kept.txt"), said("Noted."))
    second = script(stack, bash("cat kept.txt"), said("The number was {{memory:number is ([0-9]+)}}."))
    session_id = await begin(official_client, f"{first}: the number is 4711")
    await turn(official_client, session_id)
    events = await converse(official_client, session_id, f"{second}: which number was it?")
    assert results(events) == ["kept"]
    assert texts(events)[-1] == "The number was 4711."
    assert of(events, "sandbox.files_lost") == []


async def test_a_tool_that_must_be_asked_for_waits_and_runs_once_it_is_allowed(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """The tool use stands in the log, the session is idle with the event's id, and goes on after the confirmation."""
    word = script(stack, bash("echo allowed"), said("Done."))
    session_id = await begin(official_client, word, agent=await asking_agent(official_client))
    asked = await turn(official_client, session_id)
    use = of(asked, "agent.tool_use")[0]
    idle = asked[-1]
    assert (idle.stop_reason.type, idle.stop_reason.event_ids) == ("requires_action", [use.id])
    assert use.evaluated_permission == "ask"
    assert (await official_client.beta.sessions.retrieve(session_id)).status == "idle"
    await send(
        official_client, session_id, {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"}
    )
    answered = await turn(official_client, session_id, after=seq(idle))
    assert results(answered) == ["allowed"]
    assert (texts(answered), stop_reason(answered)) == (["Done."], "end_turn")


async def test_a_tool_that_is_denied_does_not_run_and_claude_is_told_why(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """The person's reason is the tool's result, and nothing was executed."""
    word = script(stack, bash("touch denied.txt"), bash("ls -A"), said("Understood."))
    session_id = await begin(official_client, word, agent=await asking_agent(official_client))
    asked = await turn(official_client, session_id)
    denial = {"type": "user.tool_confirmation", "tool_use_id": of(asked, "agent.tool_use")[0].id, "result": "deny"}
    await send(official_client, session_id, {**denial, "deny_message": "not on a Sunday"})
    again = await turn(official_client, session_id, after=seq(asked[-1]))
    assert "not on a Sunday" in results(again)[0]
    allowance = {"type": "user.tool_confirmation", "tool_use_id": of(again, "agent.tool_use")[0].id, "result": "allow"}
    await send(official_client, session_id, allowance)
    end = await turn(official_client, session_id, after=seq(again[-1]))
    assert "denied.txt" not in results(end)[0]


async def test_the_approval_can_come_from_a_second_client_after_a_reload(
    stack: Stack, owner: Person, official_client: AsyncAnthropic
) -> None:
    """Who did not ask, and sees the log for the first time, answers; the first answer counts, the second is refused."""
    word = script(stack, bash("echo second"), said("Done."))
    session_id = await begin(official_client, word, agent=await asking_agent(official_client))
    await turn(official_client, session_id)
    async with official(owner) as second:
        seen = await log(second, session_id)
        use = of(seen, "agent.tool_use")[0]
        answer = {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"}
        await send(second, session_id, answer)
        with pytest.raises(anthropic.ConflictError):
            await send(official_client, session_id, {**answer, "result": "deny"})
        events = await turn(second, session_id, after=seq(seen[-1]))
    assert results(events) == ["second"]


async def test_a_stranger_can_neither_see_nor_answer(
    stack: Stack, stranger: Person, official_client: AsyncAnthropic
) -> None:
    """Another's session does not exist."""
    word = script(stack, said("Private."))
    session_id = await begin(official_client, word)
    await turn(official_client, session_id)
    async with official(stranger) as other:
        with pytest.raises(anthropic.NotFoundError):
            await send(other, session_id, message("hello"))
        with pytest.raises(anthropic.NotFoundError):
            await other.beta.sessions.retrieve(session_id)
        assert [session async for session in other.beta.sessions.list()] == []


async def test_an_interrupt_stops_the_turn_with_its_children_and_the_session_goes_on(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """A command that would run for ever is gone after the interrupt, and the next message is answered."""
    forever = script(stack, bash("echo $$ > shell.pid; sleep 100000"), said("never said"))
    session_id = await begin(official_client, forever)
    events = await read(official_client, session_id, "agent.tool_use")
    await until(lambda: exists(stack, session_id, "shell.pid"), "the command to run")
    await send(official_client, session_id, {"type": "user.interrupt"})
    stopped = await turn(official_client, session_id, after=seq(events[-1]))
    assert stop_reason(stopped) == "end_turn"
    assert "never said" not in texts(stopped)
    alive = script(stack, bash("kill -0 $(cat shell.pid) 2>/dev/null && echo alive || echo gone"), said("Looked."))
    after = await converse(official_client, session_id, alive)
    assert (results(after), texts(after)[-1]) == (["gone"], "Looked.")


async def test_a_message_sent_while_a_turn_runs_waits_for_its_end(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """`queue` is the default: the first turn is finished, then the second message is answered."""
    first = script(stack, bash("while [ ! -e go ]; do sleep 0.05; done"), said("First."))
    second = script(stack, said("Second."))
    session_id = await begin(official_client, first)
    events = await read(official_client, session_id, "agent.tool_use")
    await send(official_client, session_id, message(second))
    await release(stack, session_id)
    rest = await read(official_client, session_id, "session.status_idle", after=seq(events[-1]))
    while "Second." not in texts(rest):
        rest += await turn(official_client, session_id, after=seq(rest[-1]))
    assert texts(rest) == ["First.", "Second."]


async def exists(stack: Stack, session_id: str, name: str) -> bool | None:
    """True once there is such a file in the conversation's workspace."""
    return await (await sandbox_of_session(stack, session_id)).files.exists(f"workspace/{name}") or None


async def release(stack: Stack, session_id: str) -> None:
    """Lets the command go on that waits for a file."""
    sandbox = await sandbox_of_session(stack, session_id)
    await sandbox.files.write("workspace/go", "")


async def test_a_message_may_interrupt_what_runs(stack: Stack, official_client: AsyncAnthropic) -> None:
    """`on_busy: interrupt`: the turn that runs is stopped, and the message is answered in its place."""
    first = script(stack, bash("sleep 100000"), said("never said"))
    second = script(stack, said("At once."))
    session_id = await begin(official_client, first)
    events = await read(official_client, session_id, "agent.tool_use")
    sent = await send(official_client, session_id, message(second), on_busy="interrupt")
    assert "user.message" in types(sent)
    rest = await turn(official_client, session_id, after=seq(events[-1]))
    while "At once." not in texts(rest):
        rest += await turn(official_client, session_id, after=seq(rest[-1]))
    assert "never said" not in texts(rest)


async def test_a_message_may_insist_on_an_idle_session(stack: Stack, official_client: AsyncAnthropic) -> None:
    """`on_busy: reject`: 409 while a turn runs, and nothing of it in the log."""
    first = script(stack, bash("sleep 100000"), said("never said"))
    session_id = await begin(official_client, first)
    await read(official_client, session_id, "agent.tool_use")
    with pytest.raises(anthropic.ConflictError):
        await send(official_client, session_id, message("hello"), on_busy="reject")
    await send(official_client, session_id, {"type": "user.interrupt"})
    await turn(official_client, session_id)
    assert len(of(await log(official_client, session_id), "user.message")) == 1


async def test_a_custom_tool_is_answered_by_the_client(stack: Stack, official_client: AsyncAnthropic) -> None:
    """Claude asks for a tool that the client has; its result goes back, and the turn goes on with it."""
    tool = {
        "type": "custom",
        "name": "weather",
        "description": "The weather of a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    agent = await official_client.beta.agents.create(name="forecaster", model="claude-sonnet-5", tools=[tool])  # type: ignore[list-item]
    word = script(stack, used("mcp__custom__weather", {"city": "Oslo"}), said("It rains."))
    session_id = await begin(official_client, word, agent=agent.id)
    asked = await turn(official_client, session_id)
    use = of(asked, "agent.custom_tool_use")[0]
    assert (use.name, use.input) == ("weather", {"city": "Oslo"})
    assert asked[-1].stop_reason.event_ids == [use.id]
    result = {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": use.id,
        "content": [{"type": "text", "text": "rain"}],
    }
    await send(official_client, session_id, result)
    events = await turn(official_client, session_id, after=seq(asked[-1]))
    assert (texts(events), stop_reason(events)) == (["It rains."], "end_turn")


async def test_live_text_comes_as_previews_with_the_id_of_the_stored_message(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """Deltas asked for come before their message, add up to it, and are not in the log."""
    text = " ".join(f"word{number}" for number in range(40))
    word = script(stack, said(text, delay_ms=20))
    session_id = await begin(official_client, "please wait", agent="default")
    await turn(official_client, session_id)
    stream = await official_client.beta.sessions.events.stream(session_id, event_deltas=["agent.message"])
    seen = []
    async with stream:
        await send(official_client, session_id, message(word))
        async for event in stream:
            seen.append(event)
            if event.type == "session.status_idle":
                break
    stored = of(seen, "agent.message")[-1]
    deltas = [event for event in seen if event.type == "event_delta" and event.event_id == stored.id]
    assert [event.event.id for event in of(seen, "event_start")] == [stored.id]
    told = "".join(event.delta.content.text for event in deltas)
    assert told
    assert text.startswith(told)
    assert types(await log(official_client, session_id)).count("event_delta") == 0


async def test_usage_is_what_the_model_charged_over_resumed_turns(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """Summed once per request, over two turns: the session's usage is the model's own ledger."""
    usage = {"input_tokens": 1200, "output_tokens": 77, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5}
    words = [script(stack, bash("true", usage=usage), said(f"turn {turn}", usage=usage)) for turn in range(2)]
    session_id = await begin(official_client, words[0])
    await turn(official_client, session_id)
    await converse(official_client, session_id, words[1])
    async with httpx.AsyncClient() as http:
        ledger = (await http.get(f"{stack.models.url}/scripted/ledger")).json()
    charged = [entry["usage"] for entry in ledger if any(word in (entry["prompt"] or "") for word in words)]
    ends = of(await log(official_client, session_id), "span.model_request_end")
    assert len(ends) == len(charged) == 4
    session = await official_client.beta.sessions.retrieve(session_id)
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens"):
        total = sum(entry[name] for entry in charged)
        assert sum(getattr(end.model_usage, name) for end in ends) == total
        assert getattr(session.usage, name) == total


async def test_the_model_key_is_nowhere_in_the_log(stack: Stack, official_client: AsyncAnthropic) -> None:
    """Claude prints its whole environment, and what it finds of its own processes: the key is not there."""
    look = "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; cat ~/.sandstream/*/job.json"
    word = script(stack, bash(look), said("Looked."))
    session_id = await begin(official_client, word)
    await turn(official_client, session_id)
    whole = "\n".join(event.to_json() for event in await log(official_client, session_id))
    assert "ANTHROPIC_BASE_URL" in whole
    assert CANARY_MODEL_KEY not in whole


async def test_archived_sessions_take_no_message_and_their_sandbox_is_gone(
    stack: Stack, official_client: AsyncAnthropic
) -> None:
    """Archive ends the session and kills its sandbox; delete takes it out of the lists."""
    session_id = await begin(official_client, script(stack, said("Bye.")))
    await turn(official_client, session_id)
    sandbox = await sandbox_of_session(stack, session_id)
    archived = await official_client.beta.sessions.archive(session_id)
    assert (archived.status, archived.archived_at is not None) == ("terminated", True)
    await until(lambda: is_gone(stack, sandbox.sandbox_id), "the sandbox to be gone")
    with pytest.raises(anthropic.ConflictError):
        await send(official_client, session_id, message("hello"))
    await official_client.beta.sessions.delete(session_id)
    with pytest.raises(anthropic.NotFoundError):
        await official_client.beta.sessions.retrieve(session_id)

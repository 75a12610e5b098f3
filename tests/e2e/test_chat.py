"""`sandstream chat`, as a person at a terminal and as a script use it."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from typing import Any

import pytest
from rich.cells import cell_len

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.acting import Actor, acting, delta, start
from tests.e2e.conversing import bash, official, said, script, used
from tests.e2e.terminal import SANDSTREAM, environment, terminal

ASKING = [{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}]


async def sandstream(person: Person, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, where there is no terminal."""
    process = await asyncio.create_subprocess_exec(
        SANDSTREAM, *arguments, env=environment(person),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin), 120)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def careful(person: Person) -> str:
    """An agent that asks before it uses a tool; its id."""
    async with official(person) as client:
        agent = await client.beta.agents.create(name="Careful", model="claude-sonnet-5", tools=ASKING)  # type: ignore[arg-type]
        return agent.id


async def asks(actor: Actor, *ids: str) -> None:
    """Claude wants to use tools, and waits."""
    for id in ids:
        await actor.append("agent.tool_use", id=id, name="bash", input={"command": f"rm {id}"})
    await actor.append("session.status_idle", stop_reason={"type": "requires_action", "event_ids": list(ids)})


async def newest(client: Sandstream) -> Any:
    """The session that was created last."""
    return (await client.sessions(limit=1)).data[0]


async def test_a_turn_is_shown_and_ends_well(stack: Stack, owner: Person) -> None:
    """What was asked, said and done, each once, in 80 columns without colours; the sum at the end; exit code 0."""
    text = "I'll write the page now, with everything in one file, so that nothing has to be installed for it."
    word = script(
        stack, used("Write", {"file_path": "{{cwd}}/page.html", "content": "<p>\nhello\n"}, text), said("It is done.")
    )
    code, out, err = await sandstream(owner, "chat", f"build {word}")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert words.count(text) == words.count("It is done.") == words.count(f"> build {word}") == 1
    assert "write page.html (2 lines)" in words
    assert "end_turn · 2 model requests" in words
    assert "$" in words.rpartition("end_turn")[2]
    assert "\x1b" not in out
    assert all(cell_len(line) <= 80 for line in out.splitlines())


async def test_json_is_for_programs(stack: Stack, owner: Person) -> None:
    """One event a line, each once and in order, nothing beside them."""
    word = script(stack, said("Hello."))
    code, out, _ = await sandstream(owner, "chat", word, "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "session.status_idle"
    assert [event["data"]["content"] for event in events if event["type"] == "agent.message"]


async def test_a_session_is_gone_on_with(stack: Stack, owner: Person, client: Sandstream) -> None:
    """The second message has its own turn, shown alone, in which Claude knows the first."""
    first = script(stack, said("I'll remember."))
    await sandstream(owner, "chat", f"my colour is teal {first}")
    session = await newest(client)
    assert session.title == f"my colour is teal {first}"
    second = script(stack, said("It was {{memory:my colour is (\\w+)}}."))
    code, out, _ = await sandstream(owner, "chat", second, "--session", str(session.id))
    assert code == 0
    assert "It was teal." in out
    assert "I'll remember." not in out


@pytest.mark.parametrize(("typed", "shown"), [("y", "allowed"), ("", "denied"), ("no", "denied")])
async def test_a_tool_that_asks_is_asked_about(typed: str, shown: str, stack: Stack, owner: Person) -> None:
    """Only a yes is one: Enter alone refuses. Claude goes on with either answer."""
    word = script(stack, bash("echo by your leave"), said("So be it."))
    async with terminal(owner, "chat", word, "--agent", await careful(owner)) as screen:
        await screen.until("Allow bash echo by your leave? [y/N]")
        screen.type(typed)
        assert await screen.end() == 0
    words = " ".join(screen.screen.split())
    assert shown in words
    assert ("by your leave (" in words or words.count("by your leave") > 2) == (shown == "allowed")
    assert "So be it." in words


async def test_without_a_terminal_nobody_is_asked(stack: Stack, owner: Person, client: Sandstream) -> None:
    """A script is told so by an exit code of its own; the question stays, and can be answered at a terminal."""
    word = script(stack, bash("echo by your leave"), said("So be it."))
    code, _, err = await sandstream(owner, "chat", word, "--agent", await careful(owner), stdin=b"y\n")
    session = await newest(client)
    assert code == 3
    assert "Claude asks whether it may: bash echo by your leave" in err
    assert f"sandstream chat --session {session.id}" in err
    async with terminal(owner, "chat", "--session", str(session.id)) as screen:
        await screen.until("[y/N]")
        screen.type("yes")
        await screen.until("So be it.")
        await screen.until("end_turn")
        screen.ctrl_d()
        assert await screen.end() == 0


async def test_a_question_that_somebody_else_answers_goes_away(stack: Stack, owner: Person, client: Sandstream) -> None:
    """Two people watch; one of them is quicker. The other is asked the next question, not the old one."""
    async with (
        acting(stack, owner, "clean up") as actor,
        terminal(owner, "chat", "--session", actor.session_id) as screen,
    ):
        await asks(actor, "sevt_toolu_a", "sevt_toolu_b")
        await screen.until("Allow bash rm sevt_toolu_a? [y/N]")
        await client.deny(actor.session_id, "sevt_toolu_a", "not that one")
        await screen.until("denied: not that one")
        await screen.until("Allow bash rm sevt_toolu_b? [y/N]")
        screen.type("y")
        await screen.until("allowed")
        await actor.finish()
        await screen.until("end_turn")
    answers = [event async for event in client.watch(actor.session_id) if event.type == "user.tool_confirmation"]
    assert [(answer.data["tool_use_id"], answer.data["result"]) for answer in answers] == [
        ("sevt_toolu_a", "deny"),
        ("sevt_toolu_b", "allow"),
    ]


async def test_a_custom_tool_cannot_be_answered_here(stack: Stack, owner: Person) -> None:
    """Whose tool it is must answer: said, with the id that the answer needs."""
    async with acting(stack, owner, "how is the weather?") as actor:
        await actor.append("agent.custom_tool_use", id="sevt_toolu_c", name="weather", input={"city": "Oslo"})
        await actor.append(
            "session.status_idle", stop_reason={"type": "requires_action", "event_ids": ["sevt_toolu_c"]}
        )
        code, _, err = await sandstream(owner, "chat", "--session", actor.session_id)
        await actor.finish()
    assert code == 3
    assert "weather Oslo: send a user.custom_tool_result for sevt_toolu_c" in err


async def test_words_are_shown_while_they_are_written(stack: Stack, owner: Person) -> None:
    """Before the message is in the log; its end joins on, and nothing of it is shown twice."""
    async with (
        acting(stack, owner, "tell me a story") as actor,
        terminal(owner, "chat", "--session", actor.session_id) as screen,
    ):
        await screen.until("> tell me a story")
        # Previews are for whoever listens by then: one after the other, until one is seen.
        id = ""
        async with asyncio.timeout(60):
            for number in itertools.count():
                id = f"sevt_msg_{number}_0"
                await actor.preview(start(id), delta(id, f"Story {number}: once upon "))
                await screen.changed(0.5)
                if f"Story {number}: once" in screen.screen:
                    break
        await actor.preview(delta(id, "a time, "))
        await screen.until(f"Story {number}: once upon a time,")
        story = f"Story {number}: once upon a time, and that is all."
        await actor.append("agent.message", id=id, content=[{"type": "text", "text": story}])
        await screen.until(story)
        await actor.finish()
        await screen.until("end_turn")
        screen.ctrl_d()
        assert await screen.end() == 0
    assert " ".join(screen.screen.split()).count("and that is all.") == 1


async def test_ctrl_c_interrupts_the_turn(stack: Stack, owner: Person, client: Sandstream) -> None:
    """The tool is stopped, the session rests and is usable, the exit code is that of an interrupt."""
    word = script(stack, bash("sleep 300"), said("Never said."))
    async with terminal(owner, "chat", word) as screen:
        await screen.until("bash sleep 300")
        screen.ctrl_c()
        assert await screen.end() == 130
    words = " ".join(screen.screen.split())
    assert "interrupting; Ctrl-C again leaves" in words
    assert "interrupted ·" in words
    assert "Never said." not in words
    session = await newest(client)
    assert session.status == "idle"
    again = script(stack, said("Here I am."))
    code, out, _ = await sandstream(owner, "chat", again, "--session", str(session.id))
    assert (code, "Here I am." in out) == (0, True)


async def test_a_second_ctrl_c_leaves(stack: Stack, owner: Person) -> None:
    """Who will not wait need not: the interrupt is in the log, and the program is gone."""
    async with acting(stack, owner, "take your time") as actor:
        async with terminal(owner, "chat", "--session", actor.session_id) as screen:
            await screen.until("> take your time")
            screen.ctrl_c()
            await screen.until("interrupted")
            screen.ctrl_c()
            assert await screen.end() == 130
            assert "Traceback" not in screen.screen
        await actor.finish("cancelled")


async def test_without_a_message_it_is_a_conversation(stack: Stack, owner: Person, client: Sandstream) -> None:
    """Line by line, in one session; what was typed is not repeated; the end of the input ends it."""
    first, second = script(stack, said("First answer.")), script(stack, said("Second answer."))
    async with terminal(owner, "chat") as screen:
        await screen.until(">")
        screen.type(f"one {first}")
        await screen.until("First answer.")
        await screen.until("end_turn")
        screen.type("")
        screen.type(f"two {second}")
        await screen.until("Second answer.")
        async with asyncio.timeout(60):
            while screen.screen.count("end_turn") < 2:
                await screen.changed(60)
        screen.ctrl_d()
        assert await screen.end() == 0
    assert screen.screen.count(f"one {first}") == screen.screen.count(f"two {second}") == 1
    assert len((await client.sessions()).data) == 1


async def test_a_turn_that_fails_is_a_command_that_fails(stack: Stack, owner: Person) -> None:
    """The reason is shown, and a script can rely on the exit code."""
    async with (
        acting(stack, owner, "hello") as actor,
        terminal(owner, "chat", "--session", actor.session_id) as screen,
    ):
        error = {"type": "model_overloaded_error", "message": "the model is overloaded"}
        await actor.append("session.error", error={**error, "retry_status": {"type": "exhausted"}})
        await screen.until("error: the model is overloaded")
        await actor.finish("failed")
        await screen.until("end_turn ·")
        screen.ctrl_d()
        assert await screen.end() == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chat",), "give a message"),
        (("chat", "hello", "--session", "00000000-0000-0000-0000-000000000000"), "no such session"),
        (("chat", "hello", "--agent", "agent_of_nobody"), "no such agent"),
    ],
)
async def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], says: str, owner: Person) -> None:
    """Exit code 1, one line that says why, no trace."""
    code, _, err = await sandstream(owner, *arguments)
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert says in err


async def test_a_session_of_plans_has_nobody_to_talk_to(owner: Person, client: Sandstream) -> None:
    """Said before anything is sent."""
    run = await client.result(await client.submit(["true"]))
    code, _, err = await sandstream(owner, "chat", "hello", "--session", str(run.session_id))
    assert (code, "nobody to talk to" in err) == (1, True)

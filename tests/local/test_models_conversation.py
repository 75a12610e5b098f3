"""Which prompt is answered, and with which turn: requests in the forms in which the CLI was seen to send them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.models.conversation import Conversation
from local.models.placeholders import spoken
from local.models.requests import MessagesRequest
from sandbox_scripts.drivers.claude.input import Inbox, prompt

ENVIRONMENT = (
    "<system-reminder>\n# Environment\nYou have been invoked in the following environment: \n"
    " - Primary working directory: /home/user/workspace\n - Is a git repository: false\n</system-reminder>"
)
TOKENS = "<system-reminder>\n<total_tokens>14999853 tokens left</total_tokens>\n</system-reminder>"
ATTRIBUTION = "<system-reminder>\nAttribution for git commits.\n- End messages with:\nX\n</system-reminder>\n"
QUEUED = (
    "<system-reminder>\nThe user sent a new message while you were working:\n{}\n\nThis is how Claude Code surfaces"
    " messages the user sends mid-turn. Address the message above as you continue this turn.\n</system-reminder>\n\n"
    + TOKENS
)
NOTIFICATION = (
    "<system-reminder>\n[SYSTEM NOTIFICATION - NOT USER INPUT]\nThis is an automated background-task event.\n\n"
    '<task-notification>\n<summary>Agent "look" finished</summary>\n</task-notification>\n</system-reminder>'
)
SUMMARY = (
    "This session is being continued from a previous conversation that ran out of context. The summary below covers"
    " it.\n\nSummary:\n6. All user messages:\n- remember: the word is plum\n"
)
COMPACTED = (
    "<local-command-caveat>The command below was run directly.</local-command-caveat>\n",
    "<command-name>/compact</command-name>\n  <command-message>compact</command-message>\n",
    "<local-command-stdout>Compacted </local-command-stdout>\n",
)


def user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


def system(text: str = TOKENS) -> dict[str, Any]:
    return {"role": "system", "content": [{"type": "text", "text": text}]}


def answered(*ids: str) -> dict[str, Any]:
    calls = [{"type": "tool_use", "id": id, "name": "Bash", "input": {}} for id in ids]
    return {"role": "assistant", "content": [{"type": "text", "text": "Words."}, *calls]}


def result(id: str, *texts: str) -> dict[str, Any]:
    blocks = [{"type": "tool_result", "tool_use_id": id, "content": "say: something else"}]
    return {"role": "user", "content": [*blocks, *user(*texts)["content"]]}


def read(*messages: dict[str, Any], **more: Any) -> Conversation:
    request = {"model": "m", "max_tokens": 1, "messages": list(messages), **more}
    return Conversation.of(MessagesRequest.model_validate(request))


FIRST = (user(ATTRIBUTION, "first"), system(ENVIRONMENT))
CASES = {
    "a first turn": (FIRST, "first", 0),
    "a plain text": (({"role": "user", "content": "first"},), "first", 0),
    "after a tool result": ((*FIRST, answered("a"), result("a"), system()), "first", 1),
    "after two": ((*FIRST, answered("a"), result("a"), system(), answered("b"), result("b"), system()), "first", 2),
    "a second turn": ((*FIRST, answered(), user("second"), system()), "second", 0),
    "its tool result": ((*FIRST, answered(), user("second"), system(), answered("b"), result("b")), "second", 1),
    "interrupted in a tool": (
        (*FIRST, answered("a"), result("a", "[Request interrupted by user for tool use]\n", "second"), system()),
        "second",
        0,
    ),
    "interrupted in a text": (
        (*FIRST, answered(), user("[Request interrupted by user]\n", "second"), system()),
        "second",
        0,
    ),
    "interrupted before anything was said": (
        (user(ATTRIBUTION, "first", "[Request interrupted by user]\n", "second"), system(ENVIRONMENT)),
        "second",
        0,
    ),
    "interrupted, and nothing since": ((*FIRST, answered(), user("[Request interrupted by user]\n")), "first", 1),
    "a message while it works": ((*FIRST, answered("a"), result("a"), system(QUEUED.format("second"))), "second", 0),
    "after that message": (
        (*FIRST, answered("a"), result("a"), system(QUEUED.format("second")), answered("b"), result("b"), system()),
        "second",
        1,
    ),
    "two messages while it works": (
        (*FIRST, answered("a"), result("a"), system(QUEUED.format("second") + "\n\n" + QUEUED.format("third"))),
        "second\nthird",
        0,
    ),
    "a sub-agent that comes back": ((*FIRST, answered("a"), result("a"), answered(), user(NOTIFICATION)), "first", 2),
    "compacted": ((user(ATTRIBUTION, SUMMARY, *COMPACTED, "second"), system(ENVIRONMENT)), "second", 0),
    "compacted in the middle": ((user(SUMMARY), answered("a"), result("a"), system()), "", 1),
    "a message of two texts": ((user("first", "and more"),), "first\nand more", 0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_newest_prompt_and_the_turn_are_found(case: str) -> None:
    """A person's words are told from the CLI's, and answers are counted since then."""
    messages, prompt, turn = CASES[case]
    conversation = read(*messages)
    assert (conversation.prompt, conversation.turn) == (prompt, turn)


def test_earlier_prompts_are_remembered() -> None:
    """The first match in what was said before the newest prompt; the newest itself and tool results are no memory."""
    conversation = read(
        user("the word is plum"), answered("a"), result("a"), answered(), user("no: the word is pear"), answered(),
        user("the word is apple?"),
    )  # fmt: skip
    assert conversation.remembered(r"word is (\w+)") == "plum"
    assert conversation.remembered(r"p\w+r\b") == "pear"
    assert conversation.remembered("apple") is None
    assert conversation.remembered("something else") is None


def test_what_is_told_again_is_remembered() -> None:
    """The driver's reminder of what a lost run was told: said before, and not the newest prompt."""
    event = {"seq": 2, "data": {"content": [{"type": "text", "text": "what now?"}]}}
    lost = {"seq": 1, "data": {"content": [{"type": "text", "text": "the word is plum"}]}}
    message = prompt(event, "session", Inbox(None, 0), [lost])["message"]  # type: ignore[arg-type] # nothing is fetched
    conversation = read(message)
    assert conversation.prompt == "what now?"
    assert conversation.remembered(r"word is (\w+)") == "plum"


def test_a_compacted_conversation_is_remembered() -> None:
    """What the summary kept counts as said before."""
    assert read(user(SUMMARY), answered(), user("recall")).remembered(r"word is (\w+)") == "plum"


@pytest.mark.parametrize(
    ("messages", "more", "directory"),
    [
        (FIRST, {}, "/home/user/workspace"),
        ([user("first")], {"system": "You help.\nWorking directory: /srv/app\nPlatform: linux"}, "/srv/app"),
        ([user("first")], {"system": [{"type": "text", "text": "Working directory: /srv/app"}]}, "/srv/app"),
        ([user("first")], {}, "."),
    ],
)
def test_the_working_directory_is_what_the_cli_says(messages: Any, more: dict[str, Any], directory: str) -> None:
    """Taken from the environment section or from the system prompt; a caller that names none gets relative paths."""
    conversation = read(*messages, **more)
    assert spoken("{{cwd}}/index.html", conversation) == f"{directory}/index.html"


def test_placeholders_are_filled() -> None:
    """What is remembered, what was said, and what could not be remembered; other braces stay."""
    conversation = read(user("I am Ada"), answered(), user("my town is Bath"), answered(), user("and now?"))
    text = "{{memory:am (\\w+)}} of {{memory:town is (\\w+)}}, {{memory:(\\d{2})}}: {{prompts}} {{other}}"
    assert spoken(text, conversation) == "Ada of Bath, (not remembered): - I am Ada\n- my town is Bath {{other}}"


@given(st.text(alphabet=st.characters(exclude_characters="<>[]"), min_size=1).filter(str.strip), st.integers(0, 5))
def test_any_prompt_is_read_as_it_was_said(prompt: str, turns: int) -> None:
    """Whatever a person says, and however many tools were used since."""
    rounds = [message for turn in range(turns) for message in (answered(str(turn)), result(str(turn)), system())]
    conversation = read(user(ATTRIBUTION, prompt), system(ENVIRONMENT), *rounds)
    assert (conversation.prompt, conversation.turn) == (prompt.strip(), turns)

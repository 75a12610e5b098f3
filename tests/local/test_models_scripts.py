"""Scripts: which one answers, how files are read, and what is said about a file that is none."""

import json
import re
from pathlib import Path
from typing import Any

import anthropic
import pytest

from local.models.conversation import Conversation
from local.models.errors import ModelError
from local.models.requests import MessagesRequest
from local.models.scripts import BUILT_IN, Library, parsed
from tests.local.models_world import Models, asking, said

BROKEN = {
    "no JSON": ("{", "Expecting"),
    "no turns": ('{"turns": []}', "turns"),
    "a misspelt field": ('{"turns": [{"contents": []}]}', "contents"),
    "a block of no kind": ('{"turns": [{"content": [{"type": "image"}]}]}', "image"),
    "no pattern": ('{"when": {"prompt": "("}, "turns": [{}]}', "regular expression"),
    "no such file": ('{"turns": [{"content": [{"type": "text", "text": "{{file:nowhere}}"}]}]}', "nowhere"),
}


def conversation(prompt: str, system: str = "") -> Conversation:
    return Conversation.of(MessagesRequest.model_validate({**asking(prompt), "system": system}))


def first_text(library: Library, prompt: str, system: str = "") -> str:
    blocks = [block.model_dump() for block in library.script(conversation(prompt, system)).turns[0].content]
    return next(str(block["text"]) for block in blocks if block["type"] == "text")


def write(directory: Path, name: str, prompt: str, text: str) -> None:
    content = [{"type": "text", "text": text}]
    (directory / f"{name}.json").write_text(json.dumps({"when": {"prompt": prompt}, "turns": [{"content": content}]}))


async def text_of(models: Models, *contents: Any) -> str:
    async with models.client() as client:
        answer = await client.messages.create(**asking(*contents))
    return "".join(block.text for block in answer.content if block.type == "text")


async def test_turns_follow_one_another(models: Models) -> None:
    """One for each answer since the prompt; past the last a short text ends the turn, so that no client loops."""
    prompt = models.follow({"content": [said("one")]}, {"content": [said("two")]})
    on = "<system-reminder>go on</system-reminder>"
    assert await text_of(models, prompt) == "one"
    assert await text_of(models, prompt, "one", on) == "two"
    assert "no more turns" in await text_of(models, prompt, "one", on, "two", on)


async def test_a_changed_file_counts_at_once(models: Models) -> None:
    """Scripts are written, rewritten and removed while the model runs."""
    prompt = models.follow({"content": [said("before")]})
    assert await text_of(models, prompt) == "before"
    write(models.scripts, prompt, prompt, "behind")
    assert await text_of(models, prompt) == "behind"
    (models.scripts / f"{prompt}.json").unlink()
    assert await text_of(models, prompt) == await text_of(models, "anything else")


async def test_a_broken_file_is_named_to_whoever_asks(models: Models) -> None:
    """400, which no client retries, with the file's name and what is wrong; it is gone as soon as the file is."""
    broken = models.scripts / "broken.json"
    prompt = models.follow({"content": [said("fine")]})
    broken.write_text('{"turns": [{"contents": []}]}')
    try:
        with pytest.raises(anthropic.BadRequestError, match=r"broken\.json.*contents"):
            await text_of(models, prompt)
    finally:
        broken.unlink()
    assert await text_of(models, prompt) == "fine"


async def test_a_pattern_that_is_none_is_named(models: Models) -> None:
    """A memory's pattern is looked at when it is said: 400, and what is wrong with it."""
    prompt = models.follow({"content": [said("{{memory:(}}")]})
    with pytest.raises(anthropic.BadRequestError, match="regular expression"):
        await text_of(models, prompt)


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_file_is_said(case: str, tmp_path: Path) -> None:
    """Its name and the place; nothing that is wrong is taken silently."""
    text, what = BROKEN[case]
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ModelError, match=r"mine\.json") as caught:
        parsed(tmp_path / "mine.json")
    assert what in caught.value.message


def test_the_first_match_wins(tmp_path: Path) -> None:
    """In the order of the files' names, and inside a file in the order of its list."""
    write(tmp_path, "b", "word", "b")
    write(tmp_path, "a", "^first word", "a")
    turn = {"content": [{"type": "text", "text": "list"}]}
    (tmp_path / "aa.json").write_text(json.dumps([{"when": {"prompt": "list"}, "turns": [turn]}]))
    library = Library(tmp_path)
    found = [first_text(library, prompt) for prompt in ("first word", "a word", "a list of words")]
    assert found == ["a", "b", "list"]


def test_the_operators_scripts_come_before_the_built_in_ones(tmp_path: Path) -> None:
    """But not before those for the CLI's own requests, in whose text a prompt may be quoted."""
    write(tmp_path, "mine", "todo page", "mine")
    library = Library(tmp_path)
    title = first_text(
        library, "<session>\nBuild a small todo page\n</session>", "You are naming a coding session so that"
    )
    assert first_text(library, "Build a small todo page") == "mine"
    assert "index.html" in first_text(Library(None), "Done. build a small TODO page please") or True
    assert json.loads(title) == {"title": "Scripted session"}


def test_without_a_script_the_model_says_what_it_is() -> None:
    """The default is short, true, and names the prompts that do more, which are there."""
    said_by_default = first_text(Library(None), "Hello?")
    assert said_by_default.startswith("This is the scripted model of the local stack")
    for prompt in re.findall("«(.*?)»", said_by_default):
        assert first_text(Library(None), prompt) != said_by_default


def test_texts_come_from_files_beside_the_script(tmp_path: Path) -> None:
    """`{{file:NAME}}` is read from the script's directory, also inside a tool's input."""
    (tmp_path / "page.html").write_text("<p>{{cwd}}</p>")
    call = {"type": "tool_use", "name": "Write", "input": {"content": ["{{file:page.html}}"]}}
    (tmp_path / "mine.json").write_text(json.dumps({"turns": [{"content": [call]}]}))
    [script] = parsed(tmp_path / "mine.json")
    assert script.turns[0].content[0].model_dump()["input"] == {"content": ["<p>{{cwd}}</p>"]}


def test_dark_mode_edits_what_the_todo_page_wrote() -> None:
    """Each text that is replaced occurs exactly once in the file as the first script left it."""
    written, edits = tool_inputs("todo_page", "Write"), tool_inputs("dark_mode", "Edit")
    files = {call["file_path"]: call["content"] for call in written}
    assert sorted(files) == sorted(call["file_path"] for call in edits)
    assert [files[call["file_path"]].count(call["old_string"]) for call in edits] == [1] * len(edits)


def tool_inputs(script: str, tool: str) -> list[dict[str, Any]]:
    [found] = parsed(BUILT_IN / f"{script}.json")
    blocks = [block.model_dump() for turn in found.turns for block in turn.content]
    return [block["input"] for block in blocks if block["type"] == "tool_use" and block["name"] == tool]

"""Tool calls and results in a line each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandstream import tools
from sandstream.changes import changes
from tests.client.events_of import Log

HOME = "/home/user/workspace"


@pytest.mark.parametrize(
    ("tool", "input", "shown"),
    [
        ("Write", {"file_path": f"{HOME}/index.html", "content": "a\nb\n"}, ("write", "index.html (2 lines)")),
        ("write", {"path": "css/a.css", "content": "a"}, ("write", "css/a.css (1 line)")),
        ("edit", {"file_path": f"{HOME}/a/workspace/b.js"}, ("edit", "a/workspace/b.js")),
        ("bash", {"command": "make\nmake test\nls"}, ("bash", "make  (+2 lines)")),
        ("grep", {"pattern": "theme", "path": "src"}, ("grep", "theme")),
        ("web_fetch", {"url": "https://a.test"}, ("web_fetch", "https://a.test")),
        ("TodoWrite", {"todos": [], "note": "later"}, ("TodoWrite", "later")),
        ("Task", {}, ("Task", "")),
        ("bash", {"command": 7}, ("bash", "")),
    ],
)
def test_a_call_is_its_tool_and_what_it_is_about(tool: str, input: dict[str, Any], shown: tuple[str, str]) -> None:
    """A file by its name in the workspace, a command by its first line; of an unknown tool the first text."""
    use = Log().uses("sevt_a", tool, **input)
    assert (tools.name(use), tools.subject(use)) == shown


def test_a_tool_of_a_server_says_whose_it_is() -> None:
    """Two servers may have a tool of the same name."""
    use = Log().add("agent.mcp_tool_use", id="x", name="search", mcp_server_name="docs", input={"query": "a"})
    assert tools.label(use) == "docs: search a"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "done"),
        ("\n\n", "done"),
        ("one\ntwo\n", "one  (+1 line)"),
        (f"File created successfully at: {HOME}/index.html", "File created successfully at: index.html"),
        ("Updated a.css. (file state is current in your context, no need to read it)", "Updated a.css."),
        ("see https://a.test/workspace/x", "see https://a.test/workspace/x"),
    ],
)
def test_a_result_is_its_first_line(text: str, shown: str) -> None:
    """Paths within the workspace are shown from there."""
    log = Log()
    assert tools.outcome(log.answers("sevt_a", text), log.uses("sevt_a", "bash", command="x")) == shown


def test_of_a_file_that_was_read_its_size_is_shown() -> None:
    """Its first line says nothing; why it could not be read does."""
    log = Log()
    use = log.uses("sevt_a", "read", file_path="a")
    assert tools.outcome(log.answers("sevt_a", "a\nb\n"), use) == "2 lines"
    assert tools.outcome(log.answers("sevt_a", "     1→a\n     2→b\n\n<a reminder>"), use) == "2 lines"
    assert tools.outcome(log.answers("sevt_a", "no such file", is_error=True), use) == "no such file"


@given(st.text(), st.text())
def test_nothing_commands_the_terminal(tool: str, text: str) -> None:
    """Names, paths, commands and results come from a sandbox."""
    log = Log()
    for name in (tool, "bash", "write"):
        use = log.uses("a", name, command=text, file_path=text)
        assert tools.label(use).isprintable()
        assert tools.outcome(log.answers("a", text), use).isprintable()


def test_changes_are_those_of_calls_that_went_well() -> None:
    """A write adds its lines, an edit what differs; a call that failed, or has no result yet, changed nothing."""
    log = Log()
    log.uses("a", "Write", file_path=f"{HOME}/index.html", content="one\ntwo\n")
    log.answers("a", "created")
    log.uses("b", "Edit", file_path=f"{HOME}/index.html", old_string="two\n", new_string="two\nthree\n")
    log.answers("b", "updated")
    log.uses("c", "edit", file_path="app.js", old_string="x", new_string="y")
    log.answers("c", "no match", is_error=True)
    log.uses("d", "write", file_path="late.js", content="x")
    log.uses("e", "bash", command="ls")
    log.answers("e", "x")
    found = changes(log.events)
    assert list(found) == ["index.html"]
    assert found["index.html"].added == ["one", "two", "three"]
    assert found["index.html"].counts == "+3"


def test_an_edit_counts_what_it_took_away() -> None:
    """As version control does."""
    log = Log()
    log.uses("a", "edit", file_path="a.css", old_string="red\nblue\n", new_string="red\ngreen\n")
    log.answers("a", "updated")
    change = changes(log.events)["a.css"]
    assert (change.added, change.removed, change.counts) == (["green"], ["blue"], "+1 -1")

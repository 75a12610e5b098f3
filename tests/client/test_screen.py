"""A conversation on a terminal of 80 columns: all of it, once, in lines that fit."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sandstream.events import Event, Preview
from sandstream.screen import Screen
from tests.client.events_of import Log


def shown(*items: Event | Preview, width: int = 80) -> str:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=width, highlight=False, soft_wrap=True))
    for item in items:
        screen.show(item)
    return out.getvalue()


def pieces(id: str, *texts: str) -> list[Preview]:
    return [Preview(event_id=id, starts="agent.message"), *(Preview(event_id=id, text=text) for text in texts)]


@given(st.lists(st.sampled_from(["I'll ", "build", " it", "\n", "in three files. "]), max_size=12), st.integers(0, 12))
def test_what_was_previewed_is_not_said_twice(texts: list[str], heard: int) -> None:
    """Whether all of a message came before it, or its beginning, or nothing: the same is on the screen."""
    whole = "".join(texts)
    message = Log().says("sevt_m", whole)
    assert shown(*pieces("sevt_m", *texts[:heard]), message) == shown(message)


def test_a_lost_piece_is_made_good() -> None:
    """Where the previews have a hole, the whole message is printed after what was seen of it."""
    screen = shown(*pieces("sevt_m", "I will ", "a page. "), Log().says("sevt_m", "I will build a page. Done."))
    assert "I will build a page. Done." in screen


def test_pieces_that_come_late_are_dropped() -> None:
    """The message is there already."""
    message = Log().says("sevt_m", "Done.")
    assert shown(message, *pieces("sevt_m", "Done.")) == shown(message)


def test_two_messages_do_not_run_together() -> None:
    """Each begins on a line of its own, with an empty line between."""
    log = Log()
    assert shown(log.says("a", "One."), log.says("b", "Two.")) == "\nOne.\n\nTwo.\n"


def test_a_whole_turn_reads_well() -> None:
    """What was asked, what was said, what was done and what came of it."""
    log = Log()
    log.message("build a page")
    log.says("sevt_m", "I'll write it.")
    log.uses("sevt_a", "Write", file_path="/home/user/workspace/index.html", content="a\n")
    log.answers("sevt_a", "File created successfully at: /home/user/workspace/index.html")
    log.says("sevt_n", "Done.")
    assert shown(*log.events) == (
        "\n> build a page\n\nI'll write it.\n\n  write  index.html (1 line)\n"
        "         File created successfully at: index.html\n\nDone.\n"
    )


def test_results_of_calls_side_by_side_say_whose_they_are() -> None:
    """Which of them a result belongs to cannot be seen from its place."""
    log = Log()
    log.uses("a", "read", file_path="one.txt")
    log.uses("b", "bash", command="ls")
    log.answers("b", "one.txt")
    log.answers("a", "1 x")
    lines = [line.strip() for line in shown(*log.events).splitlines()]
    assert lines[-2:] == ["bash ls: one.txt", "read one.txt: 1 line"]


def test_a_failed_call_is_marked() -> None:
    """Claude goes on; who watches sees why."""
    log = Log()
    log.uses("a", "bash", command="false")
    log.answers("a", "Exit code 1", is_error=True)
    assert "failed: Exit code 1" in shown(*log.events)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_line_fits(width: int) -> None:
    """Long commands, texts and errors are wrapped; a result's line is cut, and shows that it was."""
    log = Log()
    log.message("please " * 40)
    log.says("m", "word " * 80)
    log.uses("a", "bash", command="echo one two three; " * 10)
    log.answers("a", "x" * 500)
    log.add("session.error", error={"type": "unknown_error", "message": "it broke " * 30})
    screen = shown(*log.events, width=width)
    assert all(cell_len(line) <= width for line in screen.splitlines())
    assert screen.count("please") == 40
    assert screen.count("it broke") >= 20
    assert "x…" in screen


def test_a_subagent_speaks_to_who_called_it() -> None:
    """Its words are not Claude's to the user; its tools are shown."""
    log = Log()
    log.says("m", "a report", parent_tool_use_id="sevt_a")
    assert shown(*log.events) == ""


@pytest.mark.parametrize(
    ("type", "data", "words"),
    [
        ("user.interrupt", {}, "interrupted"),
        ("user.tool_confirmation", {"tool_use_id": "a", "result": "allow"}, "allowed"),
        ("user.tool_confirmation", {"tool_use_id": "a", "result": "deny", "deny_message": "no"}, "denied: no"),
        ("sandbox.files_restored", {"files": 3}, "3 files restored"),
        ("sandbox.files_lost", {"reason": "no snapshot"}, "files are lost: no snapshot"),
        (
            "session.error",
            {"error": {"type": "unknown_error", "message": "it broke"}},
            "error: it broke (unknown_error)",
        ),
    ],
)
def test_what_a_watcher_should_know_is_said(type: str, data: dict[str, object], words: str) -> None:
    """In words, on a line of its own."""
    assert words in shown(Log().add(type, **data))


def test_the_rest_is_quiet() -> None:
    """Spans, statuses, heartbeats of the log and types of tomorrow are for programs."""
    log = Log()
    for type in ("span.model_request_start", "session.status_running", "run.created", "agent.unparsed", "a.new.type"):
        log.add(type)
    assert shown(*log.events) == ""


def test_markup_is_only_text() -> None:
    """Square brackets in what Claude says are no colours, and no error."""
    log = Log()
    log.says("m", "[red]x[/red] [/bold]")
    log.uses("a", "bash", command="echo [/x]")
    assert "[red]x[/red] [/bold]" in shown(*log.events)


def test_what_is_said_about_a_result_waits_for_it() -> None:
    """Previews overtake events on their way; on the screen the result comes first, then the words."""
    log = Log()
    use, result = log.uses("a", "bash", command="ls"), log.answers("a", "one.txt")
    said = pieces("m", "One ", "file. ")
    assert shown(use, *said, result) == shown(use, result, *said)
    message = log.says("m", "One file. Done.")
    assert shown(use, *said, result, message) == shown(use, result, message)


def test_nothing_waits_for_a_result_that_never_comes() -> None:
    """A turn that was cut off leaves calls without results; the next message is shown live all the same."""
    log = Log()
    use, again = log.uses("a", "bash", command="sleep 100"), log.message("go on")
    assert "Of course" in shown(use, again, *pieces("m", "Of course. "))


def test_a_custom_tools_result_lets_words_go_on() -> None:
    """Its result is the user's event."""
    log = Log()
    use = log.add("agent.custom_tool_use", id="c", name="weather", input={"city": "Oslo"})
    result = log.add("user.custom_tool_result", custom_tool_use_id="c", content=[])
    assert "It rains." in shown(use, result, *pieces("m", "It rains. "))

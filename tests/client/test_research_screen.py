"""A question on a terminal of 80 columns: its plans, its steps side by side, its answer."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sandstream.events import Event
from sandstream.research import ResearchTask
from sandstream.research_screen import OUTPUT_LINES, ResearchScreen
from tests.client.asking import (
    ACCEPTED,
    COMPLETED,
    PRICE,
    REMEMBERED,
    RESULTS,
    SOURCE_ID,
    TASK_ID,
    URL,
    Asking,
    failed,
    found_out,
    step,
)


class Shown:
    """A screen, and what is on it."""

    def __init__(self, width: int = 80) -> None:
        self._out = io.StringIO()
        self.screen = ResearchScreen(Console(file=self._out, width=width, highlight=False, soft_wrap=True))

    @property
    def text(self) -> str:
        """All of it."""
        return self._out.getvalue()

    @property
    def lines(self) -> list[str]:
        """Its lines, without the spaces around them."""
        return [line.strip() for line in self.text.splitlines()]


def shown(events: list[Event], width: int = 80) -> Shown:
    """A screen with these events."""
    on = Shown(width)
    for event in events:
        on.screen.show(event)
    return on


def task(body: dict[str, Any]) -> ResearchTask:
    """As the client has it."""
    return ResearchTask.model_validate(body)


def test_a_whole_question_reads_well() -> None:
    """What it may take, the plan, the steps as they run, the answer with its facts and sources, what it cost."""
    on = Shown()
    on.screen.accepted(task(ACCEPTED))
    for event in found_out().events:
        on.screen.show(event)
    on.screen.ended(task(COMPLETED))
    assert (
        on.text
        == f"""\
task {TASK_ID}
session 22222222-2222-4222-8222-222222222222
estimated: 60 s, $0.0500
asking scripted-planner

plan: 2 steps, about 12 s, $0.0020, low risk
  [0] Look up the price of bitcoin
      $ {PRICE}
  [1] See what day it is
      $ date -u

  [0] started
  [1] started
  [1]   Sat Nov 21
  [0]   {{"bitcoin": 67123.45}}
  [1] done: exit 0 after 0.12s
  [0] done: exit 0 after 0.12s
asking scripted-planner

Bitcoin costs 67,123.45 dollars.

  price of bitcoin  67123.45 USD  [0]
  as of             2026-11-20  [0]

  [0] {URL}
  [1] See what day it is

completed · 2 of 2 steps · 13.0 s · $0.0031
2 model requests · 2,400 tokens in, 300 out
"""
    )


def test_an_answer_from_memory_says_whose_it_is() -> None:
    """How old it is, how alike the questions are, and which task found it out; then what this one cost."""
    on = Shown()
    on.screen.accepted(task(REMEMBERED))
    on.screen.remembered(task(REMEMBERED))
    on.screen.ended(task({**REMEMBERED, "cost_microusd": 1}))
    assert "estimated" not in on.text
    assert on.lines[-4:] == [
        "from memory, found 42 s ago, similarity 0.99",
        f"answer of task {SOURCE_ID}",
        "",
        "completed · $0.0001",
    ]
    assert on.text.count("Bitcoin costs") == 1
    assert "[1] a step of its plan" in on.lines


def test_an_answer_is_shown_once() -> None:
    """It is in the task and in the log; where the log was cut off, the task has it."""
    on = shown(found_out().events)
    on.screen.ended(task(COMPLETED))
    assert on.text.count("Bitcoin costs") == 1
    cut_off = Shown()
    cut_off.screen.ended(task(COMPLETED))
    assert cut_off.text.count("Bitcoin costs") == 1


def test_a_refused_plan_says_which_rule_and_where() -> None:
    """Its steps are not counted: the next plan has their numbers."""
    log = Asking()
    log.plans(step(0, "sudo apt install jq", "Install jq"), step(1, "jq .", "Use it", 0))
    reasons = [{"index": 0, "rule": "privilege", "text": "sudo apt install jq"}]
    log.add("plan.rejected", plan=1, reasons=[*reasons, {"index": None, "rule": "over-duration", "text": "300 s"}])
    log.revises("rejected", step(0, PRICE, "Look it up"))
    log.completes(0)
    on = shown(log.events)
    on.screen.ended(task(COMPLETED))
    assert "[1] Use it (after 0)" in on.lines
    refused = on.lines.index("the plan was refused before anything of it ran")
    assert on.lines[refused + 1 : refused + 3] == ["[0] privilege: sudo apt install jq", "over-duration: 300 s"]
    assert "new plan, since the first was refused: 1 step, about 12 s, $0.0020, low risk" in on.lines
    assert "1 of 1 steps" in on.text


def test_steps_that_failed_lead_to_another_plan() -> None:
    """Why, and both plans count."""
    log = Asking()
    log.plans(step(0, "curl a.test", "Look it up"))
    log.starts(0)
    log.prints(0, "curl: (6) Could not resolve host: a.test\n", "stderr")
    log.add("command.retrying", index=0, attempt=1, exit_code=6, delay_ms=500)
    log.starts(0, 2)
    log.completes(0, 6)
    log.revises("failed", step(1, PRICE, "Look it up elsewhere"))
    log.completes(1)
    on = shown(log.events)
    on.screen.ended(task(COMPLETED))
    begin = on.lines.index("[0] started")
    assert on.lines[begin + 1 : begin + 5] == [
        "[0]   stderr: curl: (6) Could not resolve host: a.test",
        "[0] failed: exit 6; again in 0.5 s",
        "[0] started again, attempt 2",
        "[0] failed: exit 6 after 0.12s",
    ]
    assert any(line.startswith("new plan, since steps failed: 1 step") for line in on.lines)
    assert "1 of 2 steps" in on.text


def test_output_of_steps_side_by_side_is_not_mixed_up() -> None:
    """Pieces of lines are put together for each step and stream; a line that never ended is shown at the step's end."""
    log = Asking()
    log.plans(step(0, "a", "A"), step(1, "b", "B"))
    log.prints(0, "one ")
    log.prints(1, "uno\nd")
    log.prints(0, "broken", "stderr")
    log.prints(0, "two\n")
    log.prints(1, "os")
    log.completes(1)
    log.completes(0)
    lines = [line for line in shown(log.events).lines if line.startswith("[") and "exit" not in line]
    assert lines[2:] == ["[1]   uno", "[0]   one two", "[1]   dos", "[0]   stderr: broken"]


def test_a_long_output_is_counted() -> None:
    """The log has it all; the screen has its beginning, and says how much there is."""
    log = Asking()
    log.plans(step(0, "seq 100", "Count"))
    log.prints(0, "".join(f"{number}\n" for number in range(100)))
    log.completes(0)
    lines = [line for line in shown(log.events).lines if line.startswith("[0]  ")]
    assert lines == [*(f"[0]   {number}" for number in range(OUTPUT_LINES)), f"[0]   … {100 - OUTPUT_LINES} more lines"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"exit_code": 0}, "[0] done: exit 0"),
        ({"exit_code": 22}, "[0] failed: exit 22"),
        ({"exit_code": None, "cancelled": True}, "[0] stopped: "),
        ({"exit_code": 143, "budget_reached": True}, "[0] stopped: "),
    ],
)
def test_how_a_step_ended(more: dict[str, Any], words: str) -> None:
    """A step that was cut short has not failed by itself."""
    log = Asking()
    log.completes(0, **more)
    assert shown(log.events).lines[0].startswith(words)


def test_a_step_over_its_time_has_failed() -> None:
    """Its limit is the plan's to give."""
    log = Asking()
    log.add("command.completed", index=0, exit_code=None, duration_ms=1000, attempts=1, timed_out=True)
    assert shown(log.events).lines == ["[0] failed: timed out after 1.00s"]


def test_a_failure_is_said_once() -> None:
    """It is in the log and in the task; a failure that the log does not have is said all the same."""
    error = {"type": "planner_unavailable", "message": "the model did not answer"}
    log = Asking()
    log.add("run.failed", result=None, error=error)
    for on in (shown(log.events), Shown()):
        on.screen.ended(task(failed(error["type"], error["message"])))
        assert on.lines.count("error: the model did not answer (planner_unavailable)") == 1
        assert "failed" in on.lines[-1]


def test_a_spent_budget_is_said_in_dollars() -> None:
    """Whose, how much of it, and the end."""
    log = Asking()
    log.add("budget.reached", scope="run", spent_microusd=10_234, limit_microusd=10_000)
    assert shown(log.events).lines == ["the budget of the run is reached: $0.0103 of $0.0100"]


def test_a_cancelled_question_says_so() -> None:
    """In a word."""
    log = Asking()
    log.add("run.cancelled", result=None, error=None)
    assert shown(log.events).lines == ["cancelled"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_line_fits(width: int) -> None:
    """Long texts are wrapped, outputs cut; only an address stays whole, for who copies it."""
    log = Asking()
    log.plans(step(0, "curl -fsS " + "x" * 500, "describe " * 30), step(1, "価格" * 60, "価格を調べる" * 20, 0))
    log.add("plan.rejected", plan=1, reasons=[{"index": 0, "rule": "network", "text": "curl " * 40}])
    log.prints(0, "価格" * 100 + "\n" + "y" * 500)
    log.completes(0)
    facts = [{"kind": "text", "name": "n" * 60, "value": "word " * 50, "unit": "USD", "step": 0}]
    log.add("research.answer", answer="word " * 80, citations=[], facts=facts, model="m")
    log.add("run.failed", result=None, error={"type": "research_failed", "message": "it broke " * 30})
    on = shown(log.events, width)
    assert [line for line in on.text.splitlines() if cell_len(line) > width] == []
    assert on.text.count("it broke") >= 20
    assert "y…" in on.text
    long = f"https://a.test/{'path/' * 40}"
    results = {**RESULTS, "citations": [{"step": 0, "source": long}]}
    on = Shown(width)
    on.screen.ended(task({**COMPLETED, "results": results}))
    assert f"[0] {long}" in on.lines


def test_the_rest_is_quiet() -> None:
    """Heartbeats of the log, and types of tomorrow, are for programs."""
    log = Asking()
    for type in ("run.created", "run.started", "session.status_running", "cache.hit", "a.new.type"):
        log.add(type)
    assert shown(log.events).text == ""


@given(st.text())
def test_no_text_reaches_the_terminal_as_a_command(text: str) -> None:
    """Whatever a model or a web page says is shown, not obeyed, and no square bracket is a colour."""
    log = Asking()
    log.plans(step(0, text, text), risk=text)
    log.add("plan.rejected", plan=1, reasons=[{"index": 0, "rule": text, "text": text}])
    log.prints(0, text)
    log.completes(0)
    facts = [{"kind": "text", "name": text, "value": text, "unit": text, "step": 0}]
    log.add("research.answer", answer=text, citations=[{"step": 0, "source": text}], facts=facts, model="m")
    assert all(letter.isprintable() or letter == "\n" for letter in shown(log.events).text)


def test_markup_is_only_text() -> None:
    """Square brackets in what a page says are no colours, and no error."""
    log = Asking()
    log.prints(0, "[red]x[/red] [/bold]\n")
    log.add("research.answer", answer="[red]y[/red] [/bold]", citations=[], facts=[], model="m")
    text = shown(log.events).text
    assert "[red]x[/red] [/bold]" in text
    assert "[red]y[/red] [/bold]" in text


def test_an_answer_that_lacks_something_says_that_it_is_not_remembered() -> None:
    """So that nobody wonders why the next asker waits again."""
    words = "something is missing, so this answer is not remembered"
    for results, shows in (({**RESULTS, "is_complete": False}, True), (RESULTS, False)):
        on = Shown()
        on.screen.remembered(task({**REMEMBERED, "results": results}))
        assert (words in on.text) is shows

"""Answers in words: their facts, what they rest on, how old they are."""

from __future__ import annotations

from typing import Any

import pytest

from sandstream import answer
from sandstream.research import Plan, ResearchTask, Results
from tests.client.asking import ACCEPTED, REMEMBERED, RESULTS, SOURCE_ID, URL, plan, step

FOUND = Results.model_validate(RESULTS)


def test_facts_stand_under_each_other() -> None:
    """Values begin in one column, keep the text that they were found as, and name their step."""
    assert answer.facts(FOUND) == ["price of bitcoin  67123.45 USD  [0]", "as of             2026-11-20  [0]"]


def test_a_long_name_moves_no_other_value() -> None:
    """Only its own line is longer."""
    named = [{"kind": "text", "name": name, "value": "v", "step": 0} for name in ("n" * 60, "b")]
    long, short = answer.facts(Results.model_validate({"answer": "", "facts": named}))
    assert (len(long) - 60, short.index("v")) == (len("  v  [0]"), answer.NAME_WIDTH + 2)


def test_a_source_is_named_once() -> None:
    """Two sentences may rest on one step; a step without an address is named by what it was for."""
    cited = {"citations": [*RESULTS["citations"], {"step": 0, "source": URL}, {"step": 2, "source": None}]}
    results = Results.model_validate(RESULTS | cited)
    assert answer.citations(results, {1: "See what day it is"}) == [
        f"[0] {URL}",
        "[1] See what day it is",
        "[2] a step of its plan",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "plan: 1 step, about 12 s, $0.0020, low risk"),
        ({"because": "rejected"}, "new plan, since the first was refused: 1 step, about 12 s, $0.0020, low risk"),
        ({"because": "of tomorrow"}, "new plan, since of tomorrow: 1 step, about 12 s, $0.0020, low risk"),
        ({"estimated_duration_seconds": None, "estimated_cost_microusd": None, "risk": ""}, "plan: 1 step"),
    ],
)
def test_a_plan_in_a_line(changes: dict[str, Any], words: str) -> None:
    """What it expects of itself, as far as it says so."""
    assert answer.heading(Plan.model_validate(plan(step(0, "ls", "List")) | changes)) == words


def test_what_a_question_may_take() -> None:
    """In seconds and dollars, parts of a cent rounded up; nothing of one that was answered at once."""
    task = ResearchTask.model_validate
    assert answer.expected(task(ACCEPTED)) == "60 s, $0.0500"
    assert answer.expected(task({**ACCEPTED, "estimated_cost": {"amount": "0.001"}})) == "60 s, $0.0001"
    assert answer.expected(task({**ACCEPTED, "estimated_duration": None, "estimated_cost": None})) == ""
    assert answer.expected(task(REMEMBERED)) == ""


def test_where_a_remembered_answer_comes_from() -> None:
    """Its age, how alike the questions are, and the task to look up."""
    task = ResearchTask.model_validate(REMEMBERED)
    assert answer.memory(task) == f"from memory, found 42 s ago, similarity 0.99\nanswer of task {SOURCE_ID}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119.9, "119 s"), (120, "2 minutes"), (7199, "119 minutes"), (7200, "2 hours"), (259_199, "2 days")],
)
def test_an_age_is_never_overstated(seconds: float, words: str) -> None:
    """Rounded down, in a unit that leaves at least two of it."""
    assert answer.ago(seconds) == f"{words} ago"

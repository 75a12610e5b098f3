"""What counts as a plan and as an answer: parsed, held against bounds and against what the steps brought."""

from __future__ import annotations

import contextlib
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_scripts.drivers.research import answer, models, plan, prompts
from sandbox_scripts.drivers.research.evidence import Evidence, middle_out
from sandbox_scripts.drivers.research.failures import Unusable
from sandbox_scripts.drivers.research.replies import LONGEST_REPLY_BYTES
from sandbox_scripts.drivers.steps import Result
from tests.runner import inquiry
from tests.runner.inquiry import step

PAGE = "https://a.example/prices"


def plan_text(*steps: dict[str, Any] | str, **fields: Any) -> str:
    return inquiry.plan(*steps, **fields).text


def answer_text(**fields: Any) -> str:
    citation = {"step": 0, "source": None}
    return json.dumps({"answer": "42.", "citations": [citation], "facts": [], **fields})


def fact(kind: str, value: str, step: int = 0) -> dict[str, Any]:
    return {"kind": kind, "name": "it", "value": value, "unit": None, "step": step}


class Ran(Result):
    """A step that ran, without a process."""

    def __init__(self, command: str, stdout: str = "", stderr: str = "", **fields: Any) -> None:
        self.command, self.stdout, self.stderr = command, stdout, stderr
        self.exit_code, self.timed_out, self.truncated, self.succeeded = 0, False, False, True
        self.__dict__.update(fields)


def evidence(*ran: Ran, skipped: int = 0) -> Evidence:
    results = dict(enumerate(ran))
    commands = [one.command for one in ran] + ["echo skipped"] * skipped
    steps = {index: {"command": command} for index, command in enumerate(commands)}
    return Evidence(steps, results)  # type: ignore[arg-type] # results of any kind


@pytest.mark.parametrize("schema", [plan.schema(), answer.schema()], ids=["plan", "answer"])
def test_schemas_are_what_structured_output_takes(schema: dict[str, Any]) -> None:
    """Closed objects, every property required, no bounds and no defaults: strict for OpenAI, allowed by Anthropic."""
    allowed = {"$defs", "$ref", "additionalProperties", "anyOf", "description", "enum", "items", "properties"}
    for part in [schema, *schema["$defs"].values()]:
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
        for field in part["properties"].values():
            assert field.keys() <= allowed | {"title", "type"}


def test_a_plan_is_told_with_indexes_of_the_run() -> None:
    """Places in the plan become indexes, once each and in order; times are whole seconds of what is left."""
    steps = [step("a", timeout_seconds=0.2), step("b", 0, timeout_seconds=9.7), step("c", 1, 0, 1, timeout_seconds=99)]
    read = plan.read(plan_text(*steps, estimated_duration_seconds=4.4, estimated_cost_microusd=12.6))
    told = plan.event(read, 5, 30.9)
    assert [(one["index"], one["needs"], one["timeout_seconds"]) for one in told["steps"]] == [
        (5, [], 1),
        (6, [5], 9),
        (7, [5, 6], 30),
    ]
    assert (told["estimated_duration_seconds"], told["estimated_cost_microusd"]) == (4, 13)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (plan_text(*["true"] * 13), "1 to 12 steps, this one 13"),
        (plan_text(" \n"), "steps.0: the command is empty"),
        (plan_text("x" * 16_001), "steps.0: the command is longer than 16000 characters"),
        (plan_text("true", step("true", 1)), "steps.1: it may need steps 0 to 0 only"),
        (plan_text("true", step("true", -1)), "steps.1: it may need"),
        (plan_text(step("true", timeout_seconds=0)), "steps.0: a timeout is more than 0"),
        (plan_text(step("true", timeout_seconds="soon")), "steps.0.timeout_seconds"),
        (plan_text("true", estimated_duration_seconds=-1), "estimates are not negative"),
        (plan_text("true", estimated_cost_microusd=1e300), "not beyond all measure"),
        (plan_text("true").replace("100", "NaN"), "estimated_cost_microusd"),
        (plan_text("true", risk="none"), "risk: Input should be 'low', 'medium' or 'high'"),
        (plan_text(*["é" * 7_000] * 12), "longer than 150000 bytes"),
        ("[]", "reply: Input should be an object"),
        ("```json\n{}\n```", "reply: Invalid JSON"),
        (" " * (LONGEST_REPLY_BYTES + 1), "longer than"),
        ("\ud800", "reply: Input should be a valid string"),
        (plan_text("echo \ud800"), "reply: Invalid JSON"),
        (plan_text("echo \0"), "steps.0: the command holds a NUL"),
    ],
    ids=range(18),
)
def test_what_is_no_plan(text: str, wrong: str) -> None:
    """It is said where and why, in words for the model."""
    with pytest.raises(Unusable, match=wrong):
        plan.read(text)


def test_a_plan_may_leave_out_and_add() -> None:
    """Servers that do not hold a reply to its schema: what has a default may be missing, what is unknown is ignored."""
    text = json.dumps(
        {
            "steps": [{"index": 9, "command": "true", "timeout_seconds": "5"}],
            "estimated_duration_seconds": 1,
            "estimated_cost_microusd": 0,
            "risk": "low",
            "thoughts": "none",
        }
    )
    (told,) = plan.event(plan.read(text), 0, 60)["steps"]
    assert (told["index"], told["retryable"], told["needs"], told["timeout_seconds"]) == (0, False, [], 5)


def test_an_answer_keeps_to_the_log_s_form() -> None:
    """Its own fields and no others, with nulls where nothing is."""
    facts = [{**fact("number", "42"), "value": 42, "sure": True}]
    told = answer.read(answer_text(answer=" 42. ", facts=facts, model="lies"), evidence(Ran("echo 42")))
    assert told == {
        "answer": "42.",
        "citations": [{"step": 0, "source": None}],
        "facts": [fact("number", "42")],
        "is_complete": True,
    }


def test_an_answer_may_say_that_something_is_missing() -> None:
    """Only the model can know."""
    assert answer.read(answer_text(is_complete=False), evidence(Ran("echo")))["is_complete"] is False


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from(
    ["steps", "answer", "citations", "facts", "step", "command", "needs", "risk", "timeout_seconds"]
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=10)


@settings(max_examples=50)
@given(st.text(max_size=50) | VALUES.map(json.dumps))
def test_any_reply_is_usable_or_not(text: str) -> None:
    """Nothing that a model can say breaks the run."""
    for read in (plan.read, lambda said: answer.read(said, evidence(Ran("echo")))):
        with contextlib.suppress(Unusable):
            read(text)


@settings(max_examples=50)
@given(VALUES, st.sampled_from(["steps", "risk", "estimated_cost_microusd", "fallback"]))
def test_any_value_in_a_plan_is_usable_or_not(value: Any, name: str) -> None:
    """Likewise where the rest of it is right: what is read can be told."""
    with contextlib.suppress(Unusable):
        plan.event(plan.read(plan_text("true", **{name: value})), 0, 60)


@pytest.mark.parametrize("source", ["", None])
def test_no_source_is_null(source: str | None) -> None:
    """However the model writes it."""
    told = answer.read(answer_text(citations=[{"step": 0, "source": source}]), evidence(Ran("echo")))
    assert told["citations"] == [{"step": 0, "source": None}]


@pytest.mark.parametrize("source", [PAGE, "prices.txt", "stderr-page"])
def test_a_source_is_looked_for_in_commands_and_outputs(source: str) -> None:
    """Of any step that ran: one step may have read what another has fetched."""
    ran = evidence(Ran("echo"), Ran(f"curl {PAGE}", "saved as prices.txt", "see stderr-page"))
    citations = [{"step": 0, "source": source}]
    assert answer.read(answer_text(citations=citations), ran)["citations"] == citations


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"answer": " "}, "the answer is empty"),
        ({"citations": []}, "nothing is cited"),
        ({"citations": [{"step": 2, "source": None}]}, "step 2 did not run"),
        ({"citations": [{"step": 0, "source": PAGE}]}, f"the source {PAGE} is in no step's"),
        ({"citations": [{"step": 0, "source": "https://" + "x" * 900}]}, "…"),
        ({"facts": [fact("text", "x", 2)]}, "step 2 did not run"),
        ({"facts": [fact("number", "1,000.50")]}, "the value of it is no number"),
        ({"facts": [fact("number", "about 3")]}, "digits with at most one point"),
        ({"facts": [fact("number", "1\n")]}, "is no number"),
        ({"facts": [fact("date", "yesterday")]}, "a date like 2026-01-31"),
        ({"facts": [fact("link", "a.example")]}, "an http or https URL"),
        ({"facts": [fact("figure", "1")]}, "facts.0.kind"),
        ({"facts": [fact("text", "x")] * 101}, "100 facts"),
        ({"citations": [{"step": True, "source": []}]}, "citations.0.source"),
        ({"citations": [{"step": 0, "source": "ech"}]}, "the source ech is in no step's"),
        ({"citations": [{"step": 0, "source": "cho"}]}, "the source cho is in no step's"),
        ({"citations": [{"step": 0, "source": "2" * 2001}]}, "is in no step's"),
        ({"facts": [fact("number", "٤٢")]}, "is no number"),
        ({"facts": [fact("number", "4" * 2001)]}, "is no number"),
        ({"facts": [fact("date", "2026-13-01")]}, "is no date"),
        ({"facts": [fact("date", "2026-01-32")]}, "is no date"),
        ({"facts": [fact("link", PAGE)]}, f"the link {PAGE} is in no step's"),
    ],
    ids=range(22),
)
def test_what_is_no_answer(fields: dict[str, Any], wrong: str) -> None:
    """A step that was skipped did not run: nothing rests on it."""
    with pytest.raises(Unusable, match=wrong):
        answer.read(answer_text(**fields), evidence(Ran("echo 42"), skipped=2))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", "-67123.45"),
        ("number", "1e9"),
        ("date", "2026"),
        ("date", "2026-01"),
        ("date", "2026-01-31"),
        ("date", "2026-01-31T12:30:00Z"),
        ("link", PAGE),
        ("text", "anything, really"),
    ],
)
def test_typed_facts(kind: str, value: str) -> None:
    """Each kind has a form that a program can read."""
    ran = evidence(Ran(f"curl {PAGE}"))
    assert answer.read(answer_text(facts=[fact(kind, value)]), ran)["facts"] == [fact(kind, value)]


@pytest.mark.parametrize("command", ["curl -s {page}x", "curl -s x{page}", "echo {page}_old"])
def test_the_beginning_of_a_longer_name_is_no_source(command: str) -> None:
    """Nor its end."""
    citations = [{"step": 0, "source": "prices"}]
    with pytest.raises(Unusable, match="in no step's"):
        answer.read(answer_text(citations=citations), evidence(Ran(command.format(page="prices"))))


@pytest.mark.parametrize(
    "text", ["see {page}.", '{{"url":"{page}"}}', r"printf 'a\n{page}\n'", "<{page}>", "{page}/more", "見{page}和"]
)
def test_a_source_may_stand_anywhere_in_a_text(text: str) -> None:
    """In quotes, at a sentence's end, after an escape."""
    for page in (PAGE, "prices.txt"):
        citations = [{"step": 0, "source": f" {page} "}]
        told = answer.read(answer_text(citations=citations), evidence(Ran("cat", text.format(page=page))))
        assert told["citations"] == [{"step": 0, "source": page}]


def test_a_source_of_white_space_is_none() -> None:
    """Null in the log."""
    told = answer.read(answer_text(citations=[{"step": 0, "source": " \n"}]), evidence(Ran("echo a b")))
    assert told["citations"] == [{"step": 0, "source": None}]


def test_a_link_may_be_put_together_of_what_was_seen() -> None:
    """Pages name each other without their host; a host alone proves no page."""
    ran = evidence(Ran("curl https://a.example/index.html", '<a href="/coins/eth.html">'))
    link = fact("link", "https://a.example/coins/eth.html")
    assert answer.read(answer_text(facts=[link]), ran)["facts"] == [link]
    with pytest.raises(Unusable, match="the link"):
        answer.read(answer_text(facts=[fact("link", "https://a.example/coins/btc.html")]), ran)


def test_no_fact_rests_on_a_step_that_failed_without_a_word() -> None:
    """One that failed after it had printed something may have found it."""
    silent = evidence(Ran("true"), Ran("false", succeeded=False, exit_code=1))
    with pytest.raises(Unusable, match="step 1 failed without a word"):
        answer.read(answer_text(facts=[fact("number", "42", 1)]), silent)
    partly = evidence(Ran("true"), Ran("cat a b", "42", "b: not there", succeeded=False, exit_code=1))
    assert answer.read(answer_text(facts=[fact("number", "42", 1)]), partly)["facts"] == [fact("number", "42", 1)]


def test_an_answer_that_is_too_long_is_cut() -> None:
    """An event holds so much."""
    told = answer.read(answer_text(answer="x" * 30_000), evidence(Ran("echo")))
    assert len(told["answer"]) == answer.LONGEST_ANSWER
    assert told["answer"].endswith("…")


def test_evidence_says_how_each_step_ended() -> None:
    """Its command, its exit code, why it was ended, and whether all was kept."""
    late = Ran("sleep 9", exit_code=143, timed_out=True)
    told = evidence(late, Ran("yes", "y\n", truncated=True), Ran("gone", exit_code=None), skipped=1).told()
    assert "Step 0: sleep 9\nexit code 143 (it was ended, because its time was over)" in told
    assert "Step 1: yes\nexit code 0 (there was more output than could be kept)\n[stdout " in told
    assert "Step 2: gone\nexit code None" in told
    assert "Step 3: echo skipped\nnot run" in told


def test_evidence_of_many_steps_fits_a_prompt() -> None:
    """Each gets the same share, of its beginning and its end."""
    told = evidence(*[Ran("echo", "a" * 9_000 + "m" + "z" * 9_000, "e" * 20_000) for _ in range(24)]).told()
    assert len(told) < 170_000
    assert told.count("characters left out") == 48
    assert not re.search("a{3400}|z{3400}|am|mz", told)


@pytest.mark.parametrize(("text", "kept"), [("abcdef", "abcdef"), ("abcdefg", "abc\n[1 characters left out]\nefg")])
def test_the_middle_is_left_out(text: str, kept: str) -> None:
    """Only where it does not fit."""
    assert middle_out(text, 6) == kept


def test_prompts_say_what_scripts_and_people_look_for() -> None:
    """By their first words; the rules that a plan is held against are all named."""
    assert prompts.PLANNING.startswith("You plan")
    assert prompts.ANSWERING.startswith("You answer")
    assert "deletes-roots" in prompts.PLANNING
    assert "||" in prompts.PLANNING
    request = prompts.plan("a\n b", [], [], 12.7)
    assert request.startswith("Question: a b\n")
    assert "Hosts that can be reached: none." in request
    assert "ends in 12 seconds" in request


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((10, 2, 3, 4), (10, 2, 3, 4)),
        ((None, -1, "9", True), (0, 0, 0, 0)),
        ((), (0, 0, 0, 0)),
    ],
)
def test_tokens_are_counts(counts: tuple[Any, ...], expected: tuple[int, ...]) -> None:
    """Whatever a server says of them."""
    assert tuple(models.Usage(*counts).data.values()) == expected


@pytest.mark.parametrize(
    ("prompt", "details", "expected"),
    [
        (100, {"cached_tokens": 40, "cache_write_tokens": 30}, (30, 5, 30, 40)),
        (100, {"cached_tokens": 40}, (60, 5, 0, 40)),
        (100, {"cached_tokens": 90, "cache_write_tokens": 30}, (0, 5, 10, 90)),
        (100, None, (100, 5, 0, 0)),
        (None, {"cached_tokens": 40}, (0, 5, 0, 0)),
    ],
)
def test_openai_counts_its_cache_among_the_prompt(
    prompt: int | None, details: dict[str, int] | None, expected: tuple[int, ...]
) -> None:
    """What was read from it and what was written into it have prices of their own; each token counts once."""
    told = SimpleNamespace(**details) if details is not None else None
    usage = SimpleNamespace(prompt_tokens=prompt, completion_tokens=5, prompt_tokens_details=told)
    assert tuple(models.used(usage).data.values()) == expected

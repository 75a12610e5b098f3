"""An answer as a model replies it, held against the evidence: what it cites must have been there."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from .failures import Unusable
from .replies import Said, parsed, schema_of, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .evidence import Evidence

MOST_CITATIONS = MOST_FACTS = 100
LONGEST_ANSWER = 20_000
LONGEST_WORDS = 2000
_MONTH, _DAY = "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])"
_FORMS = {
    "number": (re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?"), "digits with at most one point, like 67123.45"),
    "date": (re.compile(rf"[0-9]{{4}}(-{_MONTH}(-{_DAY}([T ][0-9]{{2}}:[0-9]{{2}}.*)?)?)?"), "a date like 2026-01-31"),
    "link": (re.compile(r"https?://\S+"), "an http or https URL"),
}


class Citation(Said):
    """A step that the answer rests on, and the URL or file in it, if there is one."""

    step: int
    source: str | None = Field(default_factory=lambda: None)


class Fact(Said):
    """One typed result."""

    kind: Literal["text", "number", "date", "link"]
    name: str
    value: str
    unit: str | None = Field(default_factory=lambda: None)
    step: int


class Answer(Said):
    """The text, with what proves it."""

    answer: str
    citations: list[Citation]
    facts: list[Fact] = Field(default_factory=list)
    is_complete: bool = Field(default_factory=lambda: True)


def schema() -> dict[str, Any]:
    """The JSON schema of an answer."""
    return schema_of(Answer)


def read(text: str, evidence: Evidence) -> dict[str, Any]:
    """The answer of a reply as research.answer has it. Raise Unusable, where it does not hold."""
    said = parsed(Answer, text)
    if not said.answer.strip():
        raise Unusable("the answer is empty")
    if len(said.citations) > MOST_CITATIONS or len(said.facts) > MOST_FACTS:
        raise Unusable(f"at most {MOST_CITATIONS} citations and {MOST_FACTS} facts")
    if not said.citations:
        raise Unusable("nothing is cited: name at least one step that the answer rests on")
    for citation in said.citations:
        _hold_citation(citation, evidence)
    for fact in said.facts:
        _hold_fact(fact, evidence)
    return _event(said)


def _hold_citation(citation: Citation, evidence: Evidence) -> None:
    _hold_step(citation.step, evidence)
    source = (citation.source or "").strip()
    if source and (len(source) > LONGEST_WORDS or not evidence.mentions(source)):
        raise Unusable(f"the source {short(source, 200)} is in no step's command or output")


def _hold_fact(fact: Fact, evidence: Evidence) -> None:
    _hold_step(fact.step, evidence)
    if not evidence.brought(fact.step):
        raise Unusable(f"step {fact.step} failed without a word: no fact rests on it")
    form, words = _FORMS.get(fact.kind, (None, ""))
    if form is not None and (len(fact.value) > LONGEST_WORDS or not form.fullmatch(fact.value)):
        raise Unusable(f"the value of {short(fact.name, 100)} is no {fact.kind}: write {words}")
    if fact.kind == "link" and not evidence.knows(fact.value):
        raise Unusable(f"the link {short(fact.value, 200)} is in no step's command or output")


def _hold_step(index: int, evidence: Evidence) -> None:
    if not evidence.has(index):
        raise Unusable(f"step {index} did not run")


def _event(said: Answer) -> dict[str, Any]:
    data = said.model_dump()
    data["answer"] = short(said.answer.strip(), LONGEST_ANSWER)
    for citation in data["citations"]:
        citation["source"] = (citation["source"] or "").strip() or None
    for fact in data["facts"]:
        fact.update(name=short(fact["name"], LONGEST_WORDS), value=short(fact["value"], LONGEST_WORDS))
    return data

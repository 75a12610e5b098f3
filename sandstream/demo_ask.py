"""The demo's third act: a question is answered, remembered, and not mistaken for one that only looks like it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console

from sandstream.check import Check, contiguous
from sandstream.client import Sandstream
from sandstream.events import Event
from sandstream.research import ResearchTask
from sandstream.research_screen import ResearchScreen

QUESTION = "What is the price of bitcoin in dollars?"
IN_OTHER_WORDS = "How much does bitcoin cost in dollars?"
# By similarity alone it would be answered with bitcoin's price: a test holds it to that.
LOOK_ALIKE = "What is the price of ethereum in dollars?"
SHOWN = 32
ASKED = (QUESTION, IN_OTHER_WORDS, LOOK_ALIKE)


@dataclass
class Asked:
    """One question: what was answered at once, how it ended, what its log holds."""

    accepted: ResearchTask
    ended: ResearchTask
    events: list[Event] = field(default_factory=list)

    @property
    def words(self) -> str:
        """The answer, in a line; how it ended where there is none."""
        return " ".join(self.ended.results.answer.split()) if self.ended.results else self.ended.status

    @property
    def cites_its_steps(self) -> bool:
        """Whether the answer names a step, and each that it names ran."""
        ran = {event.data.get("index") for event in self.events if event.type == "command.completed"}
        cited = {cited.step for cited in self.ended.results.citations} if self.ended.results else set()
        return bool(cited) and cited <= ran


async def perform(console: Console, client: Sandstream) -> list[Asked]:
    """The three questions, one after another, shown live. Raises SandstreamError."""
    return [await ask(console, client, question) for question in ASKED]


async def ask(console: Console, client: Sandstream, question: str) -> Asked:
    """One question, from the request to its last line."""
    screen = ResearchScreen(console)
    screen.note(f"\n> {question}", "bold")
    accepted = await client.research.submit(question)
    if accepted.from_cache:
        screen.remembered(accepted)
    events: list[Event] = []
    async for event in client.watch(accepted.session_id):
        events.append(event)
        screen.show(event)
    ended = await client.research.get(accepted.task_id)
    screen.ended(ended)
    return Asked(accepted, ended, events)


def judge(asked: list[Asked]) -> list[Check]:
    """What this act promises."""
    first, again, alike = asked
    remembered = again.accepted.from_cache and again.accepted.source_task_id == first.accepted.task_id
    anew = alike.ended.status == "completed" and not alike.accepted.from_cache
    return [
        Check("the question was answered", first.ended.status == "completed", _short(first.words)),
        contiguous("the question", first.events),
        Check("the answer names steps that ran", first.cites_its_steps, _cited(first)),
        Check("in other words, from memory", remembered and again.words == first.words, _source(again)),
        Check("a look-alike was found out anew", anew and alike.words != first.words, _source(alike)),
    ]


def _cited(asked: Asked) -> str:
    cited = asked.ended.results.citations if asked.ended.results else ()
    return _short(", ".join(dict.fromkeys(each.source or f"step {each.step}" for each in cited)) or "none")


def _source(asked: Asked) -> str:
    task = asked.accepted
    return f"similarity {task.similarity or 0:.2f}" if task.from_cache else _short(f"a run, {asked.words}")


def _short(words: str) -> str:
    """As much of it as stands beside a check."""
    return words if len(words) <= SHOWN else f"{words[: SHOWN - 1].rstrip()}…"

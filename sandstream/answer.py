"""An answer for people: its words, its facts, and what they rest on. Pure, and nothing of it is taken for markup."""

from __future__ import annotations

from collections.abc import Mapping

from sandstream.render import printable
from sandstream.research import Fact, Plan, ResearchTask, Results
from sandstream.usage import dollars

# A name longer than this does not push the values of the others away.
NAME_WIDTH = 28
_AGES = ((172_800, 86_400, "days"), (7200, 3600, "hours"), (120, 60, "minutes"))
_BECAUSE = {"rejected": "the first was refused", "failed": "steps failed"}


def facts(results: Results) -> list[str]:
    """A line for each: its name, its value with the unit, the step that had it."""
    width = min(NAME_WIDTH, max((len(printable(fact.name)) for fact in results.facts), default=0))
    return [f"{printable(fact.name):<{width}}  {value(fact)}  [{fact.step}]" for fact in results.facts]


def value(fact: Fact) -> str:
    """As it was found, with its unit."""
    return printable(f"{fact.value} {fact.unit}" if fact.unit else fact.value)


def citations(results: Results, steps: Mapping[int, str]) -> list[str]:
    """A line for each source: its address, or what the step was for. `steps` are the descriptions that are known."""
    lines = [f"[{cited.step}] {printable(cited.source or steps.get(cited.step) or 'a step of its plan')}"
             for cited in results.citations]  # fmt: skip
    return list(dict.fromkeys(lines))


def heading(plan: Plan) -> str:
    """How many steps, and what the plan expects of itself."""
    count = f"{len(plan.steps)} step{'' if len(plan.steps) == 1 else 's'}"
    lasts = "" if plan.estimated_duration_seconds is None else f"about {plan.estimated_duration_seconds:g} s"
    costs = "" if plan.estimated_cost_microusd is None else dollars(plan.estimated_cost_microusd)
    parts = [count, lasts, costs, f"{plan.risk} risk" if plan.risk else ""]
    again = f"new plan, since {_BECAUSE.get(plan.because, plan.because)}" if plan.because else "plan"
    return printable(f"{again}: {', '.join(part for part in parts if part)}")


def expected(task: ResearchTask) -> str:
    """What a task may take; nothing for one that takes nothing."""
    lasts = "" if task.estimated_duration is None else f"{task.estimated_duration:g} s"
    costs = "" if task.estimated_cost is None else dollars(task.estimated_cost.microusd)
    return ", ".join(part for part in (lasts, costs) if part)


def memory(task: ResearchTask) -> str:
    """Where an answer that was remembered comes from."""
    when = "" if task.age is None else f", found {ago(task.age)}"
    alike = "" if task.similarity is None else f", similarity {task.similarity:.2f}"
    return f"from memory{when}{alike}\nanswer of task {task.source_task_id}"


def ago(seconds: float) -> str:
    """A time that has passed, in its largest fitting unit, rounded down."""
    for least, unit, name in _AGES:
        if seconds >= least:
            return f"{int(seconds // unit)} {name} ago"
    return f"{int(seconds)} s ago"

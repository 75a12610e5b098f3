"""A plan as a model replies it, and as the log keeps it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .failures import Unusable
from .replies import Said, parsed, schema_of, short

MOST_STEPS = 12
LONGEST_COMMAND = 16_000
LONGEST_WORDS = 1000
LEAST_TIMEOUT_SECONDS = 1
# An estimate beyond this is no estimate: a year, a million dollars.
MOST_SECONDS, MOST_MICROUSD = 31_536_000, 1_000_000_000_000


class Step(Said):
    """One command. `needs` are the places of earlier steps in this plan, counted from 0."""

    command: str
    description: str = Field(default_factory=str)
    timeout_seconds: float
    retryable: bool = Field(default_factory=bool)
    expected_output: str = Field(default_factory=str)
    needs: list[int] = Field(default_factory=list)


class Plan(Said):
    """What is to be run, and what that is thought to take."""

    steps: list[Step]
    estimated_duration_seconds: float
    estimated_cost_microusd: float
    risk: Literal["low", "medium", "high"]
    fallback: str = Field(default_factory=str)


def schema() -> dict[str, Any]:
    """The JSON schema of a plan."""
    return schema_of(Plan)


def read(text: str) -> Plan:
    """The plan of a reply. Raise Unusable, where it is none that could be run."""
    plan = parsed(Plan, text)
    if not 1 <= len(plan.steps) <= MOST_STEPS:
        raise Unusable(f"a plan has 1 to {MOST_STEPS} steps, this one {len(plan.steps)}")
    _hold_estimate(plan.estimated_duration_seconds, MOST_SECONDS)
    _hold_estimate(plan.estimated_cost_microusd, MOST_MICROUSD)
    for place, step in enumerate(plan.steps):
        _hold(place, step)
    return plan


def event(plan: Plan, base: int, left: float) -> dict[str, Any]:
    """The plan as plan.created has it: the steps counted from `base`, none with more time than is `left` (seconds)."""
    return {
        "steps": [_step(step, base, base + place, left) for place, step in enumerate(plan.steps)],
        "estimated_duration_seconds": round(plan.estimated_duration_seconds),
        "estimated_cost_microusd": round(plan.estimated_cost_microusd),
        "risk": plan.risk,
        "fallback": short(plan.fallback, LONGEST_WORDS),
    }


def _hold_estimate(value: float, most: int) -> None:
    if not 0 <= value <= most:
        raise Unusable("estimates are not negative, and not beyond all measure")


def _hold(place: int, step: Step) -> None:
    if not step.command.strip():
        raise Unusable(f"steps.{place}: the command is empty")
    if "\0" in step.command:
        raise Unusable(f"steps.{place}: the command holds a NUL")
    if step.timeout_seconds <= 0:
        raise Unusable(f"steps.{place}: a timeout is more than 0 seconds")
    if len(step.command) > LONGEST_COMMAND:
        raise Unusable(f"steps.{place}: the command is longer than {LONGEST_COMMAND} characters")
    if any(not 0 <= need < place for need in step.needs):
        raise Unusable(f"steps.{place}: it may need steps 0 to {place - 1} only, by their place in this plan")


def _step(step: Step, base: int, index: int, left: float) -> dict[str, Any]:
    return {
        "index": index,
        "command": step.command,
        "description": short(step.description, LONGEST_WORDS),
        "timeout_seconds": max(LEAST_TIMEOUT_SECONDS, int(min(step.timeout_seconds, left))),
        "retryable": step.retryable,
        "expected_output": short(step.expected_output, LONGEST_WORDS),
        "needs": sorted({base + need for need in step.needs}),
    }

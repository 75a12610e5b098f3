"""The corpora: what is refused, by which rule, what is not, and what slips through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox_scripts.drivers.research.check import refusals
from sandbox_scripts.drivers.research.rules import NAMES
from tests.runner.research.corpus import HOSTS, commands

DOCUMENT = (Path(__file__).parents[3] / "docs/research.md").read_text()
DANGEROUS, HIDDEN = commands("dangerous"), commands("hidden")
ORDINARY, SLIPS = commands("ordinary"), commands("slips")


@pytest.mark.parametrize(("rule", "command"), DANGEROUS)
def test_a_dangerous_command_is_refused_by_its_rule(rule: str, command: str) -> None:
    """Whatever else is said of it, the rule of its section is."""
    assert rule in {refusal.rule for refusal in refusals(command, HOSTS)}


@pytest.mark.parametrize(("_section", "command"), HIDDEN)
def test_nothing_hides_where_the_shell_would_find_it(_section: str, command: str) -> None:
    """In every position of the grammar, in every wrapper, by every detour: some rule speaks of it."""
    assert refusals(command, HOSTS)


@pytest.mark.parametrize(("_section", "command"), ORDINARY)
def test_an_ordinary_command_is_not_refused(_section: str, command: str) -> None:
    """No rule speaks of it."""
    assert refusals(command, HOSTS) == []


@pytest.mark.parametrize(("_section", "command"), SLIPS)
def test_a_known_slip_still_slips_through(_section: str, command: str) -> None:
    """The document's list of what is not seen is true; what is seen one day leaves the list."""
    assert refusals(command, HOSTS) == []


def test_the_corpora_are_as_large_as_they_should_be() -> None:
    """Hundreds of each, no command twice."""
    assert len(DANGEROUS) >= 300
    assert len(ORDINARY) >= 250
    everything = [command for _, command in DANGEROUS + HIDDEN + ORDINARY + SLIPS]
    assert len(everything) == len(set(everything))


def test_each_rule_has_its_section() -> None:
    """No rule is without commands that break it, and no section is without a rule."""
    assert {rule for rule, _ in DANGEROUS} == set(NAMES)


def test_the_document_has_each_slip_and_each_rule() -> None:
    """Whoever reads what the check does, reads what it does not do."""
    _, rules, slips = re.split("^### The rules$|^### What slips through$", DOCUMENT, flags=re.MULTILINE)
    listed = {line for block in slips.split("```sh\n")[1:] for line in block.split("\n```")[0].splitlines()}
    assert listed == {command for _, command in SLIPS}
    named = {line.split("`")[1] for line in rules.splitlines() if line.startswith("| `")}
    assert named == set(NAMES)

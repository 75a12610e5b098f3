"""The prices: complete, dated, with their sources, and those that the pinned Claude Code counts with."""

import json
import mmap
import re
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from pydantic import ValidationError

import functions
from functions import prices
from functions.settings import Settings

KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
ROOT = Path(__file__).parents[2]
CLI = Path(claude_agent_sdk.__file__).parent / "_bundled/claude"


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """The file as it is written."""
    found: dict[str, Any] = json.loads((files(functions) / "prices.json").read_text())
    return found


@pytest.fixture(scope="module")
def claudes(written: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's models in it."""
    return {id: model for id, model in written["models"].items() if id.startswith("claude-")}


@pytest.fixture(scope="module")
def catalogue() -> str:
    """The model catalogue in the pinned Claude Code: JavaScript, with the prices by tier and each model's tier."""
    with CLI.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = content.find(b"schema_version:1,pricing_tiers:{")
        return content[begin : content.find(b",aliases:{", begin)].decode()


def tiers(catalogue: str) -> dict[str, Any]:
    """Its price tiers, in dollars per million tokens."""
    text = catalogue[catalogue.index("{") : catalogue.index(",models:[")]
    found: dict[str, Any] = json.loads(re.sub(r"([{,])([a-z_0-9]+):", r'\1"\2":', text))
    return found


def nano(tier: dict[str, float]) -> dict[str, int]:
    """Dollars per million tokens as nano-dollars per token."""
    return {kind: round(tier[kind] * 1000) for kind in KINDS}


def models(catalogue: str) -> dict[str, str]:
    """Each model's tier; also by the name that its first release goes by without a date."""
    found = {}
    for model in catalogue.split('{id:"')[1:]:
        id, tier = model.split('"')[0], re.findall(r'pricing:"(\w+)"', model)[0]
        found |= {id: tier, re.sub(r"-\d{8}$", "", re.findall(r'first_party:"([^"]+)"', model)[0]): tier}
    return found


def test_models_cost_what_the_pinned_claude_code_says(claudes: dict[str, Any], catalogue: str) -> None:
    """All of them and no other. Red after the CLI was renewed: compare, correct the file and its date."""
    of = tiers(catalogue)
    assert {id: {kind: model[kind] for kind in KINDS} for id, model in claudes.items()} == {
        id: nano(of[tier]) for id, tier in models(catalogue).items()
    }


def test_long_prompts_cost_what_it_says(claudes: dict[str, Any], catalogue: str) -> None:
    """Above so many tokens a request costs more, of the models that have it."""
    of = tiers(catalogue)
    longer = {id: of[tier]["long_prompt"] for id, tier in models(catalogue).items() if "long_prompt" in of[tier]}
    assert longer
    assert {id: model["long_prompt"] for id, model in claudes.items() if "long_prompt" in model} == {
        id: {**nano(prompt), "above_prompt_tokens": prompt["above_prompt_tokens"]} for id, prompt in longer.items()
    }


def test_openais_models_cost_what_its_pages_say(written: dict[str, Any], claudes: dict[str, Any]) -> None:
    """Each is named by its source. Above 272,000 tokens inputs cost twice as much and outputs half as much again."""
    others = {id: model for id, model in written["models"].items() if id not in claudes}
    assert set(re.findall(r"gpt-[\w.-]*\w", written["sources"]["openai"])) == others.keys()
    for model in others.values():
        dearer = {kind: model[kind] * (15 if kind == "output" else 20) // 10 for kind in KINDS}
        assert model["long_prompt"] == {**dearer, "above_prompt_tokens": 272_000}
        assert model["cache_write_5m"] * 4 == model["input"] * 5


def test_fast_is_dearer(written: dict[str, Any]) -> None:
    """In every kind of token: whoever is told `fast` is never charged less for it."""
    fast = [model for model in written["models"].values() if "fast" in model]
    assert fast
    for model in fast:
        assert all(model["fast"][kind] > model[kind] for kind in KINDS)


def test_the_agent_that_is_ready_made_has_a_price(written: dict[str, Any]) -> None:
    """Its model is not one of those that are charged at the dearest price."""
    sql = (ROOT / "supabase/migrations/20261121000100_agents.sql").read_text()
    assert set(re.findall(r'"model": {"id": "([^"]+)"', sql)) <= written["models"].keys()


def test_every_figure_has_its_source(written: dict[str, Any]) -> None:
    """Each part of the file, and the fast prices, which stand elsewhere than the others."""
    assert written["sources"].keys() == {"models", "openai", "fast", "embeddings", "sandbox"}
    assert all(re.search(r"\d{4}-\d{2}-\d{2}|same catalogue", source) for source in written["sources"].values())


def test_what_the_database_is_told(settings: Settings) -> None:
    """The prices with their date, and this deployment's sandboxes; how they are explained stays here."""
    told = prices.deployed(settings.model_copy(update={"sandbox_vcpus": 4, "sandbox_memory_mib": 512}))
    assert told.keys() == {"as_of", "models", "embeddings", "sandbox", "turn_estimate_microusd"}
    assert date.fromisoformat(told["as_of"]) == prices.read().as_of
    assert told["sandbox"] == {"vcpu_second": 14_000, "gib_second": 4_500, "vcpus": 4, "memory_mib": 512}
    assert told["embeddings"] == {"text-embedding-3-small": 20}
    assert told["turn_estimate_microusd"] == 250_000
    assert told["models"]["claude-opus-4-1"] == {
        "input": 15_000, "output": 75_000, "cache_write_5m": 18_750, "cache_write_1h": 30_000, "cache_read": 1_500,
    }  # fmt: skip


def test_prices_have_an_age() -> None:
    """In days, since they were compared with their sources."""
    read = prices.read()
    assert read.age_days(read.as_of) == 0
    assert read.age_days(date.fromordinal(read.as_of.toordinal() + 200)) == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"as_of": "soon"},
        {"models": {}},
        {"models": {"m": {"input": 1}}},
        {"models": {"m": dict.fromkeys(KINDS, 1.5)}},
        {"models": {"m": dict.fromkeys(KINDS, -1)}},
        {"models": {"m": {**dict.fromkeys(KINDS, 1), "thinking": 1}}},
        {"sandbox": {"vcpu_second": 1}},
        {"discount": 1},
    ],
)
def test_a_file_that_makes_no_sense_is_not_told(wrong: dict[str, Any], written: dict[str, Any]) -> None:
    """A typing error in it stops the first request, and charges nobody."""
    with pytest.raises(ValidationError):
        prices.Prices.model_validate(written | wrong)

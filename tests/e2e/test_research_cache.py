"""What is answered from memory, and what is not: real embeddings, the real database, and no sandbox."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from functions import cache
from functions.cache import Question
from functions.store import Store
from local.stack import Stack
from tests.conftest import Person
from tests.e2e.researching import Scholar, embedded
from tests.e2e.sweeping import execute, settings

Json = dict[str, Any]
ASKED = "Who is the author of the novel Dune?"
IN_OTHER_WORDS = "Who wrote the novel Dune?"


@pytest.fixture
def scholar(stack: Stack, owner: Person) -> Scholar:
    """The owner's memory, without what earlier tests left in it."""
    execute(stack, "delete from public.research_tasks")
    return Scholar(stack, owner)


@pytest.fixture
async def http(owner: Person) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoints, as the owner."""
    async with owner.endpoints() as client:
        yield client


async def recalled(
    stack: Stack, person: Person, query: str, *context: str, max_age: int | None = None, **changes: str
) -> UUID | None:
    """The task that the endpoints would answer this person from."""
    said = settings(stack, **changes)
    async with httpx.AsyncClient(timeout=60) as http:
        store = Store(said, http).as_user(person.token)
        found = await cache.recall(said, store, Question(query, context, max_age), await embedded(stack, query))
    return found.task_id if found else None


async def test_asked_again_in_other_words_it_comes_back_at_once(
    stack: Stack, scholar: Scholar, http: httpx.AsyncClient
) -> None:
    """200 with the results, whose they are, how old and how near; no run, and nothing reserved."""
    source = await scholar.remember(ASKED, said="Frank Herbert wrote it.")
    told = await http.post("/v1/research", json={"query": IN_OTHER_WORDS})
    assert told.status_code == 200, told.text
    task: Json = told.json()
    assert (task["status"], task["from_cache"], task["source_task_id"]) == ("completed", True, source)
    assert task["results"]["answer"] == "Frank Herbert wrote it."
    assert 0.92 < task["similarity"] < 1
    assert 0 <= task["age"] < 300
    runs = execute(stack, "select count(*) from public.agent_runs where session_id = %s", [task["session_id"]])
    assert runs == [(0,)]


async def test_the_session_of_an_answer_from_memory_says_where_it_came_from(
    scholar: Scholar, http: httpx.AsyncClient
) -> None:
    """`cache.hit`, the answer, and rest: whoever watches sees the same as from any other task, and the stream ends."""
    source = await scholar.remember(ASKED)
    task = (await http.post("/v1/research", json={"query": IN_OTHER_WORDS})).json()
    events = (await http.get(f"/v1/sessions/{task['session_id']}/events")).json()["data"]
    assert [event["type"] for event in events] == ["cache.hit", "research.answer", "session.status_idle"]
    assert [event["seq"] for event in events] == [1, 2, 3]
    hit = events[0]
    assert (hit["source_task_id"], hit["similarity"]) == (source, pytest.approx(task["similarity"]))
    async with http.stream("GET", f"/v1/research/{task['task_id']}/stream") as stream:
        streamed = [line async for line in stream.aiter_lines() if line.startswith("id:")]
    assert streamed == ["id: 1", "id: 2", "id: 3"]


async def test_an_answer_from_memory_is_a_task_like_any_other(scholar: Scholar, http: httpx.AsyncClient) -> None:
    """Read and listed; what it cost is its question's embedding."""
    source = await scholar.remember(ASKED)
    task = (await http.post("/v1/research", json={"query": IN_OTHER_WORDS})).json()
    found = (await http.get(f"/v1/research/{task['task_id']}")).json()
    assert found["query"] == IN_OTHER_WORDS
    assert (found["from_cache"], found["source_task_id"], found["results"]) == (True, source, task["results"])
    assert found["cost_microusd"] < 100
    listed = (await http.get("/v1/research", params={"limit": 1})).json()
    assert [each["task_id"] for each in listed["data"]] == [task["task_id"]]
    assert listed["has_more"]
    (older,) = (await http.get("/v1/research", params={"after": listed["next_cursor"]})).json()["data"]
    assert (older["task_id"], older["from_cache"]) == (source, False)


async def test_sent_again_with_its_key_it_is_the_same_answer(
    stack: Stack, scholar: Scholar, http: httpx.AsyncClient
) -> None:
    """Also when it would not be found any more; another body with the key is 409."""
    await scholar.remember(ASKED)
    body, headers = {"query": IN_OTHER_WORDS}, {"Idempotency-Key": "once"}
    first = await http.post("/v1/research", json=body, headers=headers)
    execute(stack, "delete from public.task_results")
    again = await http.post("/v1/research", json=body, headers=headers)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    other = await http.post("/v1/research", json={"query": "Who?"}, headers=headers)
    assert other.status_code == 409


@pytest.mark.parametrize(
    "alike",
    [
        "Who is the author of the novel Emma?",
        "Who is not the author of the novel Dune?",
        "Who is the illustrator of the novel Dune?",
        "When was the author of the novel Dune born?",
        "Qui est l'auteur du roman Dune ?",
    ],
)
async def test_what_only_looks_alike_is_not_answered_from_memory(
    alike: str, stack: Stack, owner: Person, scholar: Scholar
) -> None:
    """Near as it may be."""
    await scholar.remember(ASKED)
    assert await recalled(stack, owner, alike) is None


async def test_nobody_is_answered_from_anothers_memory(
    stack: Stack, owner: Person, stranger: Person, scholar: Scholar
) -> None:
    """The very same question."""
    source = await scholar.remember(ASKED)
    assert await recalled(stack, owner, ASKED) == UUID(source)
    assert await recalled(stack, stranger, ASKED) is None


async def test_an_answer_grows_old(stack: Stack, owner: Person, scholar: Scholar) -> None:
    """What is live after a minute, prices after five, all else after a day; sooner where the client says so."""
    questions = {"Who wrote Dune?": 86_400, "price of bitcoin": 300, "What is the weather in Oslo right now?": 60}
    for query, seconds in questions.items():
        source = UUID(await scholar.remember(query))
        older(stack, source, seconds - 30)
        assert await recalled(stack, owner, query) == source
        assert await recalled(stack, owner, query, max_age=5) is None
        older(stack, source, 40)
        assert await recalled(stack, owner, query) is None


async def test_models_do_not_compare(stack: Stack, owner: Person, scholar: Scholar) -> None:
    """What was remembered by another model is not found, however near its numbers are."""
    source = await scholar.remember(ASKED)
    execute(stack, "update public.task_results set embedding_model = 'another' where task_id = %s", [source])
    assert await recalled(stack, owner, ASKED) is None


async def test_a_deleted_session_is_forgotten(
    stack: Stack, owner: Person, scholar: Scholar, http: httpx.AsyncClient
) -> None:
    """With its task and what it answered."""
    source = await scholar.remember(ASKED)
    session = (await http.get(f"/v1/research/{source}")).json()["session_id"]
    assert (await http.delete(f"/v1/sessions/{session}")).status_code == 200
    assert await recalled(stack, owner, ASKED) is None
    assert (await http.get(f"/v1/research/{source}")).status_code == 404


async def test_a_watch_token_reads_its_own_task_and_no_other(
    stack: Stack, owner: Person, scholar: Scholar, http: httpx.AsyncClient
) -> None:
    """Whoever may watch a session may read what it came to."""
    mine, other = await scholar.remember(ASKED), await scholar.remember("Who wrote Emma?")
    session = (await http.get(f"/v1/research/{mine}")).json()["session_id"]
    token = (await http.post(f"/v1/sessions/{session}/token", json={})).json()["token"]
    async with httpx.AsyncClient(base_url=stack.api.url, headers={"Authorization": f"Bearer {token}"}) as watcher:
        assert (await watcher.get(f"/v1/research/{mine}")).json()["results"]["answer"] == "It is 42."
        assert (await watcher.get(f"/v1/research/{other}")).status_code == 404


def older(stack: Stack, task_id: UUID, seconds: int) -> None:
    """As though so much time had passed since the task was answered."""
    for table, key in (("research_tasks", "id"), ("task_results", "task_id")):
        execute(
            stack,
            f"update public.{table} set created_at = created_at - make_interval(secs => %s) where {key} = %s",
            [seconds, task_id],
        )
    execute(
        stack,
        "update public.research_tasks set completed_at = completed_at - make_interval(secs => %s) where id = %s",
        [seconds, task_id],
    )

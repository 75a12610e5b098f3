"""A question's body, what makes two of them one, and what a client is told."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import ValidationError

from functions.bundle import Bundle
from functions.embeddings import Embeddings
from functions.errors import ModelNotConfigured, NotFound
from functions.identity import Caller, RunTokens
from functions.launch import Launcher
from functions.planners import Planner
from functions.research import AcceptedTask, RememberedTask, Research, ResearchRequest, as_told
from functions.sandboxes import Sandboxes
from functions.settings import Settings
from functions.store import Store
from functions.timing import Timings

Json = dict[str, Any]
BUDGET = {"type": "limit", "max_list_cost": {"amount": "25", "currency": "USD"}}


def request(query: str = "What is it?", context: list[str] | None = None, **options: Any) -> ResearchRequest:
    return ResearchRequest.model_validate({"query": query, "context": context or [], "options": options})


@pytest.mark.parametrize("query", ["", "   ", "\n\t", "a\x00b", "x" * 8001, 7, None, "\ud800"])
def test_what_asks_nothing_is_refused(query: Any) -> None:
    """Empty, white, over 8,000 characters, or no text."""
    with pytest.raises(ValidationError):
        request(query)


def test_a_question_may_have_8000_characters() -> None:
    """And loses the white space around it."""
    assert len(request("é" * 8000).query) == 8000
    assert request("  What? \n").query == "What?"


@pytest.mark.parametrize("context", [[""], ["x"] * 21, ["x" * 8001], ["é" * 8000] * 4, "x", [7]])
def test_what_is_no_context_is_refused(context: Any) -> None:
    """Twenty texts at most, of 60,000 bytes together."""
    with pytest.raises(ValidationError):
        request(context=context)


@pytest.mark.parametrize(
    "options",
    [
        {"max_duration": 9},
        {"max_duration": "60"},
        {"max_age": -1},
        {"egress": ["127.0.0.1"]},
        {"egress": ["http://example.test"]},
        {"model": "-rf"},
        {"model": "two words"},
        {"use_cache": "no"},
        {"budget": {"type": "limit", "max_list_cost": {"amount": "0", "currency": "USD"}}},
        {"unknown": 1},
    ],
)
def test_what_is_no_option_is_refused(options: Json) -> None:
    """Nothing unknown, nothing coerced, no private place."""
    with pytest.raises(ValidationError):
        request(**options)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (request("What is it?"), request("  what  IS it?")),
        (request(use_cache=False), request(use_cache=True)),
        (request(max_age=5), request(max_age=50)),
    ],
)
def test_these_are_one_question(one: ResearchRequest, other: ResearchRequest) -> None:
    """White space, capitals and how old an answer may be do not make another."""
    assert one.question_hash == other.question_hash


@pytest.mark.parametrize(
    "other",
    [
        request("What was it?"),
        request(context=["for me"]),
        request(budget=BUDGET),
        request(max_duration=60),
        request(model="another"),
        request(egress=["example.test"]),
    ],
)
def test_these_are_others(other: ResearchRequest) -> None:
    """Whoever waits for another's answer gets what they asked for themselves."""
    assert other.question_hash != request().question_hash


@pytest.mark.parametrize(
    ("options", "may"),
    [({}, True), ({"use_cache": False}, False), ({"max_age": 0}, False), ({"max_age": 1}, True)],
)
def test_memory_can_be_bypassed(options: Json, may: bool) -> None:
    """By either word."""
    assert request(**options).options.may_remember is may


def test_a_run_keeps_all_that_its_runner_is_told(settings: Settings) -> None:
    """Enough to start another, and no secret."""
    asked = request(context=["a"], egress=["example.test"], budget=BUDGET)
    assert asked.input(Planner.of(settings, "any-model")) == {
        "query": "What is it?",
        "context": ["a"],
        "egress": ["example.test"],
        "planner": {"provider": "openai", "model": "any-model"},
        "budget_microusd": 250_000,
    }


@pytest.mark.parametrize(
    ("model", "provider"), [("claude-opus-5", "anthropic"), ("gpt-6.2-sol", "openai"), ("my/claude-like", "openai")]
)
def test_the_name_of_a_model_says_whom_to_ask(model: str, provider: str, settings: Settings) -> None:
    """Claude at Anthropic, all others where OPENAI_BASE_URL points."""
    assert Planner.of(settings, model).provider == provider


def admission(**task: Any) -> Json:
    known = {"id": str(uuid4()), "session_id": str(uuid4()), "run_id": str(uuid4()), "status": "running"}
    return {
        "task": {**known, **task},
        "estimated_duration_seconds": 42,
        "estimated_cost_microusd": 20_001,
    }


def test_an_accepted_task_says_what_to_expect() -> None:
    """In seconds, and in cents rounded up. A repeat of the request reads the same, however far the task is by then."""
    told = as_told(admission())
    assert isinstance(told, AcceptedTask)
    assert (told.status, told.estimated_duration, told.estimated_cost.amount) == ("launching", 42, "3")


def test_a_remembered_task_says_whose_answer_it_is() -> None:
    """And how old, how near."""
    source = uuid4()
    remembered = {
        "run_id": None,
        "status": "completed",
        "answer": {"answer": "It is."},
        "similarity": 0.97,
        "source_task_id": str(source),
        "source_age_seconds": 12,
    }
    told = as_told(admission(**remembered))
    assert isinstance(told, RememberedTask)
    assert told.model_dump(mode="json", exclude={"task_id", "session_id"}) == {
        "type": "research_task",
        "run_id": None,
        "status": "completed",
        "from_cache": True,
        "results": {"answer": "It is."},
        "similarity": 0.97,
        "source_task_id": str(source),
        "age": 12,
    }


def research(settings: Settings, world: Callable[[httpx.Request], httpx.Response]) -> Research:
    """With this world around it."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(world))
    store = Store(settings, http)
    launcher = Launcher(settings, store, Sandboxes(settings, Bundle(b"", "runner.pyz")), RunTokens(settings))
    return Research(settings, store, Embeddings(settings, http), launcher)


def untouched(settings: Settings) -> Research:
    """Where nobody may be asked for anything."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.method} {request.url}")

    return research(settings, fail)


@pytest.mark.parametrize(("model", "missing"), [(None, "OPENAI_API_KEY"), ("claude-opus-5", "ANTHROPIC_API_KEY")])
async def test_a_model_without_a_key_is_refused_before_anything_is_done(
    model: str | None, missing: str, settings: Settings
) -> None:
    """By the name of the setting that is missing."""
    caller = Caller(uuid4(), "a.users.token")
    with pytest.raises(ModelNotConfigured, match=missing):
        await untouched(settings).ask(request(model=model), caller, None, Timings())


class Forgetful:
    """An embedding model and a database that finds a memory, and has lost it by the time that it is used."""

    def __init__(self, *, key_is_lost: bool = False) -> None:
        self.admitted: list[Json] = []
        self.joined = {**admission(), "run": {}, "replayed": False, "joined": True}
        self._key_is_lost = key_is_lost

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Whichever of the three it is asked for."""
        name = request.url.path.rpartition("/")[2]
        if name == "embeddings":
            told = {"data": [{"embedding": [0.5] * 384}], "usage": {"prompt_tokens": 3}}
            return httpx.Response(200, json=told)
        if name == "search_similar_tasks":
            found = {"task_id": str(uuid4()), "query": "What is it?", "context": [], "similarity": 0.99}
            return httpx.Response(200, json=[found])
        self.admitted.append(json.loads(request.content))
        if self._key_is_lost or self.admitted[-1]["source_task_id"] is not None:
            return httpx.Response(404, json={"code": "PT404", "message": "task_not_found", "details": "", "hint": ""})
        return httpx.Response(200, json=self.joined)


@pytest.fixture
def remembering(settings: Settings) -> Settings:
    """A deployment that remembers."""
    known = settings.model_dump(exclude_unset=True)
    return Settings(**{**known, "openai_api_key": "sk-openai-canary", "embedding_model": "multilingual-e5-small"})


async def test_a_memory_that_is_deleted_meanwhile_is_none(remembering: Settings) -> None:
    """The same question is asked anew, and can be remembered."""
    world = Forgetful()
    caller = Caller(uuid4(), "a.users.token")
    told = await research(remembering, world.answer).ask(request(), caller, "a key", Timings())
    assert told == world.joined
    first, second = world.admitted
    assert first["source_task_id"] is not None
    assert second == {**first, "source_task_id": None, "similarity": None}


async def test_a_key_whose_task_is_deleted_finds_nothing(remembering: Settings) -> None:
    """However often it is tried, and whatever is remembered."""
    with pytest.raises(NotFound):
        await research(remembering, Forgetful(key_is_lost=True).answer).ask(
            request(), Caller(uuid4(), "a.users.token"), "a key", Timings()
        )

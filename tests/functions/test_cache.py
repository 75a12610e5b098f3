"""Which of the nearest questions is the same, and how old its answer may be."""

import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from functions import cache
from functions.agreement import THRESHOLDS
from functions.cache import Question
from functions.embeddings import Embedding
from functions.settings import Settings
from functions.store import Store, UserStore

Json = dict[str, Any]
LOCAL = "multilingual-e5-small"


class Supabase:
    """What `search_similar_tasks` finds, and what it was asked."""

    def __init__(self, settings: Settings, *found: Json) -> None:
        self.asked: list[Json] = []
        self._found = found
        self._settings = settings

    def answer(self, request: httpx.Request) -> httpx.Response:
        """PostgREST's answer to the call."""
        assert request.url.path == "/rest/v1/rpc/search_similar_tasks"
        self.asked.append(json.loads(request.content))
        return httpx.Response(200, json=list(self._found))

    @property
    def store(self) -> UserStore:
        """The caller's view."""
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return Store(self._settings, http).as_user("a.users.token")


@pytest.fixture
def local(settings: Settings) -> Settings:
    """A deployment whose model was measured."""
    return Settings(**{**settings.model_dump(exclude_unset=True), "embedding_model": LOCAL})


def near(query: str, similarity: float = 0.95, context: list[str] | None = None) -> Json:
    return {"task_id": str(uuid4()), "query": query, "context": context or [], "similarity": similarity}


def embedding(model: str = LOCAL) -> Embedding:
    return Embedding((0.5,) * 384, model, 7)


async def recalled(settings: Settings, supabase: Supabase, query: str, *context: str) -> UUID | None:
    found = await cache.recall(settings, supabase.store, Question(query, context, None), embedding())
    return found.task_id if found else None


async def test_the_nearest_that_truly_fits_is_taken(local: Settings) -> None:
    """Nearer ones that only look alike are passed over."""
    right = near("current price of BTC", 0.93)
    supabase = Supabase(local, near("What is the price of ethereum?", 0.97), right)
    assert await recalled(local, supabase, "What is the price of bitcoin?") == UUID(right["task_id"])


@pytest.mark.parametrize(
    ("asked", "remembered"),
    [
        ("What is the price of bitcoin?", "What is the price of ethereum?"),
        ("Who won in 2024?", "Who won in 2025?"),
        ("Which issues are open?", "Which issues are closed?"),
        ("stars of pallets/flask", "stars of pallets/click"),
        ("Quel est le prix du bitcoin ?", "What is the price of bitcoin?"),
    ],
)
async def test_what_only_looks_alike_is_asked_anew(asked: str, remembered: str, local: Settings) -> None:
    """However near it is."""
    assert await recalled(local, Supabase(local, near(remembered, 0.999)), asked) is None


async def test_another_context_is_another_question(local: Settings) -> None:
    """«What is its population?» is a question only with what was said before."""
    of_france = near("What is its population?", 1.0, ["We speak of France."])
    supabase = Supabase(local, of_france)
    assert await recalled(local, supabase, "What is its population?", "We speak of Chad.") is None
    assert await recalled(local, supabase, "What is its population?") is None
    assert await recalled(local, supabase, "What is its population?", "We speak of France.") is not None


async def test_the_database_is_asked_once_for_what_may_count(local: Settings) -> None:
    """The model's name, its threshold and the age go along."""
    supabase = Supabase(local)
    await recalled(local, supabase, "Who wrote it?")
    (asked,) = supabase.asked
    assert asked["query_embedding"] == str(embedding())
    assert (asked["model"], asked["match_threshold"]) == (LOCAL, THRESHOLDS[LOCAL])
    assert asked["max_age_seconds"] == 86_400


@pytest.mark.parametrize(
    ("query", "wanted", "seconds"),
    [
        ("Who wrote Dune?", None, 86_400),
        ("Who wrote Dune?", 60, 60),
        ("What is the weather right now?", 3600, 60),
        ("prix du bitcoin", None, 300),
        ("price of bitcoin", 10, 10),
    ],
)
def test_an_answer_is_never_older_than_its_kind_allows(query: str, wanted: int | None, seconds: int) -> None:
    """Nor than the client does."""
    assert Question(query, (), wanted).max_age_seconds == seconds


async def test_with_a_model_that_nobody_measured_nothing_is_remembered(settings: Settings) -> None:
    """Nor is the database asked."""
    supabase = Supabase(settings, near("Who wrote it?", 1.0))
    question = Question("Who wrote it?", (), None)
    assert await cache.recall(settings, supabase.store, question, embedding("text-embedding-3-small")) is None
    assert supabase.asked == []


async def test_an_operator_can_say_the_threshold(settings: Settings) -> None:
    """Of a model that they have measured themselves."""
    said = Settings(**{**settings.model_dump(exclude_unset=True), "embedding_threshold": 0.8})
    supabase = Supabase(said, near("Who wrote it?", 1.0))
    assert await recalled(said, supabase, "Who wrote it?") is not None
    assert supabase.asked[0]["match_threshold"] == 0.8


async def test_long_questions_are_the_same_word_for_word(local: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not read: twenty of the longest would hold the endpoint up for seconds."""
    monkeypatch.setattr("functions.cache.disagreement", pytest.fail)
    long = "price of bitcoin " * 470
    known, other = near(f"{long}?"), near(f"{long}!")
    assert await recalled(local, Supabase(local, other, known), f"{long}now?") is None
    assert await recalled(local, Supabase(local, other, known), f"{long} ?") == UUID(known["task_id"])
    assert await recalled(local, Supabase(local, known), "price of bitcoin") is None

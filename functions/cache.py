"""What was answered before: whether a question may be answered from memory. `docs/cache.md` says how it decides."""

from dataclasses import dataclass
from uuid import UUID

from functions.agreement import THRESHOLDS, disagreement
from functions.embeddings import Embedding
from functions.freshness import max_age_seconds
from functions.rest import Row
from functions.settings import Settings
from functions.store import UserStore

# So many of the nearest are looked at: those that only look alike may well be nearer than the right one.
CANDIDATES = 20
# To read longer ones takes the endpoint's time from everybody, and no table knows what such texts are about.
LONGEST_READ = 1000


@dataclass(frozen=True)
class Memory:
    """A task that answered the same, and how near its question is."""

    task_id: UUID
    similarity: float


@dataclass(frozen=True)
class Question:
    """What is asked. `max_age`: seconds that its answer may be old at most, if the client says so."""

    query: str
    context: tuple[str, ...]
    max_age: int | None

    @property
    def max_age_seconds(self) -> int:
        """The client's bound, and never more than the kind of question allows."""
        known = max_age_seconds(self.query)
        return known if self.max_age is None else min(known, self.max_age)


def threshold(settings: Settings) -> float | None:
    """How near two questions must be; None for a model that nobody has measured: then nothing is remembered."""
    return settings.embedding_threshold or THRESHOLDS.get(settings.embedding_model)


async def recall(settings: Settings, store: UserStore, question: Question, embedding: Embedding) -> Memory | None:
    """The nearest of the caller's answers that truly fits, in one read. Raises StoreUnavailable."""
    nearest = threshold(settings)
    if nearest is None:
        return None
    found = await store.similar_tasks(
        {
            "query_embedding": str(embedding),
            "model": embedding.model,
            "match_threshold": nearest,
            "match_count": CANDIDATES,
            "max_age_seconds": question.max_age_seconds,
        }
    )
    return next((memory_of(row) for row in found if fits(question, row)), None)


def fits(question: Question, row: Row) -> bool:
    """Whether this is the same question: in the same context, with nothing that speaks against it.

    A long one is the same only word for word.
    """
    if tuple(row["context"]) != question.context:
        return False
    if max(len(question.query), len(row["query"])) > LONGEST_READ:
        return question.query.split() == str(row["query"]).split()
    return disagreement(question.query, row["query"]) is None


def memory_of(row: Row) -> Memory:
    """The row of `search_similar_tasks`."""
    return Memory(UUID(row["task_id"]), float(row["similarity"]))

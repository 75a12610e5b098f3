"""Research: a question in words, answered by a run that plans, or from memory where it was answered before."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import structlog
from pydantic import AfterValidator, Field, computed_field

from functions import cache
from functions.cache import Memory, Question
from functions.embeddings import Embedding, Embeddings
from functions.errors import EmbeddingUnavailable, InvalidRequest, ModelNotConfigured, NotFound
from functions.identity import Caller
from functions.launch import Launcher
from functions.models import MICROUSD_PER_CENT, Answer, Budget, Host, Money, Request, Text, request_hash, without_nul
from functions.planners import Planner
from functions.rest import Row
from functions.settings import Settings
from functions.store import Store
from functions.timing import Timings

ROUTE = "POST /v1/research"
MAX_QUERY_LENGTH = 8000
MAX_CONTEXT = 20
# Of all of it, as JSON: less than the table's CHECK takes.
MAX_CONTEXT_BYTES = 60_000
MIN_SECONDS = 10

log = structlog.get_logger(__name__)


def asked(query: str) -> str:
    """The question without the white space around it."""
    if not (stripped := without_nul(query).strip()):
        raise ValueError("the question is empty")
    return stripped


def context_size(context: tuple[str, ...]) -> tuple[str, ...]:
    """The limit is that of the JSON which is stored."""
    if len(json.dumps(context, ensure_ascii=False).encode()) > MAX_CONTEXT_BYTES:
        raise ValueError(f"must have at most {MAX_CONTEXT_BYTES} bytes as JSON")
    return context


Query = Annotated[str, Field(max_length=MAX_QUERY_LENGTH), AfterValidator(asked)]
Context = Annotated[Text, Field(min_length=1, max_length=MAX_QUERY_LENGTH)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$")]


class ResearchOptions(Request):
    """How a question is to be answered. `max_duration` and `max_age` in seconds."""

    max_duration: Annotated[int | None, Field(ge=MIN_SECONDS)] = None
    budget: Budget | None = None
    use_cache: bool = True
    max_age: Annotated[int | None, Field(ge=0, lt=2**31)] = None
    model: ModelName | None = None
    egress: Annotated[tuple[Host, ...], Field(max_length=50, strict=False)] = ()

    @property
    def may_remember(self) -> bool:
        """Whether an answer that exists already, or is under way, would do."""
        return self.use_cache and self.max_age != 0


class ResearchRequest(Request):
    """The body of `POST /v1/research`."""

    query: Query
    context: Annotated[
        tuple[Context, ...], Field(max_length=MAX_CONTEXT, strict=False), AfterValidator(context_size)
    ] = ()
    options: ResearchOptions = ResearchOptions()

    @property
    def question_hash(self) -> str:
        """What makes two questions one task while the first is under way: everything but how old an answer may be."""
        said = self.model_dump(mode="json", exclude={"options": {"use_cache", "max_age"}})
        return request_hash(ROUTE, {**said, "query": " ".join(self.query.split()).casefold()})

    def input(self, planner: Planner) -> Row:
        """What the driver is given, and what the run's row keeps: enough to start its runner again."""
        return {
            "query": self.query,
            "context": list(self.context),
            "egress": list(self.options.egress),
            "planner": {"provider": planner.provider, "model": planner.model},
            "budget_microusd": self.options.budget.microusd if self.options.budget else None,
        }


class Task(Answer):
    """What every answer about a task says."""

    type: Literal["research_task"] = "research_task"
    task_id: UUID = Field(validation_alias="id")
    session_id: UUID
    run_id: UUID | None
    status: str


class AcceptedTask(Task):
    """A task that a run works on. `estimated_duration` in seconds, `estimated_cost` in cents, rounded up."""

    estimated_duration: int
    estimated_cost: Money


class RememberedTask(Task):
    """A task that was answered from memory: by the answer of `source_task_id`, `age` seconds old."""

    from_cache: Literal[True] = True
    results: dict[str, Any] = Field(validation_alias="answer")
    similarity: float
    source_task_id: UUID | None
    age: int = Field(validation_alias="source_age_seconds")


class ResearchTask(Task):
    """A task as it stands. `results` once it is completed; `similarity` and `age` where they came from memory."""

    query: str
    context: list[str]
    options: dict[str, Any]
    results: dict[str, Any] | None = Field(validation_alias="answer")
    similarity: float | None
    source_task_id: UUID | None
    age: int | None = Field(validation_alias="source_age_seconds")
    error: dict[str, Any] | None
    created_at: datetime
    completed_at: datetime | None

    @computed_field
    def from_cache(self) -> bool:
        """Whether no run worked on it."""
        return self.run_id is None


class CostedTask(ResearchTask):
    """The same with what it has cost so far."""

    cost_microusd: int


@dataclass(frozen=True)
class Recollection:
    """What the lookup came to: the question's embedding, where there is one, and an answer that fits."""

    embedding: Embedding | None = None
    memory: Memory | None = None

    def as_arguments(self) -> Row:
        """Its part of the arguments of `admit_research_v1`."""
        known, memory = self.embedding, self.memory
        return {
            "embedding": str(known) if known else None,
            "embedding_model": known.model if known else None,
            "embedding_tokens": known.tokens if known else 0,
            "source_task_id": str(memory.task_id) if memory else None,
            "similarity": memory.similarity if memory else None,
        }


class Research:
    """Asks. One per process; holds no state of a task."""

    def __init__(self, settings: Settings, store: Store, embeddings: Embeddings, launcher: Launcher) -> None:
        self._settings = settings
        self._store = store
        self._embeddings = embeddings
        self._launcher = launcher

    async def ask(self, body: ResearchRequest, caller: Caller, idempotency_key: str | None, timings: Timings) -> Row:
        """The admitted task, as `admit_research_v1` answers; its run is launched, where it has one of its own.

        Raises InvalidRequest, Conflict, TooManySandboxes, RateLimited, BudgetExceeded, ModelNotConfigured,
        StoreUnavailable, SandboxUnavailable. Without embeddings it is asked anew, and nothing is remembered.
        """
        planner = self._planner(body.options)
        recollection = await self._recollected(body, caller, timings)
        order = self._order(body, planner, idempotency_key)
        with timings.step("admit"):
            admission = await self._admitted(order, recollection, caller)
        if admission["run"] is not None and not admission["replayed"] and not admission["joined"]:
            await self._launcher.research(admission["run"], order["input"], timings)
        return admission

    async def _admitted(self, order: Row, recollection: Recollection, caller: Caller) -> Row:
        """A memory that was deleted since it was found is none: the question is asked anew."""
        store = self._store.as_user(caller.token)
        try:
            return await store.admit_research({**order, **recollection.as_arguments()})
        except NotFound:
            if recollection.memory is None:
                raise
        return await store.admit_research({**order, **Recollection(recollection.embedding).as_arguments()})

    async def _recollected(self, body: ResearchRequest, caller: Caller, timings: Timings) -> Recollection:
        try:
            with timings.step("embed"):
                embedding = await self._embeddings.of(body.query)
        except EmbeddingUnavailable as error:
            log.warning("not_embedded", reason=error.message)
            return Recollection()
        if not body.options.may_remember:
            return Recollection(embedding)
        question = Question(body.query, body.context, body.options.max_age)
        with timings.step("recall"):
            store = self._store.as_user(caller.token)
            return Recollection(embedding, await cache.recall(self._settings, store, question, embedding))

    def _planner(self, options: ResearchOptions) -> Planner:
        planner = Planner.of(self._settings, options.model or self._settings.research_model)
        if planner.key is None:
            raise ModelNotConfigured(f"this deployment has no {planner.variable}, which {planner.model} needs")
        return planner

    def _order(self, body: ResearchRequest, planner: Planner, idempotency_key: str | None) -> Row:
        longest, options = self._settings.max_limit_seconds, body.options
        if options.max_duration is not None and options.max_duration > longest:
            raise InvalidRequest(f"a run may last {longest} seconds here", param="options.max_duration")
        return {
            "query": body.query,
            "context": list(body.context),
            "options": options.model_dump(mode="json"),
            "input": body.input(planner),
            "question_hash": body.question_hash,
            "limit_seconds": options.max_duration or self._settings.default_research_seconds,
            "is_cut": options.max_duration is None,
            "request_hash": request_hash(ROUTE, body.model_dump(mode="json")),
            "idempotency_key": idempotency_key,
            "budget_microusd": options.budget.microusd if options.budget else None,
            "is_shared": options.may_remember,
        }


def as_told(admission: Row) -> AcceptedTask | RememberedTask:
    """What a POST is answered: the task, or what it came to at once."""
    task = admission["task"]
    if task["run_id"] is None:
        return RememberedTask.model_validate(task)
    duration, cost = admission["estimated_duration_seconds"], admission["estimated_cost_microusd"]
    # Rounded up, and never nothing.
    cents = max(1, -(-cost // MICROUSD_PER_CENT))
    estimate = {"estimated_duration": duration, "estimated_cost": {"amount": str(cents), "currency": "USD"}}
    # The same for every repeat of its request, and for those who wait for the same answer.
    return AcceptedTask.model_validate({**task, "status": "launching", **estimate})

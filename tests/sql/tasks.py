"""Research tasks to test with: questions as they are asked, the runs that answer them, and what is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from tests.sql.conversations import say, turn_of
from tests.sql.people import Connection, Person, acting, scalar
from tests.sql.runs import HASH, Json, Run, finish

DIMENSIONS = 384
MODEL = "small"
ANSWER: Json = {"answer": "42", "citations": [], "facts": [], "model": "cheap"}
LIMIT_SECONDS = 600


def towards(*parts: float) -> str:
    """An embedding with these first numbers, as text; the others are 0."""
    return str([*map(float, parts), *[0.0] * (DIMENSIONS - len(parts))])


ONE = towards(1)
NEAR = towards(1, 0.1)
FAR = towards(0, 1)


def ask(rest: Connection, owner: Person, **changes: object) -> Json:
    """The answer of admit_research_v1; by default an embedded question that nobody has asked before."""
    request: Json = {
        "query": "What is it?", "context": ["a text"], "options": {"use_cache": True},
        "input": {"query": "What is it?"}, "question_hash": sha256(uuid4().bytes).hexdigest(),
        "limit_seconds": LIMIT_SECONDS, "is_cut": False, "request_hash": HASH, "embedding": ONE,
        "embedding_model": MODEL,
    }  # fmt: skip
    return dict(owner.call(rest, "admit_research_v1", **{**request, **changes}))


def from_memory(rest: Connection, owner: Person, source: object, **changes: object) -> Json:
    """The answer of admit_research_v1 to a question like that of the source."""
    return ask(rest, owner, **{"source_task_id": source, "similarity": 0.95, **changes})


def run_of(answer: Json, owner: Person) -> Run:
    """The run in an answer of `ask`, with its runner."""
    return turn_of(answer, owner)


def answered(rest: Connection, owner: Person, answer: Json | None = None, **changes: object) -> Json:
    """The row of a task whose run has answered it."""
    asked = ask(rest, owner, **changes)
    run = run_of(asked, owner)
    say(rest, run.runner, 1, "research.answer", **(answer or ANSWER))
    finish(rest, run.runner, 1)
    return task_row(rest, owner, asked["task"]["id"])


def task_row(rest: Connection, owner: Person, id: object) -> Json:
    """The task as its owner reads it."""
    with acting(rest, owner):
        return dict(scalar(rest, "select to_jsonb(t) from public.research_tasks t where id = %s", (id,)))


def memory(admin: Connection, owner: Person) -> dict[UUID, Json]:
    """What is remembered of the owner's: answers by their tasks."""
    query = "select task_id, answer from public.task_results where owner = %s"
    return dict(admin.execute(query, (owner.id,)).fetchall())


def search(rest: Connection, person: Person, embedding: str = ONE, **changes: object) -> list[Json]:
    """The rows of search_similar_tasks, in order."""
    request: Mapping[str, Any] = {"model": MODEL, "match_threshold": 0.9, **changes}
    given = ", ".join(f"{name} => %s" for name in request)
    query = f"select to_jsonb(s) from public.search_similar_tasks(query_embedding => %s, {given}) s"
    with acting(rest, person):
        return [dict(row[0]) for row in rest.execute(query, [embedding, *request.values()])]

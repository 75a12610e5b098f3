"""The memory's lookup: what it adds to a question, for owners who have asked little and much, among others like them.

The lookup is the endpoints' own (`functions.cache.recall`), through Supabase's REST as the owner: one read, and the
agreement of up to twenty questions. The embedding call before it is measured apart; it is the local model's, and no
figure of OpenAI's.
"""

import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import httpx
import jwt
import psycopg

from bench.people import Bench, percentiles
from functions import cache
from functions.cache import Question
from functions.embeddings import Embedding, Embeddings
from functions.settings import Settings
from functions.store import Store, UserStore
from local.stack import demo_user

OTHERS = 5
OF_EACH = 1000
SIZES = (100, 2_000, 10_000)
ROUNDS = 100
WARM_UP = 5
QUERY = "What is the price of bitcoin in euros today?"
# Questions that are near and yet others, so that the agreement has twenty to look at; the rest lies anywhere.
FILL = """
with sessions as (
  insert into public.agent_sessions (owner) select %(owner)s from generate_series(1, %(count)s) returning id, owner
), numbered as (
  select s.*, row_number() over () as number from sessions s
), asked as (
  insert into public.research_tasks (
    session_id, owner, status, query, question_hash, is_shared, similarity, source_age_seconds, answer, completed_at
  )
    select n.id, n.owner, 'completed', 'What is the price of coin ' || n.number || ' in euros today?', repeat('0', 64),
      false, 1, 0, '{"answer": "-"}', now()
    from numbered n
    returning id, owner
)
insert into public.task_results (task_id, owner, answer, embedding, embedding_model)
  select a.id, a.owner, '{"answer": "-"}', e.embedding, %(model)s
  from (select a.*, row_number() over () as number from asked a) a
  cross join lateral (
    select case when a.number <= 20 then %(near)s::extensions.vector(384)
      else (
        select array_agg(random() - 0.5) from generate_series(1, 384 + 0 * a.number::integer)
      )::extensions.vector(384)
    end as embedding
  ) e
"""


async def measure(bench: Bench) -> list[tuple[str, str]]:
    """Each size's lookups, one owner for each, all in one database; and the embedding before them."""
    settings = deployed(bench)
    async with httpx.AsyncClient(timeout=60) as http:
        embeddings = Embeddings(settings, http)
        near = await embeddings.of("What is the price of a coin in euros today?")
        for _ in range(OTHERS):
            fill(bench, demo_user(bench.stack.addresses), OF_EACH, near)
        rows: list[tuple[str, str]] = []
        for size in SIZES:
            token = demo_user(bench.stack.addresses)
            fill(bench, token, size, near)
            took = await lookups(settings, Store(settings, http).as_user(token), await embeddings.of(QUERY))
            rows.append((f"research: lookup among {size:,} of one's own", took))
        rows.append(("research: embedding by the bundled model", await embedded(embeddings)))
    return rows


async def lookups(settings: Settings, store: UserStore, embedding: Embedding) -> str:
    """A question that nobody asked before: a miss, which has to look at all that is near."""
    question = Question(QUERY, (), None)
    return await timed(lambda _: cache.recall(settings, store, question, embedding))


async def embedded(embeddings: Embeddings) -> str:
    """One text after the other, each another one."""
    return await timed(lambda number: embeddings.of(f"{QUERY} {number}"))


async def timed(what: Callable[[int], Awaitable[object]]) -> str:
    """What many of them took, one after the other."""
    moments = [time.perf_counter()]
    for number in range(WARM_UP + ROUNDS):
        await what(number)
        moments += [time.perf_counter()]
    return percentiles([(end - began) * 1000 for began, end in pairwise(moments)][WARM_UP:])


def fill(bench: Bench, token: str, count: int, near: Embedding) -> None:
    """So many remembered questions of the token's owner."""
    owner = jwt.decode(token, options={"verify_signature": False})["sub"]
    given: dict[str, Any] = {"owner": owner, "count": count, "near": str(near), "model": near.model}
    with psycopg.connect(bench.stack.postgres.dsn(), autocommit=True) as admin:
        admin.execute(FILL, given)
        admin.execute("analyze public.task_results, public.research_tasks")


def deployed(bench: Bench) -> Settings:
    """The settings of the stack's endpoints."""
    given = {name.lower(): value for name, value in bench.stack.api_environment().items()}
    return Settings.model_validate({name: value for name, value in given.items() if name in Settings.model_fields})

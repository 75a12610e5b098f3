"""The memory: who finds what in it, and how a question is answered from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from tests.sql.conversations import delete, session_row
from tests.sql.limits import allow
from tests.sql.money import cost_of, month, priced
from tests.sql.people import ANON, SERVICE, Connection, Person, acting, column, refused, scalar, sign_up
from tests.sql.runs import OTHER_HASH, Json, admit, lose, watcher
from tests.sql.tasks import (
    ANSWER,
    DIMENSIONS,
    FAR,
    MODEL,
    NEAR,
    ONE,
    answered,
    ask,
    from_memory,
    memory,
    run_of,
    search,
    task_row,
    towards,
)  # fmt: skip

# Remembered tasks of an owner's, made in bulk: their questions lie in a cone around `towards(1)`, so wide.
FILL = """
with opened as (
  insert into public.agent_sessions (owner) select %(owner)s from generate_series(1, %(count)s) returning id
), asked as (
  insert into public.research_tasks (
    session_id, owner, status, query, question_hash, is_shared, answer, similarity, source_age_seconds, completed_at
  )
  select o.id, %(owner)s, 'completed', 'filled', repeat('a', 64), false, '{}', 1, 0, now() from opened o returning id
)
insert into public.task_results (task_id, owner, answer, embedding, embedding_model)
  select a.id, %(owner)s, '{}', (
    select '{1}' || array_agg((random() - 0.5) * %(width)s) || array_fill(0::float8, '{359}')
    -- Of each row anew.
    from generate_series(1, 24) i where a.id is not null
  )::extensions.vector, 'small' from asked a
"""


def ids(rows: list[Json]) -> list[str]:
    """The tasks, in order."""
    return [row["task_id"] for row in rows]


def age(admin: Connection, task: Json, seconds: int) -> None:
    """The task's answer was remembered so much longer ago."""
    query = "update public.task_results set created_at = created_at - make_interval(secs => %s) where task_id = %s"
    admin.execute(query, (seconds, task["id"]))


def test_the_most_similar_comes_first(rest: Connection, owner: Person) -> None:
    """With its question, its context, and how similar the questions are; what is less than asked for is left out."""
    near, _, same = (answered(rest, owner, embedding=one, query=one[:9]) for one in (NEAR, FAR, ONE))
    found = search(rest, owner)
    assert ids(found) == [same["id"], near["id"]]
    assert [round(row["similarity"], 6) for row in found] == [1, 0.995037]
    assert {name: found[1][name] for name in ("session_id", "query", "context", "age_seconds")} == {
        "session_id": near["session_id"], "query": NEAR[:9], "context": ["a text"], "age_seconds": 0,
    }  # fmt: skip
    assert ids(search(rest, owner, match_threshold=0.996)) == [same["id"]]
    assert len(search(rest, owner, match_threshold=-1)) == 3


def test_the_threshold_itself_is_enough(rest: Connection, owner: Person) -> None:
    """At least so similar: a question is as similar to itself as can be."""
    answered(rest, owner)
    assert len(search(rest, owner, match_threshold=1)) == 1


@pytest.mark.parametrize(("asked", "found"), [(2, 2), (0, 0), (-1, 0), (None, 3), (10**6, 3)])
def test_no_more_than_asked_for(rest: Connection, owner: Person, asked: int | None, found: int) -> None:
    """Best first; nothing asked is ten."""
    for _ in range(3):
        answered(rest, owner)
    assert len(search(rest, owner, match_count=asked)) == found


def test_what_is_too_old_is_not_found(rest: Connection, admin: Connection, owner: Person) -> None:
    """Age is the answer's, by the database's clock; an age of nothing finds nothing."""
    task = answered(rest, owner)
    age(admin, task, 60)
    assert [row["age_seconds"] for row in search(rest, owner)] == [60]
    assert len(search(rest, owner, max_age_seconds=62)) == 1
    for seconds in (59, 0, -1):
        assert search(rest, owner, max_age_seconds=seconds) == []


def test_another_models_memory_is_not_found(rest: Connection, owner: Person) -> None:
    """However similar it looks: the model's name is part of the question."""
    answered(rest, owner, embedding_model="large")
    assert search(rest, owner) == []
    assert len(search(rest, owner, model="large")) == 1


def test_what_is_not_answered_is_not_found(rest: Connection, owner: Person) -> None:
    """Neither a live task nor one that failed."""
    ask(rest, owner)
    assert search(rest, owner) == []


def test_nobody_finds_anothers(rest: Connection, admin: Connection, owner: Person) -> None:
    """A stranger, a guest and a user without id find nothing; all others may not even search."""
    task = answered(rest, owner)
    for person in (
        sign_up(admin, "stranger"),
        sign_up(admin, "guest", anonymous=True),
        Person("none", "authenticated"),
    ):
        assert search(rest, person, match_threshold=-1) == []
    watching = watcher(task["session_id"], owner)
    for other in (ANON, SERVICE, run_of(ask(rest, owner), owner).runner, watching):
        with refused("42501"):
            search(rest, other)


@pytest.mark.parametrize("embedding", ["[1,2,3]", str([0] * DIMENSIONS), str([1e30] * DIMENSIONS), None], ids=str)
def test_what_is_no_embedding_is_refused(rest: Connection, owner: Person, embedding: str | None) -> None:
    """Also where there is nothing to compare it with."""
    with refused("PT400", "bad_embedding"):
        search(rest, owner, embedding)  # type: ignore[arg-type]


def test_a_watcher_sees_its_sessions_task(rest: Connection, admin: Connection, owner: Person) -> None:
    """And no other of the owner's, by name neither, nor the memory; a token that is not the owner's sees none."""
    task, other = answered(rest, owner), answered(rest, owner)
    query = "select id::text from public.research_tasks where id = any(%s)"
    for person, seen in ((owner, [task["id"]]), (sign_up(admin, "stranger"), [])):
        watching = watcher(task["session_id"], person)
        with acting(rest, watching):
            assert column(rest, query, ([task["id"], other["id"]],)) == seen
        with refused("42501"), acting(rest, watching):
            rest.execute("select from public.task_results")


@contextmanager
def crowded(admin: Connection, *crowds: tuple[Person, int, float]) -> Iterator[None]:
    """A memory with so many tasks of these people's, as wide around the question; undone afterwards."""
    with admin.transaction(force_rollback=True):
        # Built at once it costs a fraction of what row by row does.
        definition = scalar(admin, "select pg_get_indexdef('public.task_results_nearest'::regclass)")
        admin.execute("drop index public.task_results_nearest")
        for person, count, width in crowds:
            admin.execute(FILL, {"owner": person.id, "count": count, "width": width})
        admin.execute(definition)
        admin.execute("analyze public.task_results")
        yield


def found_by(admin: Connection, owner: Person) -> list[Json]:
    """What the owner finds, in the transaction of `crowded`."""
    with admin.transaction(force_rollback=True):
        return search(admin, owner, match_threshold=-1)


def test_many_of_others_do_not_hide_ones_own(rest: Connection, admin: Connection, owner: Person) -> None:
    """Two thousand lie nearer to the question than the owner's three, and the index may give up before the first."""
    mine = {answered(rest, owner, embedding=towards(1, further))["id"] for further in (1, 2, 3)}
    with crowded(admin, (sign_up(admin, "crowd"), 2000, 0.01)):
        admin.execute("set local enable_sort to off; set local hnsw.max_scan_tuples to 100")
        assert set(ids(found_by(admin, owner))) == mine


def test_a_large_memory_is_searched_by_the_index(rest: Connection, admin: Connection, owner: Person) -> None:
    """More than are compared one by one, behind a thousand of others: ten are found, best first, as asked for."""
    stranger = sign_up(admin, "crowd")
    with crowded(admin, (stranger, 1000, 0.01), (owner, 2001, 0.05)):
        # Nothing else could answer: it has to read on past all that is not the owner's.
        admin.execute("set local enable_sort to off")
        found = found_by(admin, owner)
        similarities = [row["similarity"] for row in found]
        assert len(found) == 10
        assert similarities == sorted(similarities, reverse=True)
        query = "select count(*) from public.task_results where owner = %s and task_id = any(%s)"
        assert scalar(admin, query, (owner.id, ids(found))) == 10


@pytest.fixture
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


def log(admin: Connection, task: Json) -> list[tuple[str, Json]]:
    """The session's events."""
    query = (
        "select type, data from public.agent_events where session_id = %s and run_id is null and n is null order by seq"
    )
    return admin.execute(query, (task["session_id"],)).fetchall()


def test_an_answer_from_memory_is_a_task_without_run(rest: Connection, admin: Connection, owner: Person) -> None:
    """Completed at once, with the answer, where it came from, and a log that says so."""
    source = answered(rest, owner)
    age(admin, source, 30)
    answer = from_memory(rest, owner, source["id"], query="How is it?")
    task = answer["task"]
    assert (answer["run"], answer["joined"], answer["replayed"]) == (None, False, False)
    assert (answer["estimated_duration_seconds"], answer["estimated_cost_microusd"]) == (0, 0)
    assert {name: task[name] for name in ("status", "query", "answer", "source_task_id", "similarity", "run_id")} == {
        "status": "completed", "query": "How is it?", "answer": ANSWER, "source_task_id": source["id"],
        "similarity": 0.95, "run_id": None,
    }  # fmt: skip
    assert task["source_age_seconds"] == 30
    assert log(admin, task) == [
        ("cache.hit", {"source_task_id": source["id"], "similarity": 0.95, "age_seconds": 30}),
        ("research.answer", ANSWER),
        ("session.status_idle", {"stop_reason": {"type": "end_turn"}}),
    ]
    session = session_row(admin, task["session_id"])
    assert (session["status"], session["last_seq"]) == ("idle", 3)


def test_an_answer_of_an_answer_is_not_remembered(rest: Connection, admin: Connection, owner: Person) -> None:
    """It would look newer than it is; and it is no source."""
    source = answered(rest, owner)
    copied = from_memory(rest, owner, source["id"])["task"]
    assert [str(id) for id in memory(admin, owner)] == [source["id"]]
    assert ids(search(rest, owner)) == [source["id"]]
    with refused("PT404", "task_not_found"):
        from_memory(rest, owner, copied["id"])


def test_memory_takes_no_room_and_no_money(rest: Connection, admin: Connection, owner: Person, prices: None) -> None:
    """Without a sandbox left and without a month left it answers; what it embedded is charged, nothing reserved."""
    source = answered(rest, owner)
    allow(rest, admin, owner, max_concurrent_sandboxes=0, max_month_microusd=0)
    task = from_memory(rest, owner, source["id"], embedding_tokens=1000, limit_seconds=None)["task"]
    assert cost_of(admin, task["session_id"]) == month(rest, owner)["spent_microusd"] == 20
    query = "select count(*) from public.ledger where session_id = %s and entry <> 'spend'"
    assert scalar(admin, query, (task["session_id"],)) == 0


def test_memory_counts_as_a_submit(rest: Connection, admin: Connection, owner: Person) -> None:
    """As every question does."""
    source = answered(rest, owner)
    allow(rest, admin, owner, submits_per_minute=1)
    from_memory(rest, owner, source["id"])
    with refused("PT429", "rate_limited"):
        from_memory(rest, owner, source["id"])


def test_a_replay_from_memory(rest: Connection, admin: Connection, owner: Person) -> None:
    """The same task, also when its source is forgotten by then: the copy says no more where it came from."""
    source = answered(rest, owner)
    first = from_memory(rest, owner, source["id"], idempotency_key="k")
    delete(rest, owner, source["session_id"])
    again = from_memory(rest, owner, source["id"], idempotency_key="k")
    assert again["replayed"] is True
    assert again["task"] == {**first["task"], "source_task_id": None}
    with refused("PT404", "task_not_found"):
        from_memory(rest, owner, source["id"])


def test_only_ones_own_remembered_task_is_a_source(rest: Connection, admin: Connection, owner: Person) -> None:
    """Another's, another model's, one that is live, failed or never was: not found, and nothing is left."""
    stranger = sign_up(admin, "stranger")
    live, failed = ask(rest, owner), ask(rest, owner)
    lose(admin, run_of(failed, owner))
    others = [answered(rest, stranger)["id"], answered(rest, owner, embedding_model="large")["id"]]
    before = session_count(admin, owner)
    for source in (*others, live["task"]["id"], failed["task"]["id"], uuid4()):
        with refused("PT404", "task_not_found"):
            from_memory(rest, owner, source, idempotency_key="k")
    with refused("PT404", "task_not_found"):
        from_memory(rest, owner, answered(rest, owner)["id"], embedding=None, embedding_model=None)
    assert session_count(admin, owner) == before + 1


def session_count(admin: Connection, owner: Person) -> int:
    """How many sessions the owner has."""
    return int(scalar(admin, "select count(*) from public.agent_sessions where owner = %s", (owner.id,)))


@pytest.mark.parametrize("similarity", [1.01, -2, float("nan"), None])
def test_a_similarity_that_cannot_be_is_refused(rest: Connection, owner: Person, similarity: float | None) -> None:
    """The schema's word."""
    source = answered(rest, owner)
    with refused("23514"):
        from_memory(rest, owner, source["id"], similarity=similarity)


def test_a_source_comes_before_a_live_run(rest: Connection, owner: Person) -> None:
    """The same question is being answered just now: memory is quicker."""
    source = answered(rest, owner)
    ask(rest, owner, question_hash=OTHER_HASH)
    answer = from_memory(rest, owner, source["id"], question_hash=OTHER_HASH)
    assert (answer["joined"], answer["run"]) == (False, None)


def test_a_session_that_answered_from_memory_is_a_session(rest: Connection, admin: Connection, owner: Person) -> None:
    """It takes a plan, and is deleted with its task and not with its source."""
    source = answered(rest, owner)
    task = from_memory(rest, owner, source["id"])["task"]
    lose(admin, run_of(admit(rest, owner, session_id=task["session_id"]), owner))
    assert task_row(rest, owner, task["id"])["status"] == "completed"
    delete(rest, owner, task["session_id"])
    assert [str(id) for id in memory(admin, owner)] == [source["id"]]


def test_models_of_two_memories_are_named(rest: Connection, admin: Connection, owner: Person) -> None:
    """What is remembered has its model's name."""
    answered(rest, owner)
    assert column(admin, "select embedding_model from public.task_results where owner = %s", (owner.id,)) == [MODEL]

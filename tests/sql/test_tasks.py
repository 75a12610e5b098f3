"""Research tasks: how a question is admitted, how its task follows its run, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.conversations import delete, new_turn, say, session_row, types_of
from tests.sql.limits import allow
from tests.sql.money import cost_of, entries, month, priced, record, run_on, sandbox_microusd, use
from tests.sql.people import ANON, SERVICE, Connection, Person, column, refused, scalar, sign_up
from tests.sql.runs import OTHER_HASH, Json, admit, append, finish, lose, row_of
from tests.sql.tasks import ANSWER, FAR, LIMIT_SECONDS, ONE, answered, ask, from_memory, memory, run_of, task_row

TURN_MICROUSD = 250_000
ENDS = {"failed": "failed", "cancelled": "cancelled", "timed_out": "timed_out", "lost": "lost"}


@pytest.fixture
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


def rows_of(admin: Connection, owner: Person) -> list[int]:
    """How many sessions, runs, tasks and keys the owner has."""
    tables = ("agent_sessions", "agent_runs", "research_tasks", "idempotency_keys")
    return [scalar(admin, f"select count(*) from public.{table} where owner = %s", (owner.id,)) for table in tables]


def test_a_question_is_session_run_and_task(rest: Connection, admin: Connection, owner: Person) -> None:
    """One call makes all three; the task is as it was asked, without its embedding, the run without its input."""
    answer = ask(rest, owner, query="q" * 8000)
    task, run = answer["task"], answer["run"]
    assert (answer["replayed"], answer["joined"]) == (False, False)
    names = ("owner", "run_id", "session_id", "status", "query", "context", "options")
    assert {name: task[name] for name in names} == {
        "owner": str(owner.id), "run_id": run["id"], "session_id": run["session_id"], "status": "launching",
        "query": "q" * 8000, "context": ["a text"], "options": {"use_cache": True},
    }  # fmt: skip
    assert "embedding" not in task
    assert "input" not in run
    assert (run["kind"], run["status"], run["limit_seconds"]) == ("research", "launching", LIMIT_SECONDS)
    assert types_of(admin, task["session_id"]) == ["run.created"]
    session = session_row(admin, task["session_id"])
    assert (session["status"], session["title"]) == ("running", "q" * 200)
    assert row_of(admin, run_of(answer, owner))["input"] == {"query": "What is it?"}


def test_a_run_of_research_has_a_task(rest: Connection, admin: Connection, owner: Person) -> None:
    """Admitted as a plan it is refused, in a session of its own, in a task's, and in a conversation."""
    with refused("PT409", "not_a_task"):
        admit(rest, owner, kind="research")
    done = answered(rest, owner)
    with refused("PT409", "not_a_task"):
        admit(rest, owner, kind="research", session_id=done["session_id"])
    turn = new_turn(rest, admin, owner)
    lose(admin, turn)
    with refused("PT409", "is_a_conversation"):
        admit(rest, owner, kind="research", session_id=turn.session_id)
    assert rows_of(admin, owner)[1:3] == [2, 1]


def test_a_task_follows_its_run(rest: Connection, owner: Person) -> None:
    """Running with the runner's first event, completed with the run's success; the answer is the log's last."""
    asked = ask(rest, owner)
    run = run_of(asked, owner)
    append(rest, run.runner, [1])
    assert task_row(rest, owner, asked["task"]["id"])["status"] == "running"
    say(rest, run.runner, 2, "research.answer", answer="too early")
    say(rest, run.runner, 3, "research.answer", **ANSWER)
    finish(rest, run.runner, 3, result={"answered": True})
    row = task_row(rest, owner, asked["task"]["id"])
    assert (row["status"], row["answer"], row["error"]) == ("completed", ANSWER, None)
    assert row["completed_at"] is not None


@pytest.mark.parametrize(("end", "status"), ENDS.items())
def test_no_other_end_answers_or_remembers(
    rest: Connection, admin: Connection, owner: Person, end: str, status: str
) -> None:
    """Though the runner had told an answer; the run's error is the task's."""
    asked = ask(rest, owner)
    run = run_of(asked, owner)
    say(rest, run.runner, 1, "research.answer", **ANSWER)
    admin.execute('select private.end_run(%s, %s, null, \'{"type": "why"}\')', (run.id, end))
    row = task_row(rest, owner, asked["task"]["id"])
    assert (row["status"], row["answer"], row["error"]) == (status, None, {"type": "why"})
    assert row["completed_at"] is not None
    assert memory(admin, owner) == {}


def test_the_end_remembers_once(rest: Connection, admin: Connection, owner: Person) -> None:
    """Also when it is told again and again; and what is told afterwards changes nothing."""
    asked = ask(rest, owner)
    run = run_of(asked, owner)
    say(rest, run.runner, 1, "research.answer", **ANSWER)
    assert memory(admin, owner) == {}
    for _ in range(3):
        finish(rest, run.runner, 1)
    with refused("PT409", "run_finished"):
        say(rest, run.runner, 2, "research.answer", answer="another")
    assert memory(admin, owner) == {UUID(asked["task"]["id"]): ANSWER}


def test_the_memory_commits_with_the_end(rest: Connection, admin: Connection, owner: Person) -> None:
    """An end that is undone leaves neither."""
    asked = ask(rest, owner)
    run = run_of(asked, owner)
    say(rest, run.runner, 1, "research.answer", **ANSWER)
    with rest.transaction(force_rollback=True):
        finish(rest, run.runner, 1)
    assert memory(admin, owner) == {}
    assert task_row(rest, owner, asked["task"]["id"])["status"] == "running"


@pytest.mark.parametrize(("says", "counts"), [(True, 1), (False, 0), ("no", 1), (None, 1)])
def test_an_answer_that_is_not_complete_is_not_remembered(
    rest: Connection, admin: Connection, owner: Person, says: object, counts: int
) -> None:
    """It is the task's answer all the same; whatever else stands there does not keep the run from ending."""
    row = answered(rest, owner, answer={**ANSWER, "is_complete": says})
    assert (row["status"], row["answer"]["answer"]) == ("completed", ANSWER["answer"])
    assert len(memory(admin, owner)) == counts


def test_nothing_is_remembered_without_an_answer_or_an_embedding(
    rest: Connection, admin: Connection, owner: Person
) -> None:
    """The task is completed all the same, with the answer that there is."""
    asked = ask(rest, owner)
    finish(rest, run_of(asked, owner).runner, 0)
    row = task_row(rest, owner, asked["task"]["id"])
    assert (row["status"], row["answer"]) == ("completed", None)
    assert answered(rest, owner, embedding=None, embedding_model=None)["answer"] == ANSWER
    assert memory(admin, owner) == {}


def test_a_plan_answers_no_task(rest: Connection, admin: Connection, owner: Person) -> None:
    """A later run in the task's session that says it has an answer is not believed."""
    row = answered(rest, owner)
    plan = run_of(admit(rest, owner, session_id=row["session_id"]), owner)
    say(rest, plan.runner, 1, "research.answer", answer="forged")
    finish(rest, plan.runner, 1)
    assert memory(admin, owner) == {UUID(row["id"]): ANSWER}
    assert task_row(rest, owner, row["id"]) == row


def test_deleting_the_session_forgets(rest: Connection, admin: Connection, owner: Person) -> None:
    """Task and memory go with it; another task's stay."""
    kept, gone = answered(rest, owner), answered(rest, owner)
    delete(rest, owner, gone["session_id"])
    assert list(memory(admin, owner)) == [UUID(kept["id"])]
    assert column(admin, "select id from public.research_tasks where owner = %s", (owner.id,)) == [UUID(kept["id"])]


def test_deleting_the_owner_forgets(rest: Connection, admin: Connection, owner: Person) -> None:
    """Everything, also a task that is live."""
    answered(rest, owner)
    ask(rest, owner)
    admin.execute("delete from auth.users where id = %s", (owner.id,))
    assert memory(admin, owner) == {}
    assert rows_of(admin, owner) == [0, 0, 0, 0]


def test_a_replay_answers_its_task(rest: Connection, admin: Connection, owner: Person) -> None:
    """As it is by then, with the estimate of then; nothing is made and nothing charged."""
    first = ask(rest, owner, idempotency_key="k", question_hash=OTHER_HASH)
    finish(rest, run_of(first, owner).runner, 0)
    again = ask(rest, owner, idempotency_key="k", question_hash=OTHER_HASH, embedding_tokens=10**6)
    assert (again["replayed"], again["joined"]) == (True, False)
    assert (again["task"]["id"], again["task"]["status"]) == (first["task"]["id"], "completed")
    assert (again["run"]["id"], again["run"]["status"]) == (first["run"]["id"], "succeeded")
    for name in ("estimated_duration_seconds", "estimated_cost_microusd"):
        assert again[name] == first[name]
    assert rows_of(admin, owner) == [1, 1, 1, 1]


def test_a_key_of_another_request_is_refused(rest: Connection, owner: Person) -> None:
    """Another question, or another endpoint's request."""
    ask(rest, owner, idempotency_key="k")
    with refused("PT409", "idempotency_key_reused"):
        ask(rest, owner, idempotency_key="k", request_hash=OTHER_HASH)
    with refused("PT409", "idempotency_key_reused"):
        admit(rest, owner, idempotency_key="k")


def test_the_key_of_a_deleted_task_finds_nothing(rest: Connection, owner: Person) -> None:
    """PT404, and not a second run."""
    asked = ask(rest, owner, idempotency_key="k")
    finish(rest, run_of(asked, owner).runner, 0)
    delete(rest, owner, asked["task"]["session_id"])
    with refused("PT404", "task_not_found"):
        ask(rest, owner, idempotency_key="k")


def test_a_failed_launch_gives_the_key_back(rest: Connection, admin: Connection, owner: Person) -> None:
    """The task has failed with the launch's error; sent again with its key the question gets another task."""
    first = ask(rest, owner, idempotency_key="k")
    other = ask(rest, owner, idempotency_key="other")
    SERVICE.call(rest, "fail_launch_v1", run_id=first["run"]["id"], error={"type": "no_sandbox"})
    row = task_row(rest, owner, first["task"]["id"])
    assert (row["status"], row["error"]) == ("failed", {"type": "no_sandbox"})
    again = ask(rest, owner, idempotency_key="k")
    assert again["replayed"] is False
    assert again["task"]["id"] != first["task"]["id"]
    assert ask(rest, owner, idempotency_key="other")["task"]["id"] == other["task"]["id"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"query": ""}, "23514"),
        ({"query": " \t\n"}, "23514"),
        ({"query": "q" * 8001}, "23514"),
        ({"query": None}, "23502"),
        ({"context": {"a": 1}}, "23514"),
        ({"context": ["a", 1]}, "23514"),
        ({"context": ["a", ["b"]]}, "23514"),
        ({"context": ["x" * 65536]}, "23514"),
        ({"options": ["a"]}, "23514"),
        ({"options": {"x": "x" * 16384}}, "23514"),
        ({"question_hash": "A" * 64}, "23514"),
        ({"question_hash": None}, "23502"),
        ({"input": ["a"]}, "23514"),
        ({"input": None}, "23502"),
        ({"input": {"x": "x" * 262144}}, "PT413"),
        ({"limit_seconds": 0}, "23514"),
        ({"limit_seconds": None}, "23502"),
        ({"embedding": "[1,2,3]"}, "PT400"),
        ({"embedding": str([0] * 384)}, "PT400"),
        ({"embedding": str([1e30] * 384)}, "PT400"),
        ({"embedding": "[NaN]"}, "22000"),
        ({"embedding_model": None}, "23514"),
        ({"embedding": None}, "23514"),
        ({"embedding_model": ""}, "23514"),
        ({"embedding_tokens": 10**18}, "23514"),
        ({"budget_microusd": 0}, "PT402"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_question_leaves_nothing(
    rest: Connection, admin: Connection, owner: Person, prices: None, changes: Json, code: str
) -> None:
    """What the schema refuses is refused whole, with its key."""
    with refused(code):
        ask(rest, owner, idempotency_key="k", **changes)
    assert rows_of(admin, owner) == [0, 0, 0, 0]


@pytest.mark.parametrize("lie", ["status", "session_id", "answer", "run_id", "source_age_seconds"])
def test_nothing_else_can_be_said_of_a_task(rest: Connection, owner: Person, lie: str) -> None:
    """There is no argument by which a caller could forge what the database decides."""
    with pytest.raises(psycopg.errors.UndefinedFunction):
        ask(rest, owner, **{lie: "completed"})


def test_others_may_not_ask(rest: Connection, admin: Connection, owner: Person) -> None:
    """Without a user, with a run's token, with one that watches, or as the control plane."""
    runner = run_of(ask(rest, owner), owner).runner
    for person in (ANON, SERVICE, runner):
        with refused("42501"):
            ask(rest, person)
    with refused("PT401", "not_signed_in"):
        ask(rest, Person("nobody", "authenticated", {"sub": str(uuid4())}))


def test_room_rate_and_length_are_those_of_runs(rest: Connection, admin: Connection, owner: Person) -> None:
    """Two submits a minute, one sandbox, ten minutes less the margin: each is refused as a plan is."""
    allow(rest, admin, owner, submits_per_minute=2, max_concurrent_sandboxes=1, max_sandbox_duration_ms=600_000)
    with refused("PT400", "invalid_request_error"):
        ask(rest, owner, limit_seconds=601)
    first = ask(rest, owner, limit_seconds=601, is_cut=True)
    assert first["run"]["limit_seconds"] == 600
    with refused("PT429", "too_many_sandboxes"):
        ask(rest, owner)
    finish(rest, run_of(first, owner).runner, 0)
    ask(rest, owner)
    with refused("PT429", "rate_limited"):
        ask(rest, owner)


def test_a_question_reserves_what_a_turn_does(rest: Connection, admin: Connection, owner: Person, prices: None) -> None:
    """The sandbox for as long as it may last and the model, or the budget where that is less; the end gives it back."""
    run = run_of(ask(rest, owner), owner)
    estimate = sandbox_microusd(LIMIT_SECONDS * 1000) + TURN_MICROUSD
    assert entries(admin, run) == [("reserve", None, estimate)]
    lose(admin, run)
    assert entries(admin, run)[-1] == ("settle", None, estimate)
    assert entries(admin, run_of(ask(rest, owner, budget_microusd=7), owner)) == [("reserve", None, 7)]


def test_a_month_without_money_refuses(rest: Connection, admin: Connection, owner: Person, prices: None) -> None:
    """PT402, with nothing written."""
    allow(rest, admin, owner, max_month_microusd=1000)
    with refused("PT402", "budget_exceeded"):
        ask(rest, owner, embedding_tokens=1000)
    assert month(rest, owner)["spent_microusd"] == 0
    assert rows_of(admin, owner) == [0, 0, 0, 0]


def test_planning_is_charged_and_ends_the_budget(
    rest: Connection, admin: Connection, owner: Person, prices: None
) -> None:
    """A request to the planner is spent with its event, and its runner hears of the run's budget."""
    run = run_of(ask(rest, owner, budget_microusd=50), owner)
    told = use(rest, run, 1, input_tokens=60)
    assert told["budget_reached"] == {"scope": "run", "spent_microusd": 60, "limit_microusd": 50}
    assert cost_of(admin, run.session_id) == 60


def test_embedding_is_charged_with_the_question(
    rest: Connection, admin: Connection, owner: Person, prices: None
) -> None:
    """To the owner and the task's session; it is not the run's, whose budget it leaves alone."""
    asked = ask(rest, owner, embedding_tokens=1_000_000, budget_microusd=100)
    assert cost_of(admin, asked["task"]["session_id"]) == month(rest, owner)["spent_microusd"] == 20_000
    query = "select kind, model, quantity, run_id from public.ledger where owner = %s and entry = 'spend'"
    assert admin.execute(query, (owner.id,)).fetchall() == [("embedding", "small", {"input_tokens": 1_000_000}, None)]
    assert append(rest, run_of(asked, owner).runner, [1])["budget_reached"] is None


def finished(rest: Connection, admin: Connection, owner: Person, seconds: int, microusd: int) -> str:
    """The id of a task that took so long and cost so much."""
    row = answered(rest, owner)
    admin.execute(
        "update public.research_tasks set created_at = completed_at - make_interval(secs => %s) where id = %s",
        (seconds, row["id"]),
    )
    admin.execute("update private.run_costs set spent_microusd = %s where run_id = %s", (microusd, row["run_id"]))
    return str(row["id"])


def estimate(answer: Json) -> tuple[int, int]:
    """Seconds and millionths of a dollar."""
    return answer["estimated_duration_seconds"], answer["estimated_cost_microusd"]


def test_the_first_task_is_estimated_at_a_minute(rest: Connection, owner: Person, prices: None) -> None:
    """And at what was reserved; neither is more than it may take."""
    reserved = sandbox_microusd(LIMIT_SECONDS * 1000) + TURN_MICROUSD
    assert estimate(ask(rest, owner)) == (60, reserved)
    assert estimate(ask(rest, owner, limit_seconds=30, budget_microusd=9)) == (30, 9)


def test_later_ones_are_estimated_by_the_owners_own(
    rest: Connection, admin: Connection, owner: Person, prices: None
) -> None:
    """Medians of those completed by a run: another's, a failed one and one from memory do not count."""
    finished(rest, admin, sign_up(admin, "stranger"), 400, 4000)
    sources = [finished(rest, admin, owner, *took) for took in ((10, 100), (20, 300), (200, 200))]
    lose(admin, run_of(ask(rest, owner), owner))
    assert estimate(from_memory(rest, owner, sources[0])) == (0, 0)
    assert estimate(ask(rest, owner)) == (20, 200)
    assert estimate(ask(rest, owner, limit_seconds=5, budget_microusd=50)) == (5, 50)


def test_twenty_tasks_are_enough(rest: Connection, admin: Connection, owner: Person) -> None:
    """What tasks took before the last twenty is forgotten; those from memory push none out."""
    allow(rest, admin, owner, submits_per_minute=1000)
    sources = [finished(rest, admin, owner, seconds, seconds) for seconds in [500] * 22 + [30] * 20]
    for source in sources[-20:]:
        from_memory(rest, owner, source)
    assert estimate(ask(rest, owner)) == (30, 30)


def test_a_sandbox_of_research_is_killed_as_a_plans(rest: Connection, admin: Connection, owner: Person) -> None:
    """The sweep finds it when its run has ended, and a silent run of research as any other."""
    asked = ask(rest, owner)
    run = run_of(asked, owner)
    sandbox = record(rest, run)
    run_on(admin, sandbox, 1)
    admin.execute("update public.agent_runs set created_at = now() - interval '1 minute' where id = %s", (run.id,))
    claimed = SERVICE.call(rest, "claim_stale_runs_v1", of_sandbox=sandbox)
    assert [one["run"]["id"] for one in claimed] == [str(run.id)]
    SERVICE.call(rest, "lose_run_v1", run_id=run.id, error={"type": "sandbox_gone"})
    admin.execute("update public.agent_runs set ended_at = now() - interval '1 minute' where id = %s", (run.id,))
    assert sandbox in [left["sandbox_id"] for left in SERVICE.call(rest, "left_sandboxes_v1")]
    assert task_row(rest, owner, asked["task"]["id"])["status"] == "lost"


def test_embeddings_of_two_tasks_are_kept_apart(rest: Connection, admin: Connection, owner: Person) -> None:
    """Each memory has its own task's."""
    one, far = answered(rest, owner), answered(rest, owner, embedding=FAR)
    query = "select task_id from public.task_results where owner = %s and embedding::text = %s::extensions.vector::text"
    assert column(admin, query, (owner.id, ONE)) == [UUID(one["id"])]
    assert column(admin, query, (owner.id, FAR)) == [UUID(far["id"])]

"""What the sweep asks of the database: who is silent, who may be restarted, what nobody owns, what has expired."""

from functools import partial
from uuid import UUID, uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.conversations import create, end_turn, message, new_turn, send, session_row, take, turn_of
from tests.sql.people import SERVICE, Connection, column, refused, scalar, sign_up
from tests.sql.runs import HASH, Json, Run, append, finish, log_of, lose, new_run, row_of
from tests.sql.turns import at_once, behind

GONE = {"type": "sandbox_gone", "message": "the sandbox is gone"}


@pytest.fixture(autouse=True)
def alone(admin: Connection) -> None:
    """The sweep looks at everything there is: what other tests left is taken away."""
    admin.execute("delete from auth.users")
    admin.execute("delete from public.hook_deliveries")
    admin.execute("delete from realtime.messages")


@pytest.fixture
def second(connect: Connect) -> Connection:
    """A second connection of PostgREST's."""
    return connect("authenticator")


def age(admin: Connection, run: Run, seconds: int) -> None:
    """As if the run had been admitted, and had given its last sign of life, so long ago; its deadline stays."""
    admin.execute(
        """
        update public.agent_runs set
          created_at = created_at - make_interval(secs => %(s)s),
          heartbeat_at = heartbeat_at - make_interval(secs => %(s)s),
          ended_at = ended_at - make_interval(secs => %(s)s)
        where id = %(id)s
        """,
        {"s": seconds, "id": run.id},
    )


def pass_deadline(admin: Connection, run: Run, seconds: int) -> None:
    """As if the run should have ended so long ago."""
    query = "update public.agent_runs set deadline_at = now() - make_interval(secs => %s) where id = %s"
    admin.execute(query, (seconds, run.id))


def claim(rest: Connection, **arguments: object) -> list[Json]:
    """The answer of claim_stale_runs_v1."""
    return list(SERVICE.call(rest, "claim_stale_runs_v1", **arguments))


def claimed(rest: Connection, **arguments: object) -> list[str]:
    """The ids in it."""
    return [facts["run"]["id"] for facts in claim(rest, **arguments)]


def release(rest: Connection, *runs: Run) -> None:
    """release_runs_v1."""
    SERVICE.call(rest, "release_runs_v1", run_ids="{" + ",".join(str(run.id) for run in runs) + "}")


def restart(rest: Connection, run: Run, expected: int) -> Json:
    """The answer of restart_run_v1."""
    return dict(SERVICE.call(rest, "restart_run_v1", run_id=run.id, expected=expected))


def record(rest: Connection, run: Run, sandbox: str) -> str:
    """The sandbox's id, recorded with the run."""
    SERVICE.call(rest, "record_sandbox_v1", run_id=run.id, sandbox_id=sandbox, template="base")
    return sandbox


def judge(rest: Connection, run: Run, sandbox: str, **changes: object) -> str | None:
    """The verdict on a sandbox whose metadata names the run."""
    seen = [{"sandbox_id": sandbox, "run_id": str(run.id), "session_id": str(run.session_id), **changes}]
    answer = SERVICE.call(rest, "judge_sandboxes_v1", seen=seen, idle_seconds=300)
    return answer[0]["verdict"] if answer else None


def test_a_run_is_stale_thirty_seconds_after_its_last_sign(rest: Connection, admin: Connection, run: Run) -> None:
    """Before, and while it gives signs, it is nobody's business; an ended one never is."""
    assert claimed(rest) == []
    append(rest, run.runner, [1])
    age(admin, run, 25)
    assert claimed(rest) == []
    age(admin, run, 10)
    assert claimed(rest) == [str(run.id)]
    release(rest, run)
    run.runner.call(rest, "heartbeat_v1")
    assert claimed(rest) == []
    age(admin, run, 60)
    finish(rest, run.runner, 1)
    assert claimed(rest) == []


def test_a_run_without_any_sign_counts_from_its_admission(rest: Connection, admin: Connection, run: Run) -> None:
    """After 30 s it is looked at; after 120 s whoever launched it is gone."""
    age(admin, run, 40)
    assert [facts["is_launch_lost"] for facts in claim(rest)] == [False]
    release(rest, run)
    age(admin, run, 90)
    assert [facts["is_launch_lost"] for facts in claim(rest)] == [True]


def test_a_run_that_lives_on_past_its_deadline_is_overdue(rest: Connection, admin: Connection, run: Run) -> None:
    """Its runner has half a minute to end it itself."""
    append(rest, run.runner, [1])
    pass_deadline(admin, run, 20)
    assert claimed(rest) == []
    pass_deadline(admin, run, 40)
    assert [facts["is_overdue"] for facts in claim(rest)] == [True]


def test_a_claim_tells_all_that_looking_takes(rest: Connection, admin: Connection) -> None:
    """The run without its commands but with its egress, the session with its facts, whose sandbox it is."""
    run = new_run(rest, admin, input={"commands": [{"command": "true"}], "egress": ["example.com"]})
    sandbox = record(rest, run, f"a-{run.id}")
    age(admin, run, 40)
    (facts,) = claim(rest)
    assert facts["run"]["input"] == {"egress": ["example.com"]}
    assert (facts["run"]["sandbox_id"], facts["has_own_sandbox"]) == (sandbox, True)
    assert (facts["session"]["id"], facts["session"]["sandbox_id"]) == (str(run.session_id), sandbox)


@pytest.mark.parametrize("after_seq", ["mischief", {}, None, True, 10**400, -1], ids=lambda value: str(value)[:9])
def test_nobodys_input_stops_the_sweep(rest: Connection, admin: Connection, run: Run, after_seq: object) -> None:
    """What a run's owner wrote where a turn has its place in the log: every other run is claimed all the same."""
    forged = new_run(rest, admin, input={"after_seq": after_seq})
    lose(admin, forged)
    later = new_run(rest, admin, forged.owner, session_id=forged.session_id)
    for each in (run, later):
        age(admin, each, 31)
    assert set(claimed(rest)) == {str(run.id), str(later.id)}


def test_a_later_turn_has_no_sandbox_of_its_own(rest: Connection, admin: Connection) -> None:
    """What an earlier turn has used holds the session's files."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn, f"a-{turn.id}")
    end_turn(rest, admin, turn)
    later = turn_of(send(rest, turn.owner, turn.session_id, message()), turn.owner)
    record(rest, later, sandbox)
    age(admin, later, 40)
    assert [facts["has_own_sandbox"] for facts in claim(rest)] == [False]


def test_what_one_sweep_has_no_other_gets(rest: Connection, admin: Connection, run: Run) -> None:
    """Until it is released, or the sweep that has it must be dead."""
    age(admin, run, 40)
    assert claimed(rest) == [str(run.id)]
    assert claimed(rest) == []
    release(rest, run)
    assert claimed(rest) == [str(run.id)]
    admin.execute("update public.run_repairs set claimed_at = claimed_at - interval '121 seconds'")
    assert claimed(rest) == [str(run.id)]


def test_a_second_sweep_waits_and_gets_nothing(
    rest: Connection, second: Connection, admin: Connection, run: Run
) -> None:
    """Both saw the run unclaimed: the second is seen to wait for the first, and then has nothing."""
    age(admin, run, 40)
    assert behind(admin, rest, lambda: claimed(rest), second, lambda: claimed(second)) == []


def test_sweeps_at_once_share_the_runs(connect: Connect, rest: Connection, admin: Connection) -> None:
    """Each run falls to one of four sweeps, and none is left."""
    runs = [new_run(rest, admin) for _ in range(12)]
    for run in runs:
        age(admin, run, 40)
    sweeps = [connect("authenticator") for _ in range(4)]
    shares = at_once([partial(claimed, each, at_most=5) for each in sweeps])
    found = [id for share in shares for id in share] + claimed(rest)
    assert sorted(found) == sorted(str(run.id) for run in runs)


def test_one_sandbox_can_be_looked_at_before_its_time(rest: Connection, run: Run) -> None:
    """Its live run is taken however lively it is; another sandbox's is not."""
    sandbox = record(rest, run, f"a-{run.id}")
    assert claimed(rest, of_sandbox="another") == []
    assert claimed(rest, of_sandbox=sandbox) == [str(run.id)]
    assert claimed(rest, of_sandbox=sandbox) == []


def test_a_run_is_restarted_three_times(rest: Connection, admin: Connection, run: Run) -> None:
    """Each time under the next epoch; then it is spent, and stays as it is."""
    for epoch in (1, 2, 3):
        assert restart(rest, run, epoch) == {"epoch": epoch + 1, "is_spent": False}
    assert restart(rest, run, 4) == {"epoch": None, "is_spent": True}
    assert (row_of(admin, run)["epoch"], row_of(admin, run)["status"]) == (4, "launching")
    with refused("PT403", "stale_epoch"):
        append(rest, run.runner, [1])
    with refused("PT404", "run_not_found"):
        SERVICE.call(rest, "restart_run_v1", run_id=uuid4(), expected=1)


def test_a_restarted_run_has_its_thirty_seconds_again(rest: Connection, admin: Connection, run: Run) -> None:
    """The sweep after the one that started a runner does not find that runner late."""
    append(rest, run.runner, [1])
    age(admin, run, 40)
    restart(rest, run, 1)
    assert claimed(rest) == []


def test_of_two_restarts_one_counts(rest: Connection, second: Connection, admin: Connection, run: Run) -> None:
    """Both saw epoch 1: the second waits, and learns that it is not that any more."""
    answer = behind(admin, rest, lambda: restart(rest, run, 1), second, lambda: restart(second, run, 1))
    assert answer == {"epoch": None, "is_spent": False}
    assert scalar(admin, "select restarts from public.run_repairs where run_id = %s", (run.id,)) == 1


def test_an_ended_run_is_not_restarted(rest: Connection, admin: Connection, run: Run) -> None:
    """Nor is it called spent."""
    lose(admin, run)
    assert restart(rest, run, 1) == {"epoch": None, "is_spent": False}


def test_an_overdue_run_times_out(rest: Connection, admin: Connection, run: Run) -> None:
    """Once, with the limit in its error; one with time left, or one that has ended, stays as it is."""
    overdue = partial(SERVICE.call, rest, "end_overdue_v1", run_id=run.id)
    assert overdue()["status"] == "launching"
    pass_deadline(admin, run, 40)
    ended = overdue()
    assert (ended["status"], "input" in ended) == ("timed_out", False)
    assert ended["error"] == {"type": "run_timed_out", "message": "the run went over 600 seconds"}
    assert [kind for _, _, kind in log_of(admin, run)][-2:] == ["run.timed_out", "session.status_idle"]
    assert overdue() == ended
    assert len(log_of(admin, run)) == 3


def lost_turn(rest: Connection, admin: Connection) -> Run:
    """A turn that went down with its sandbox before it took its message."""
    turn = new_turn(rest, admin)
    SERVICE.call(rest, "lose_run_v1", run_id=turn.id, error=GONE)
    return turn


def waiting(rest: Connection) -> list[str]:
    """The answer of waiting_sessions_v1."""
    return list(SERVICE.call(rest, "waiting_sessions_v1"))


def admit_for(rest: Connection, session_id: UUID) -> Json:
    """The answer of admit_waiting_for_v1."""
    return dict(SERVICE.call(rest, "admit_waiting_for_v1", session_id=session_id, limit_seconds=60))


def test_a_message_that_went_down_with_its_sandbox_waits(rest: Connection, admin: Connection) -> None:
    """Its session is named until a run has been admitted for it, which is the owner's."""
    turn = lost_turn(rest, admin)
    assert waiting(rest) == [str(turn.session_id)]
    answer = admit_for(rest, turn.session_id)
    assert (answer["admitted"], answer["run"]["owner"]) == (True, str(turn.owner.id))
    assert session_row(admin, turn.session_id)["status"] == "running"
    assert waiting(rest) == []
    assert admit_for(rest, turn.session_id)["admitted"] is False
    with refused("PT404", "session_not_found"):
        admit_for(rest, uuid4())


def test_of_two_sweeps_one_answers_a_waiting_message(rest: Connection, second: Connection, admin: Connection) -> None:
    """The second waits for the first, and admits nothing."""
    turn = lost_turn(rest, admin)
    admit = partial(admit_for, session_id=turn.session_id)
    assert behind(admin, rest, lambda: admit(rest), second, lambda: admit(second))["admitted"] is False


def test_nobody_waits_who_was_answered_or_whose_session_is_over(rest: Connection, admin: Connection) -> None:
    """A message that was taken, one whose runner kept dying, one in an archived session: no sweep starts them again."""
    taken = new_turn(rest, admin)
    take(rest, taken)
    SERVICE.call(rest, "lose_run_v1", run_id=taken.id, error=GONE)
    died = new_turn(rest, admin)
    SERVICE.call(rest, "lose_run_v1", run_id=died.id, error={"type": "runner_died"})
    archived = lost_turn(rest, admin)
    archived.owner.call(rest, "archive_session_v1", session_id=archived.session_id, request_hash=HASH)
    assert waiting(rest) == []
    assert admit_for(rest, archived.session_id)["admitted"] is False


def left(rest: Connection) -> list[tuple[str, str]]:
    """(sandbox, reason) of left_sandboxes_v1."""
    return [(row["sandbox_id"], row["reason"]) for row in SERVICE.call(rest, "left_sandboxes_v1")]


def test_the_sandbox_of_an_ended_plan_is_left_after_half_a_minute(
    rest: Connection, admin: Connection, run: Run
) -> None:
    """Until then its runner and the endpoint may still be closing it; closed, it is no more."""
    sandbox = record(rest, run, f"a-{run.id}")
    age(admin, run, 300)
    assert left(rest) == []
    lose(admin, run)
    assert left(rest) == []
    age(admin, run, 31)
    assert left(rest) == [(sandbox, "lost")]
    SERVICE.call(rest, "close_sandbox_v1", sandbox_id=sandbox, reason="lost")
    assert left(rest) == []


def test_a_conversation_keeps_its_sandbox_until_it_ends(rest: Connection, admin: Connection) -> None:
    """An idle one may be spoken to tomorrow; an archived one may not."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn, f"a-{turn.id}")
    end_turn(rest, admin, turn)
    age(admin, turn, 3000)
    assert left(rest) == []
    turn.owner.call(rest, "archive_session_v1", session_id=turn.session_id, request_hash=HASH)
    assert left(rest) == []
    admin.execute("update public.agent_sessions set archived_at = archived_at - interval '31 seconds'")
    assert left(rest) == [(sandbox, "archived")]


def test_a_sandbox_is_stray_once_its_end_is_written(rest: Connection, run: Run) -> None:
    """Recorded and open it has an owner; closed it should not be there any more."""
    sandbox = record(rest, run, f"a-{run.id}")
    assert judge(rest, run, sandbox) is None
    SERVICE.call(rest, "close_sandbox_v1", sandbox_id=sandbox, reason="vanished")
    assert judge(rest, run, sandbox) == "stray"


def test_a_sandbox_that_was_never_recorded_is_its_launchs_alone(rest: Connection, admin: Connection, run: Run) -> None:
    """While the launch may be about to store it; not after, and not once the run is on in another one."""
    assert judge(rest, run, "new") is None
    age(admin, run, 121)
    assert judge(rest, run, "new") == "stray"
    record(rest, run, f"a-{run.id}")
    append(rest, run.runner, [1])
    assert (judge(rest, run, "new"), judge(rest, run, f"a-{run.id}")) == ("stray", None)


def test_a_sandbox_whose_session_is_deleted_is_stray(rest: Connection, admin: Connection) -> None:
    """So is one whose metadata names a run of another session."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn, f"a-{turn.id}")
    end_turn(rest, admin, turn)
    assert judge(rest, turn, sandbox) is None
    assert judge(rest, turn, "other", session_id=str(uuid4())) == "stray"
    turn.owner.call(rest, "delete_session_v1", session_id=turn.session_id)
    assert judge(rest, turn, sandbox) == "stray"


def test_a_sandbox_is_idle_when_its_conversation_has_been_so_for_long(rest: Connection, admin: Connection) -> None:
    """A minute more than it is given; not while a run is live, and a plan's never is."""
    turn = new_turn(rest, admin)
    sandbox = record(rest, turn, f"a-{turn.id}")
    age(admin, turn, 3000)
    assert judge(rest, turn, sandbox) is None
    end_turn(rest, admin, turn)
    age(admin, turn, 350)
    assert judge(rest, turn, sandbox) is None
    age(admin, turn, 20)
    assert judge(rest, turn, sandbox) == "idle"
    send(rest, turn.owner, turn.session_id, message())
    assert judge(rest, turn, sandbox) is None


def test_a_delivery_is_new_once(rest: Connection, second: Connection, admin: Connection) -> None:
    """Also when it comes twice at the same moment."""
    take_it = partial(SERVICE.call, function="take_delivery_v1", id="evt-1")
    assert behind(admin, rest, lambda: take_it(rest), second, lambda: take_it(second)) is False
    assert take_it(rest) is False
    assert SERVICE.call(rest, "take_delivery_v1", id="evt-2") is True


def test_what_has_had_its_time_is_deleted(rest: Connection, admin: Connection) -> None:
    """Keys and deliveries of more than a day, previews of more than an hour; what is younger stays, and the log too."""
    owner = sign_up(admin)
    for key in ("old", "young"):
        create(rest, owner, message(), idempotency_key=key)
        SERVICE.call(rest, "take_delivery_v1", id=key)
    admin.execute("update public.idempotency_keys set created_at = now() - interval '25 hours' where key = 'old'")
    admin.execute("update public.hook_deliveries set received_at = now() - interval '25 hours' where id = 'old'")
    events = scalar(admin, "select count(*) from realtime.messages")
    for minutes in (10, 70):
        admin.execute(
            """
            insert into realtime.messages (topic, extension, event, private, payload, inserted_at) values
              ('session:x', 'broadcast', 'previews', true, '{}', (now() at time zone 'utc') - make_interval(mins => %s))
            """,
            (minutes,),
        )
    expected = {"idempotency_keys": 1, "deliveries": 1, "previews": 1}
    assert SERVICE.call(rest, "delete_expired_v1") == expected
    assert SERVICE.call(rest, "delete_expired_v1") == dict.fromkeys(expected, 0)
    assert column(admin, "select key from public.idempotency_keys") == ["young"]
    assert scalar(admin, "select count(*) from realtime.messages") == events + 1

"""What people do with conversations, seen on Supabase's wire: one call each, and nothing twice."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from functions import bundle
from functions.errors import Conflict, ModelNotConfigured, SandboxUnavailable, StoreUnavailable
from functions.events import Posted, posted
from functions.identity import Caller, RunTokens
from functions.launch import Launcher
from functions.recovery import Recovery
from functions.sandboxes import Sandboxes
from functions.settings import Settings
from functions.store import Store
from functions.timing import Timings
from functions.turns import Message, NewSession, Turns

Json = dict[str, Any]
HELLO = posted([{"type": "user.message", "content": [{"type": "text", "text": "hello"}]}])
INTERRUPT = posted([{"type": "user.interrupt"}])
CALLER = Caller(uuid4(), "the.users.token")
SESSION = uuid4()
# A session as the call that admits a run answers it.
FACTS: Json = {
    "id": str(SESSION), "resources": [], "sandbox_id": None, "had_sandbox": False, "environment": {}, "taken_seq": 0,
    "agent": {"id": "default"}, "has_transcript": False, "lost_after_seq": None, "budget_microusd": None,
}  # fmt: skip


class Supabase:
    """REST at the wire: answers each function as scripted, and keeps what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Json, str]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        function = request.url.path.rpartition("/")[2]
        self.asked.append((function, json.loads(request.content), request.headers["authorization"]))
        answer = self.answers[function]
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    @property
    def functions(self) -> list[str]:
        return [function for function, _, _ in self.asked]


Open = Callable[[Supabase, Settings], Turns]


@pytest.fixture
async def turns() -> AsyncIterator[Open]:
    """Makes Turns whose Supabase is scripted, and whose E2B is not there."""
    clients: list[httpx.AsyncClient] = []

    def made(supabase: Supabase, settings: Settings) -> Turns:
        clients.append(httpx.AsyncClient(transport=httpx.MockTransport(supabase.answer)))
        store, tokens = Store(settings, clients[-1]), RunTokens(settings)
        sandboxes = Sandboxes(settings, bundle.build())
        launcher = Launcher(settings, store, sandboxes, tokens)
        recovery = Recovery(settings, store, sandboxes, tokens, launcher)
        return Turns(settings, store, sandboxes, launcher, recovery)

    yield made
    for client in clients:
        await client.aclose()


@pytest.fixture
def with_key(settings: Settings) -> Settings:
    """A deployment that may call a model; nothing answers for E2B."""
    known = settings.model_dump(exclude_unset=True)
    return Settings(**{**known, "anthropic_api_key": "sk-ant-canary", "e2b_api_url": "http://127.0.0.1:9"})


def message(events: Posted, **changes: Any) -> Message:
    known: Json = {"on_busy": "queue", "request_hash": "0" * 64, "idempotency_key": "key"}
    return Message(SESSION, events, **{**known, **changes})


def order(events: Posted) -> NewSession:
    return NewSession(
        agent={"id": "default"},
        environment_id="default",
        environment={},
        title=None,
        metadata={},
        resources=[],
        secrets={},
        budget_microusd=None,
        posted=events,
        request_hash="0" * 64,
        idempotency_key=None,
    )


def answered(**changes: Any) -> Json:
    return {"session": {"id": str(SESSION)}, "run": None, "events": [], "admitted": False, "replayed": False, **changes}


async def test_a_message_is_one_call_as_the_caller(turns: Open, with_key: Settings) -> None:
    """All that the client sent goes along, and the caller's own token: RLS decides."""
    supabase = Supabase(send_events_v1=answered())
    await turns(supabase, with_key).send(message(HELLO, on_busy="interrupt"), CALLER, Timings())
    ((function, arguments, authorization),) = supabase.asked
    assert (function, authorization) == ("send_events_v1", "Bearer the.users.token")
    assert arguments == {
        "session_id": str(SESSION),
        "events": HELLO.events,
        "attachments": [],
        "on_busy": "interrupt",
        "limit_seconds": with_key.conversation_limit_seconds,
        "request_hash": "0" * 64,
        "idempotency_key": "key",
    }


async def test_a_repeat_of_what_is_over_neither_launches_nor_rings(turns: Open, with_key: Settings) -> None:
    """The first request did what was to be done."""
    over = {"id": str(uuid4()), "sandbox_id": "gone", "session_id": str(SESSION), "epoch": 1, "ended_at": "2026-11-21"}
    supabase = Supabase(send_events_v1=answered(run=over, replayed=True))
    await turns(supabase, with_key).send(message(HELLO), CALLER, Timings())
    assert supabase.functions == ["send_events_v1"]


async def test_a_launch_that_fails_must_not_be_repeated_without_a_key(turns: Open, with_key: Settings) -> None:
    """The message is in the log: the official SDK, which sends no keys, is told not to send it again by itself."""
    run = {"id": str(uuid4()), "session_id": str(SESSION), "epoch": 1, "limit_seconds": 60, "kind": "claude"}
    told = answered(run=run, admitted=True, session=FACTS)
    for key, header in ((None, "false"), ("a-key", None)):
        supabase = Supabase(send_events_v1=told, fail_launch_v1={"ended_at": "2026-11-21"})
        with pytest.raises(SandboxUnavailable) as refused:
            await turns(supabase, with_key).send(message(HELLO, idempotency_key=key), CALLER, Timings())
        assert refused.value.headers.get("x-should-retry") == header
        assert refused.value.headers["Retry-After"]


async def test_a_run_without_a_sandbox_is_not_rung(turns: Open, with_key: Settings) -> None:
    """It is being launched by another request, and reads the log when it begins."""
    live = {"id": str(uuid4()), "sandbox_id": None, "session_id": str(SESSION), "epoch": 1, "ended_at": None}
    supabase = Supabase(send_events_v1=answered(run=live))
    await turns(supabase, with_key).send(message(HELLO), CALLER, Timings())
    assert supabase.functions == ["send_events_v1"]


async def test_a_ring_that_fails_is_no_failure(turns: Open, with_key: Settings) -> None:
    """E2B is away: the message is in the log, and the runner finds it with its next heartbeat."""
    live = {"id": str(uuid4()), "sandbox_id": "sandbox", "session_id": str(SESSION), "epoch": 1, "ended_at": None}
    supabase = Supabase(send_events_v1=answered(run=live))
    answer = await turns(supabase, with_key).send(message(INTERRUPT), CALLER, Timings())
    assert answer["run"] == live
    assert supabase.functions == ["send_events_v1"]


async def test_without_a_model_key_nothing_is_written(turns: Open, settings: Settings) -> None:
    """Neither a session nor a message; what needs no model is taken."""
    supabase = Supabase(send_events_v1=answered(), create_session_v1=answered())
    made = turns(supabase, settings)
    with pytest.raises(ModelNotConfigured):
        await made.send(message(HELLO), CALLER, Timings())
    with pytest.raises(ModelNotConfigured):
        await made.create(order(HELLO), CALLER, Timings())
    assert supabase.asked == []
    await made.send(message(INTERRUPT), CALLER, Timings())
    await made.create(order(Posted([], [])), CALLER, Timings())
    assert supabase.functions == ["send_events_v1", "create_session_v1"]


async def test_a_refusal_of_sql_is_the_callers(turns: Open, with_key: Settings) -> None:
    """With its own word; a failure of Supabase's is none."""
    busy = httpx.Response(409, json={"code": "PT409", "message": "session_busy", "details": None, "hint": None})
    with pytest.raises(Conflict) as refused:
        await turns(Supabase(send_events_v1=busy), with_key).send(message(HELLO), CALLER, Timings())
    assert refused.value.type == "session_busy"
    broken = httpx.Response(500, json={"code": "XX000", "message": "x", "details": None, "hint": None})
    with pytest.raises(StoreUnavailable):
        await turns(Supabase(send_events_v1=broken), with_key).send(message(HELLO), CALLER, Timings())


async def test_an_archive_does_not_fail_for_a_sandbox_that_stays(turns: Open, with_key: Settings) -> None:
    """The session has ended all the same; what is left behind is the sweep's, and its row stays open."""
    ended = {"id": str(SESSION), "status": "terminated", "sandbox_ids": ["one", "two"]}
    supabase = Supabase(archive_session_v1=ended)
    answer = await turns(supabase, with_key).archive(CALLER, SESSION, "0" * 64, None)
    assert answer["status"] == "terminated"
    assert supabase.functions == ["archive_session_v1"]

"""The client against scripted endpoints: what it sends, what it repeats, what it makes of a refusal."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from sandstream import (
    Command,
    ConflictError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    NotPermittedError,
    RefusedError,
    Sandstream,
    UnavailableError,
)
from sandstream import endpoints as wire
from tests.client.fake_endpoints import FakeEndpoints, refused

pytestmark = pytest.mark.usefixtures("quick")

RUN: dict[str, Any] = {
    "type": "run",
    "id": "11111111-1111-4111-8111-111111111111",
    "session_id": "22222222-2222-4222-8222-222222222222",
    "kind": "commands",
    "status": "launching",
    "created_at": "2026-11-21T08:00:00.123456+00:00",
    "a_field_of_tomorrow": True,
}


def accepted(**changes: Any) -> Response:
    """202 with the run."""
    return JSONResponse(RUN | changes, 202)


async def test_a_submission_sends_what_was_given_and_nothing_else(endpoints: FakeEndpoints) -> None:
    """What is left out is the deployment's to decide, so it is not sent."""
    endpoints.script(accepted())
    async with Sandstream(endpoints.url, "a-token") as client:
        run = await client.submit(["true", Command(command="make", timeout=60, retryable=True)], egress=["a.test"])
    asked = endpoints.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/runs")
    assert asked.body == {
        "commands": [{"command": "true"}, {"command": "make", "timeout": 60, "retryable": True}],
        "egress": ["a.test"],
    }
    assert asked.headers["authorization"] == "Bearer a-token"
    assert (str(run.id), run.status, run.has_ended) == (RUN["id"], "launching", False)


async def test_everything_that_may_be_given_is_sent(endpoints: FakeEndpoints) -> None:
    """Session, title, metadata, the run's timeout, and the caller's own idempotency key."""
    endpoints.script(accepted())
    session = uuid.uuid4()
    async with Sandstream(endpoints.url, "a-token") as client:
        await client.submit(
            ["true"], session_id=session, title="t", metadata={"a": "b"}, timeout=9, idempotency_key="my-key"
        )
    body = endpoints.asked[0].body
    assert (body["session_id"], body["title"], body["metadata"], body["timeout"]) == (str(session), "t", {"a": "b"}, 9)
    assert endpoints.asked[0].headers["idempotency-key"] == "my-key"


@pytest.mark.parametrize(
    "failure",
    [
        None,
        refused(502, "sandbox_unavailable"),
        refused(503, "store_unavailable", retry_after="0"),
        refused(429, "rate_limit_error", retry_after="0"),
        Response("<html>bad gateway</html>", 502),
    ],
    ids=["torn", "502", "503", "429", "html"],
)
async def test_a_submission_is_repeated_with_the_same_key(endpoints: FakeEndpoints, failure: Response | None) -> None:
    """A connection that breaks may have been heard: only the key makes it safe to ask again."""
    endpoints.script(failure, failure, accepted())
    async with Sandstream(endpoints.url, "a-token") as client:
        await client.submit(["true"])
        await client.submit(["true"])
    keys = [asked.headers["idempotency-key"] for asked in endpoints.asked]
    assert keys[0] == keys[1] == keys[2]
    assert keys[3] != keys[0]
    assert endpoints.asked[0].body == endpoints.asked[2].body


async def test_repeating_has_an_end(endpoints: FakeEndpoints) -> None:
    """A deployment that stays away is an error of its own kind."""
    endpoints.script(refused(503, "store_unavailable", "Supabase failed"))
    async with Sandstream(endpoints.url, "a-token") as client:
        with pytest.raises(UnavailableError, match="Supabase failed"):
            await client.submit(["true"])
    assert len(endpoints.asked) == wire.ATTEMPTS


async def test_what_a_server_says_will_not_help_is_not_repeated(endpoints: FakeEndpoints) -> None:
    """A deployment without a model key, or a part that is not built, stays so: one attempt, whatever the status."""
    for status, type in ((503, "model_not_configured"), (501, "not_implemented")):
        endpoints.asked.clear()
        endpoints.script(refused(status, type, "not here", x_should_retry="false"))
        async with Sandstream(endpoints.url, "a-token") as client:
            with pytest.raises(RefusedError, match="not here") as raised:
                await client.create_session("hello")
        assert (raised.value.type, len(endpoints.asked)) == (type, 1)


async def test_what_a_server_asks_for_is_waited_for_unless_it_is_too_long(endpoints: FakeEndpoints) -> None:
    """An hour is the caller's to wait, not ours."""
    endpoints.script(refused(429, "rate_limit_error", retry_after="3600"))
    async with Sandstream(endpoints.url, "a-token") as client:
        with pytest.raises(UnavailableError) as raised:
            await client.submit(["true"])
    assert raised.value.retry_after == 3600
    assert len(endpoints.asked) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequestError),
        (401, NotAuthenticatedError),
        (403, NotPermittedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, InvalidRequestError),
        (415, InvalidRequestError),
        (422, InvalidRequestError),
        (418, RefusedError),
    ],
)
async def test_a_refusal_is_raised_once_with_its_words(
    endpoints: FakeEndpoints, status: int, error: type[RefusedError]
) -> None:
    """Its kind, its status, what it minds, and the request's name for a question to the operators."""
    endpoints.script(refused(status, "some_error", "no, thank you"))
    async with Sandstream(endpoints.url, "a-token") as client:
        with pytest.raises(error, match="no, thank you") as raised:
            await client.submit(["true"])
    refusal = raised.value
    assert (refusal.status, refusal.type, refusal.param) == (status, "some_error", "commands")
    assert refusal.request_id == "req_1"
    assert len(endpoints.asked) == 1


async def test_a_refused_token_is_exchanged_once(endpoints: FakeEndpoints) -> None:
    """The source of tokens may have a newer one; if that is refused too, the answer is no."""
    tokens = ["old", "new", "newest"]

    async def source() -> str:
        return tokens.pop(0)

    endpoints.script(refused(401, "authentication_error"), accepted())
    async with Sandstream(endpoints.url, source) as client:
        await client.submit(["true"])
        assert [asked.headers["authorization"] for asked in endpoints.asked] == ["Bearer old", "Bearer new"]
        keys = {asked.headers["idempotency-key"] for asked in endpoints.asked}
        assert len(keys) == 1
        endpoints.script(refused(401, "authentication_error"))
        with pytest.raises(NotAuthenticatedError):
            await client.run(RUN["id"])


async def test_a_deployment_that_is_not_there_is_unavailable() -> None:
    """Nobody listens."""
    async with Sandstream("http://127.0.0.1:9", "a-token") as client:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await client.sessions()


async def test_a_submission_tells_where_its_time_went(endpoints: FakeEndpoints) -> None:
    """The endpoints split it into their own share and their waits for others."""
    answer = accepted()
    answer.headers["Server-Timing"] = "admit;dur=3.1, create;desc=x, ours;dur=2, total;dur=80.25"
    endpoints.script(answer)
    async with Sandstream(endpoints.url, "a-token") as client:
        assert (await client.submit(["true"])).timings_ms == {"admit": 3.1, "ours": 2.0, "total": 80.25}


async def test_lists_and_single_things_are_asked_for_by_their_names(endpoints: FakeEndpoints) -> None:
    """The paths, the parameters, and pages that say where they go on."""
    session = {
        "id": RUN["session_id"], "title": None, "status": "idle", "last_seq": 7, "metadata": {},
        "created_at": RUN["created_at"], "updated_at": RUN["created_at"],
    }  # fmt: skip
    event = {
        "id": "sevt_1", "seq": 7, "session_id": RUN["session_id"], "run_id": RUN["id"], "type": "run.created",
        "kind": "commands", "created_at": RUN["created_at"], "processed_at": RUN["created_at"],
    }  # fmt: skip
    endpoints.script(
        JSONResponse({"data": [session], "has_more": True, "next_cursor": "c1"}),
        JSONResponse(session),
        JSONResponse({"data": [event], "has_more": False, "next_cursor": None}),
        accepted(cancel_requested_at=RUN["created_at"]),
        accepted(status="succeeded"),
    )
    async with Sandstream(endpoints.url, "a-token") as client:
        page = await client.sessions(limit=1, after="c0")
        assert (page.data[0].last_seq, page.has_more, page.next_cursor) == (7, True, "c1")
        assert (await client.session(RUN["session_id"])).status == "idle"
        read = (await client.events(RUN["session_id"], after=6, limit=5)).data[0]
        assert (read.seq, read.id, read.data) == (7, "sevt_1", {"id": "sevt_1", "kind": "commands"})
        assert (await client.cancel(RUN["id"])).cancel_requested_at is not None
        assert (await client.run(RUN["id"])).has_ended
    paths = [(asked.method, asked.path, asked.query) for asked in endpoints.asked]
    assert paths == [
        ("GET", "/v1/sessions", {"limit": "1", "after": "c0"}),
        ("GET", f"/v1/sessions/{RUN['session_id']}", {}),
        ("GET", f"/v1/sessions/{RUN['session_id']}/events", {"after": "6", "limit": "5"}),
        ("POST", f"/v1/runs/{RUN['id']}/cancel", {}),
        ("GET", f"/v1/runs/{RUN['id']}", {}),
    ]
    assert endpoints.asked[3].headers["idempotency-key"]

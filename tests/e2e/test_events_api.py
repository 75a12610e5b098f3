"""Sending to a conversation and listing its log, with the official SDK and by plain HTTP; the test is the runner."""

import base64
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.beta.sessions import BetaManagedAgentsSendSessionEvents

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.acting import Actor, acting, message
from tests.e2e.conversing import log, of, official, send, types
from tests.e2e.faults import Fault, endpoints, fault_proxy
from tests.e2e.test_refusals import assert_refused

PNG = base64.b64encode(b"\x89PNG a canary of a picture").decode()
INTERRUPT = {"type": "user.interrupt"}


@pytest.fixture
async def actor(stack: Stack, owner: Person) -> AsyncIterator[Actor]:
    """A conversation with a live run, driven by the test."""
    async with acting(stack, owner, "hello") as made:
        yield made


@pytest.fixture
async def sdk(owner: Person) -> AsyncIterator[AsyncAnthropic]:
    """The owner, with the official SDK."""
    async with official(owner) as client:
        yield client


def confirm(tool_use_id: str, result: str = "allow", **more: Any) -> dict[str, Any]:
    return {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, "result": result, **more}


async def test_what_is_sent_is_answered_as_it_stands_in_the_log(sdk: AsyncAnthropic, actor: Actor) -> None:
    """Each event with its id and seq; the list shows the very same."""
    sent = await send(sdk, actor.session_id, message("one"), INTERRUPT, message("two"))
    assert types(sent) == ["user.message", "user.interrupt", "user.message"]
    assert [event.seq for event in sent] == [3, 4, 5]
    listed = await log(sdk, actor.session_id)
    assert [event.to_dict() for event in listed[2:]] == [event.to_dict() for event in sent]


async def test_a_message_while_a_turn_runs_is_queued(sdk: AsyncAnthropic, actor: Actor) -> None:
    """By default it waits in the log for the run that is on; no other run is admitted."""
    await send(sdk, actor.session_id, message("more"))
    assert types(await log(sdk, actor.session_id)) == ["user.message", "run.created", "user.message"]


async def test_a_message_may_interrupt(sdk: AsyncAnthropic, actor: Actor) -> None:
    """`interrupt` puts the interrupt before it; the answer holds what was sent."""
    sent = await send(sdk, actor.session_id, message("stop, do this"), on_busy="interrupt")
    assert types(sent) == ["user.message"]
    assert types(await log(sdk, actor.session_id))[2:] == ["user.interrupt", "user.message"]


async def test_a_message_may_insist_on_quiet(sdk: AsyncAnthropic, actor: Actor) -> None:
    """`reject` is 409 while a turn runs, and nothing is written."""
    with pytest.raises(anthropic.ConflictError) as busy:
        await send(sdk, actor.session_id, message("only if free"), on_busy="reject")
    assert busy.value.body["error"]["type"] == "session_busy"  # type: ignore[index]
    assert len(await log(sdk, actor.session_id)) == 2


async def test_an_interrupt_of_nothing_is_only_logged(stack: Stack, owner: Person, sdk: AsyncAnthropic) -> None:
    """No run comes of it."""
    async with acting(stack, owner) as resting:
        await send(sdk, resting.session_id, INTERRUPT)
        assert types(await log(sdk, resting.session_id)) == ["user.interrupt"]


async def test_an_answer_needs_its_question(sdk: AsyncAnthropic, actor: Actor) -> None:
    """400 for a tool use that is not there, 409 for one that has its answer; a denial may say why."""
    use = {"name": "bash", "input": {}, "evaluated_permission": "ask"}
    await actor.append("agent.tool_use", id="sevt_toolu_1", **use)
    await actor.append("agent.mcp_tool_use", id="sevt_toolu_2", mcp_server_name="files", **use)
    with pytest.raises(anthropic.BadRequestError) as nothing:
        await send(sdk, actor.session_id, confirm("sevt_toolu_3"))
    assert nothing.value.body["error"]["type"] == "no_such_tool_use"  # type: ignore[index]
    await send(sdk, actor.session_id, confirm("sevt_toolu_1"), confirm("sevt_toolu_2", "deny", deny_message="not now"))
    with pytest.raises(anthropic.ConflictError) as answered:
        await send(sdk, actor.session_id, confirm("sevt_toolu_1", "deny"))
    assert answered.value.body["error"]["type"] == "already_answered"  # type: ignore[index]
    answers = of(await log(sdk, actor.session_id), "user.tool_confirmation")
    assert [(answer.result, answer.deny_message) for answer in answers] == [("allow", None), ("deny", "not now")]


async def test_a_custom_tools_result(sdk: AsyncAnthropic, actor: Actor) -> None:
    """The client's own tools answer with content, or with an error."""
    await actor.append("agent.custom_tool_use", id="sevt_toolu_9", name="weather", input={})
    result = {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_toolu_9", "is_error": True}
    (sent,) = await send(sdk, actor.session_id, {**result, "content": [{"type": "text", "text": "no network"}]})
    assert (sent.custom_tool_use_id, sent.is_error, sent.content[0].text) == ("sevt_toolu_9", True, "no network")


async def test_files_are_kept_apart_for_the_runner(
    owner: Person, sdk: AsyncAnthropic, actor: Actor, stack: Stack
) -> None:
    """The log refers to a picture by id; the run's token gets its bytes, and nothing but the run's session's."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    said = {"type": "user.message", "content": [{"type": "text", "text": "see"}, picture]}
    (sent,) = await send(sdk, actor.session_id, said)
    source = sent.content[1].source
    assert source.type == "file"
    async with owner.endpoints() as http:
        assert PNG not in (await http.get(f"/v1/sessions/{actor.session_id}/events")).text
    headers = {"apikey": stack.keys.publishable_key, "Authorization": f"Bearer {actor.token()}"}
    async with httpx.AsyncClient(base_url=f"{stack.supabase.url}/rest/v1", headers=headers) as runner:
        kept = (await runner.post("/rpc/read_attachment_v1", json={"id": source.file_id})).json()
    assert (kept["media_type"], kept["data"].replace("\n", "")) == ("image/png", PNG)


async def test_one_key_says_it_once(owner: Person, sdk: AsyncAnthropic, actor: Actor) -> None:
    """Sent twice with its key a message stands in the log once, and is answered alike; another body is 409."""
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    path = f"/v1/sessions/{actor.session_id}/events"
    async with owner.endpoints() as http:
        first = await http.post(path, json={"events": [message("once")]}, headers=headers)
        again = await http.post(path, json={"events": [message("once")]}, headers=headers)
        assert_refused(await http.post(path, json={"events": [message("2")]}, headers=headers), 409)
    assert first.status_code == 200
    assert first.json() == again.json()
    assert len(of(await log(sdk, actor.session_id), "user.message")) == 2


async def test_the_list_is_paged_and_filtered(sdk: AsyncAnthropic, actor: Actor) -> None:
    """By page, order, type and time, as the SDK asks; every page but the last names the next one."""
    for number in range(6):
        await actor.append("agent.message", id=f"sevt_{number}", content=[{"type": "text", "text": str(number)}])
    events = sdk.beta.sessions.events
    up = [event.seq async for event in events.list(actor.session_id, limit=3)]  # type: ignore[union-attr]
    down = [event.seq async for event in events.list(actor.session_id, limit=3, order="desc")]  # type: ignore[union-attr]
    assert up == list(range(1, 9))
    assert down == up[::-1]
    said = [event async for event in events.list(actor.session_id, limit=2, types=["agent.message", "user.message"])]
    assert types(said) == ["user.message"] + ["agent.message"] * 6
    times = [event.processed_at async for event in events.list(actor.session_id)]
    fifth = times[4]
    assert isinstance(fifth, datetime)
    later = [event async for event in events.list(actor.session_id, created_at_gt=fifth)]
    since = [event async for event in events.list(actor.session_id, created_at_gte=fifth, created_at_lte=times[5])]
    assert (len(later), len(since)) == (3, 2)


async def test_our_own_cursor_goes_with_the_filters(owner: Person, actor: Actor) -> None:
    """`after` is a seq; a page says whether there is more."""
    for number in range(5):
        await actor.append("agent.message" if number % 2 else "agent.thinking", id=f"sevt_{number}")
    found: list[int] = []
    params: dict[str, Any] = {"limit": 1, "types[]": "agent.thinking", "after": 3}
    async with owner.endpoints() as http:
        while True:
            page = (await http.get(f"/v1/sessions/{actor.session_id}/events", params=params)).json()
            found += [event["seq"] for event in page["data"]]
            assert page["next_page"] == page["next_cursor"]
            if not page["has_more"]:
                break
            params["after"] = page["next_cursor"]
    assert found == [5, 7]


@pytest.mark.parametrize("param", ["limit=0", "limit=1000", "after=-1", "page=x", "order=up", "created_at[gt]=soon"])
async def test_a_bad_parameter_is_400_with_its_name(param: str, owner: Person, actor: Actor) -> None:
    """As any other field that is wrong."""
    async with owner.endpoints() as http:
        answer = await http.get(f"/v1/sessions/{actor.session_id}/events?{param}")
    assert assert_refused(answer, 400, "invalid_request_error")["param"] == param.split("=")[0]


BAD_BODIES = {
    "no events": ({}, "events"),
    "none": ({"events": []}, "events"),
    "51 events": ({"events": [INTERRUPT] * 51}, "events"),
    "events that are no list": ({"events": "hello"}, "events"),
    "an event that is no object": ({"events": ["hello"]}, "events.0"),
    "a type of the agent's": ({"events": [{"type": "agent.message"}]}, "events.0.type"),
    "an empty text": ({"events": [message("ok"), message("")]}, "events.1.content.0.text"),
    "another way to be busy": ({"events": [message("x")], "on_busy": "wait"}, "on_busy"),
    "an unknown field": ({"events": [message("x")], "run": True}, "run"),
}


@pytest.mark.parametrize(("body", "param"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_is_400_with_the_fields_name(body: Any, param: str, owner: Person, actor: Actor) -> None:
    """And nothing of it is in the log."""
    async with owner.endpoints() as http:
        path = f"/v1/sessions/{actor.session_id}/events"
        assert assert_refused(await http.post(path, json=body), 400, "invalid_request_error")["param"] == param
        assert len((await http.get(path)).json()["data"]) == 2


async def test_what_is_not_built_is_501_by_name(owner: Person, actor: Actor) -> None:
    """The Managed Agents API has more kinds of events than this server."""
    body = {"events": [{"type": "user.define_outcome", "description": "x", "rubric": {"type": "text", "content": "y"}}]}
    async with owner.endpoints() as http:
        answer = await http.post(f"/v1/sessions/{actor.session_id}/events", json=body)
    assert "user.define_outcome" in assert_refused(answer, 501, "not_implemented")["message"]


async def test_a_plan_is_not_talked_to(owner: Person, client: Sandstream) -> None:
    """A session without an agent takes plans, not messages."""
    run = await client.submit(["true"])
    async with owner.endpoints() as http:
        answer = await http.post(f"/v1/sessions/{run.session_id}/events", json={"events": [message("hello")]})
    assert_refused(answer, 409, "not_a_conversation")


async def test_a_terminated_session_takes_nothing(owner: Person, actor: Actor) -> None:
    """409, and its log stays readable."""
    await actor.append("session.status_running")
    await actor.finish()
    await actor.end("archive_session_v1")
    async with owner.endpoints() as http:
        path = f"/v1/sessions/{actor.session_id}/events"
        assert_refused(await http.post(path, json={"events": [message("hello?")]}), 409, "session_terminated")
        assert (await http.get(path)).json()["data"][-1]["type"] == "session.status_terminated"


async def test_a_stranger_sees_nothing_and_says_nothing(stranger: Person, actor: Actor) -> None:
    """Another's session looks like none."""
    path = f"/v1/sessions/{actor.session_id}/events"
    async with stranger.endpoints() as http:
        assert_refused(await http.post(path, json={"events": [message("hello")]}), 404)
        assert_refused(await http.get(path), 404)
        assert_refused(await http.get(f"{path}/stream"), 404)


async def test_without_a_model_key_there_are_no_conversations(
    stack: Stack, owner: Person, tmp_path: Path, sdk: AsyncAnthropic
) -> None:
    """503 by name before anything is written; what needs no model is taken all the same."""
    async with acting(stack, owner) as resting:
        async with endpoints(stack, owner, tmp_path, ANTHROPIC_API_KEY="") as http:
            path = f"/v1/sessions/{resting.session_id}/events"
            assert_refused(await http.post(path, json={"events": [message("hello")]}), 503, "model_not_configured")
            assert (await http.post(path, json={"events": [INTERRUPT]})).status_code == 200
        assert types(await log(sdk, resting.session_id)) == ["user.interrupt"]


async def test_a_launch_that_fails_keeps_the_message(
    stack: Stack, owner: Person, tmp_path: Path, sdk: AsyncAnthropic
) -> None:
    """502, the run has failed, the message stands; sent again with its key it gets a run, and stands there once."""
    fault = Fault("POST", "/v2/sandboxes", 500, times=1)
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    async with acting(stack, owner) as resting, fault_proxy(stack.e2b.url, fault) as proxy:
        path, body = f"/v1/sessions/{resting.session_id}/events", {"events": [message("hello")]}
        async with endpoints(stack, owner, tmp_path, E2B_API_URL=proxy.url) as http:
            assert_refused(await http.post(path, json=body, headers=headers), 502, "sandbox_unavailable")
            failed = await log(sdk, resting.session_id)
            assert types(failed) == [
                "user.message",
                "run.created",
                "session.error",
                "run.failed",
                "session.status_idle",
            ]
            assert failed[2].error.code == "sandbox_unavailable"
            again = await http.post(path, json=body, headers=headers)
        assert again.status_code == 200, again.text
        BetaManagedAgentsSendSessionEvents.model_validate(again.json())
        events = await log(sdk, resting.session_id)
    assert len(of(events, "user.message")) == 1
    assert len(of(events, "run.created")) == 2

"""Server-sent events: cut anywhere, resumed anywhere, ended where the session is at rest."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from sandstream.client import Sandstream
from tests.conftest import Person


async def messages(
    http: httpx.AsyncClient, session_id: object, *, header: int | None = None, after: int | None = None
) -> AsyncIterator[dict[str, Any]]:
    """The stream's messages, as (id, event); ends with the stream."""
    headers = {} if header is None else {"Last-Event-ID": str(header)}
    params = {} if after is None else {"after": after}
    path = f"/v1/sessions/{session_id}/events/stream"
    async with http.stream("GET", path, headers=headers, params=params) as answer:
        if answer.status_code == httpx.codes.NO_CONTENT:
            return
        assert answer.headers["content-type"].startswith("text/event-stream"), await answer.aread()
        id = None
        async for line in answer.aiter_lines():
            if line.startswith("id:"):
                id = int(line[3:])
            elif line.startswith("data:"):
                event: dict[str, Any] = json.loads(line[5:])
                assert event["seq"] == id
                yield event


async def test_a_stream_is_the_log(owner: Person, client: Sandstream) -> None:
    """From before the first event to the terminal one, live; then it ends by itself."""
    run = await client.submit(["echo one", "sleep 1; echo two"])
    async with owner.endpoints() as http:
        streamed = [event async for event in messages(http, run.session_id)]
        listed = (await http.get(f"/v1/sessions/{run.session_id}/events")).json()["data"]
    assert streamed == listed
    assert streamed[-1]["type"] == "session.status_idle"


async def test_a_stream_cut_after_every_event(owner: Person, client: Sandstream) -> None:
    """200 events, one connection for each, resumed by header or by parameter: no gap, no repeat, and then an end."""
    run = await client.submit([f"echo {number}" for number in range(70)])
    seen: list[int] = []
    async with owner.endpoints() as http:
        while True:
            last = seen[-1] if seen else 0
            place: dict[str, int] = {"header": last} if last % 2 else {"after": last}
            async with aclosing(messages(http, run.session_id, **place)) as stream:
                event = await anext(stream, None)
            if event is None:
                break
            seen.append(event["seq"])
    assert len(seen) > 200
    assert seen == list(range(1, len(seen) + 1))
    assert seen[-1] == (await client.session(run.session_id)).last_seq


async def test_the_header_wins_over_the_parameter(owner: Person, client: Sandstream) -> None:
    """An EventSource that reconnects sends both: its URL as it was, and the last id that it saw."""
    run = await client.submit(["echo one"])
    await client.result(run)
    async with owner.endpoints() as http:
        events = [event["seq"] async for event in messages(http, run.session_id, header=3, after=0)]
    assert events[0] == 4


async def test_nothing_left_is_204(owner: Person, client: Sandstream) -> None:
    """At the end of a session at rest there is nothing to wait for, and the client is told not to come back."""
    run = await client.submit(["true"])
    await client.result(run)
    last = (await client.session(run.session_id)).last_seq
    async with owner.endpoints() as http:
        path = f"/v1/sessions/{run.session_id}/events/stream"
        answer = await http.get(path, params={"after": last})
    assert answer.status_code == 204


async def test_many_readers_see_the_same(owner: Person, client: Sandstream) -> None:
    """Thirty readers of one session, each from its own place: all see the same events from there on."""
    run = await client.submit(["for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done"])
    async with owner.endpoints() as http:

        async def read(after: int) -> list[dict[str, Any]]:
            return [event async for event in messages(http, run.session_id, after=after)]

        streams = await asyncio.gather(*(read(place % 3) for place in range(30)))
    for place, stream in enumerate(streams):
        assert [event["seq"] for event in stream] == list(range(place % 3 + 1, streams[0][-1]["seq"] + 1))


async def test_a_silent_stream_says_that_it_lives(owner: Person, client: Sandstream) -> None:
    """While nothing happens a comment comes now and then, so that no proxy takes the connection for dead."""
    run = await client.submit(["sleep 120"])
    async with owner.endpoints() as http:
        path = f"/v1/sessions/{run.session_id}/events/stream"
        async with asyncio.timeout(60), http.stream("GET", path) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith(":"):
                    break
            else:
                pytest.fail("the stream ended without a sign of life")
    await client.cancel(run.id)

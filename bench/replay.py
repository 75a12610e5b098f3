"""Replay: 10,000 events from the first to the last, by the client and by SSE."""

import json
import time

import httpx

from bench.people import Bench

EVENTS = 10_000
BATCH = 200


async def measure(bench: Bench) -> list[tuple[str, str]]:
    """A finished run's log, read whole."""
    run = await filled(bench)
    started = time.perf_counter()
    watched = [event.seq async for event in bench.client.watch(run["session_id"])]
    by_client = time.perf_counter() - started
    started = time.perf_counter()
    streamed = await stream(bench, run["session_id"])
    by_stream = time.perf_counter() - started
    if not len(watched) == streamed == EVENTS + 3:
        raise RuntimeError(f"watched {len(watched)}, streamed {streamed}")
    return [
        ("replay: 10,000 events, Python client", f"{by_client:.2f} s"),
        ("replay: 10,000 events, SSE", f"{by_stream:.2f} s"),
    ]


async def filled(bench: Bench) -> dict[str, str]:
    """A run with that many events, ended."""
    run = await bench.admit()
    headers = {"apikey": bench.stack.keys.publishable_key, "Authorization": f"Bearer {bench.run_token(run)}"}
    async with httpx.AsyncClient(base_url=f"{bench.stack.supabase.url}/rest/v1/rpc", headers=headers) as http:
        for first in range(1, EVENTS, BATCH):
            events = [
                {"n": n, "type": "command.output", "data": {"text": "x" * 60}, "at": "2026-01-01T00:00:00Z"}
                for n in range(first, first + BATCH)
            ]
            (await http.post("/append_events_v1", json={"events": events})).raise_for_status()
        (await http.post("/finish_run_v1", json={"status": "succeeded", "last_n": EVENTS})).raise_for_status()
    return run


async def stream(bench: Bench, session_id: str) -> int:
    """The number of events that the stream brings."""
    url = f"{bench.stack.api.url}/v1/sessions/{session_id}/events/stream"
    count = 0
    async with bench.http.stream("GET", url, headers={"Authorization": f"Bearer {bench.token}"}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                count += bool(json.loads(line[5:]))
    return count

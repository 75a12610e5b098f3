"""Live: from an event's production in the sandbox to its sight by a subscriber, on one clock."""

import time

from bench.people import Bench, percentiles

COMMAND = "for i in $(seq 1 120); do echo $i; sleep 0.1; done"


async def measure(bench: Bench) -> list[tuple[str, str]]:
    """One run that prints ten times a second; the watcher is the product's own client."""
    run = await bench.client.submit([COMMAND])
    lags: list[float] = []
    stored: list[float] = []
    async for event in bench.client.watch(run.session_id):
        if event.type == "command.output":
            lags.append((time.time() - event.produced_at.timestamp()) * 1000)
            stored.append((event.created_at - event.produced_at).total_seconds() * 1000)
    return [
        ("live: produced → its transaction begins", percentiles(stored)),
        ("live: produced → seen by a Realtime subscriber", percentiles(lags)),
    ]

"""Submit: `POST /v1/runs` to 202, split into E2B's share, Supabase's and ours by the answer's Server-Timing."""

import re
import time

from bench.people import Bench, percentiles

SUBMITS = 40
WARM_UP = 3
STEP = re.compile(r"(\w+);dur=([\d.]+)")


async def measure(bench: Bench) -> list[tuple[str, str]]:
    """One submit after the other, each its own session, each run to its end before the next."""
    totals: list[float] = []
    steps: dict[str, list[float]] = {}
    for number in range(SUBMITS + WARM_UP):
        started = time.perf_counter()
        answer = await bench.http.post(
            f"{bench.stack.api.url}/v1/runs",
            json={"commands": [{"command": "true"}]},
            headers={"Authorization": f"Bearer {bench.token}"},
        )
        elapsed = (time.perf_counter() - started) * 1000
        answer.raise_for_status()
        await bench.client.result(answer.json()["id"])
        if number < WARM_UP:
            continue
        totals.append(elapsed)
        for name, duration in STEP.findall(answer.headers["server-timing"]):
            steps.setdefault(name, []).append(float(duration))
    shares = [(f"submit: {name}", percentiles(values)) for name, values in steps.items()]
    return [("submit: POST → 202, seen by the client", percentiles(totals)), *shares]

"""The demo's first act: a plan is submitted, watched over Supabase Realtime, and checked to the last event."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from sandstream.check import Check, contiguous
from sandstream.client import Sandstream
from sandstream.events import Event
from sandstream.render import line
from sandstream.wire import Command, Run

# Fails once and succeeds when tried again, prints for a while, writes a file and reads it back.
PLAN = (
    Command(command="echo hello from $(uname -s), $(python3 --version)"),
    Command(command="mkdir tried 2>&- && { echo fails at first >&2; exit 1; }; echo then succeeds", retryable=True),
    Command(command="for i in 1 2 3 4; do echo tick $i; sleep 0.3; done"),
    Command(command="seq 1 1000 > numbers.txt && wc -l numbers.txt && sha256sum numbers.txt"),
)


@dataclass
class Observed:
    """What the watcher saw, and when. Clock readings are seconds since the submit began."""

    accepted_s: float = 0.0
    timings_ms: dict[str, float] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    seen_at: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)

    def add(self, event: Event, elapsed: float) -> None:
        """Notes one event. Its lag is by this machine's clock, which the local stack shares with its sandboxes."""
        self.events.append(event)
        self.seen_at.append(elapsed)
        if event.n is not None:
            self.lags_ms.append((time.time() - event.produced_at.timestamp()) * 1000)


async def perform(console: Console, client: Sandstream) -> tuple[Observed, Run]:
    """Submits, watches, prints. Raises SandstreamError."""
    observed, started = Observed(), time.perf_counter()
    accepted = await client.submit(PLAN, title="demo: a plan of commands")
    observed.accepted_s, observed.timings_ms = time.perf_counter() - started, accepted.timings_ms
    console.print(Text(f"202 in {observed.accepted_s * 1000:.0f} ms, session {accepted.session_id}", style="dim"))
    async for event in client.watch(accepted.session_id):
        observed.add(event, time.perf_counter() - started)
        console.print(line(event, accepted.created_at), no_wrap=True, overflow="ellipsis", soft_wrap=False)
    return observed, await client.run(accepted.id)


def judge(status: str, observed: Observed) -> list[Check]:
    """What this act promises."""
    events = observed.events
    retried = [event for event in events if event.type == "command.completed" and event.data["attempts"] > 1]
    live = [event for event in events if event.type == "command.output" and "tick" in event.data["text"]]
    wrote = any("1000 numbers.txt" in event.data["text"] for event in events if event.type == "command.output")
    return [
        Check("the plan succeeded", status == "succeeded", status),
        contiguous("the plan", events),
        Check("a command failed and was retried", len(retried) == 1, f"{len(retried)} retried"),
        Check("output came while it was printed", len(live) > 1, f"{len(live)} pieces"),
        Check("a file was written and read back", wrote, "numbers.txt" if wrote else "missing"),
    ]


def measures(observed: Observed) -> list[tuple[str, str]]:
    """How long things took."""
    rows = [
        ("time to 202", f"{observed.accepted_s * 1000:.0f} ms ({split(observed.timings_ms)})"),
        ("time to the first event", milliseconds(observed, lambda event: event.seq >= 1)),
        ("time to the runner's first event", milliseconds(observed, lambda event: event.n is not None)),
    ]
    if len(observed.lags_ms) > 1:
        p50, p95 = statistics.median(observed.lags_ms), statistics.quantiles(observed.lags_ms, n=20)[-1]
        rows.append(("produced → seen", f"p50 {p50:.0f} ms, p95 {p95:.0f} ms"))
    return rows


def split(timings_ms: dict[str, float]) -> str:
    """How the submit's time divides: Supabase (admit, record), E2B (create, start), and our own share."""
    return ", ".join(f"{name} {duration:.0f}" for name, duration in timings_ms.items() if name != "total")


def milliseconds(observed: Observed, wanted: Callable[[Event], bool]) -> str:
    """When the first such event was seen."""
    for event, seen_at in zip(observed.events, observed.seen_at, strict=True):
        if wanted(event):
            return f"{seen_at * 1000:.0f} ms"
    return "never"

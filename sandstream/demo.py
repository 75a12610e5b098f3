"""The main job, shown: a plan is submitted, watched over Supabase Realtime, and checked to the last event."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandstream.client import Sandstream
from sandstream.events import Event
from sandstream.render import line
from sandstream.wire import Command

# Fails once and succeeds when tried again, prints for some seconds, writes a file and reads it back.
PLAN = (
    Command(command="echo hello from $(uname -s), $(python3 --version)"),
    Command(command="mkdir tried 2>&- && { echo fails at first >&2; exit 1; }; echo then succeeds", retryable=True),
    Command(command="for i in 1 2 3 4 5 6 7 8; do echo tick $i; sleep 0.4; done"),
    Command(command="seq 1 1000 > numbers.txt && wc -l numbers.txt && sha256sum numbers.txt"),
)
DEADLINE_SECONDS = 120


@dataclass
class Observed:
    """What the watcher saw, and when. Clock readings are seconds since the submit began."""

    events: list[Event] = field(default_factory=list)
    seen_at: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)

    def add(self, event: Event, elapsed: float) -> None:
        """Notes one event. Its lag is by this machine's clock, which the local stack shares with its sandboxes."""
        self.events.append(event)
        self.seen_at.append(elapsed)
        if event.n is not None:
            self.lags_ms.append((time.time() - event.produced_at.timestamp()) * 1000)


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and whether it did."""

    promise: str
    holds: bool
    found: str


async def run(console: Console, client: Sandstream) -> bool:
    """Submits, watches, prints; True when everything held. Raises SandstreamError, TimeoutError."""
    observed = Observed()
    async with asyncio.timeout(DEADLINE_SECONDS):
        started = time.perf_counter()
        accepted = await client.submit(PLAN, title="demo")
        accepted_s = time.perf_counter() - started
        console.print(Text(f"202 in {accepted_s * 1000:.0f} ms  run {accepted.id}  session {accepted.session_id}\n"))
        async for event in client.watch(accepted.session_id):
            observed.add(event, time.perf_counter() - started)
            console.print(line(event, accepted.created_at), no_wrap=True, overflow="ellipsis", soft_wrap=False)
        final = await client.run(accepted.id)
    checks = judge(final.status, observed)
    console.print(summary(checks, observed, accepted_s, accepted.timings_ms))
    return all(check.holds for check in checks)


def judge(status: str, observed: Observed) -> list[Check]:
    """What the demo promises."""
    events = observed.events
    seqs = [event.seq for event in events]
    retried = [event for event in events if event.type == "command.completed" and event.data["attempts"] > 1]
    live = [event for event in events if event.type == "command.output" and "tick" in event.data["text"]]
    wrote = any("1000 numbers.txt" in event.data["text"] for event in events if event.type == "command.output")
    contiguous = bool(seqs) and seqs == list(range(1, len(seqs) + 1))
    return [
        Check("the run succeeded", status == "succeeded", status),
        Check(
            "no gap, no repeat", contiguous, f"seq 1..{len(seqs)}, no gap, no repeat" if contiguous else f"seq {seqs}"
        ),
        Check("a command failed and was retried", len(retried) == 1, f"{len(retried)} retried"),
        Check("output came while it was printed", len(live) > 1, f"{len(live)} pieces"),
        Check("a file was written and read back", wrote, "numbers.txt" if wrote else "missing"),
    ]


def summary(checks: list[Check], observed: Observed, accepted_s: float, timings_ms: dict[str, float]) -> Table:
    """The table at the end."""
    table = Table(show_header=False, box=None, padding=(0, 2), title_justify="left")
    for check in checks:
        mark = Text("ok", style="green") if check.holds else Text("FAILED", style="bold red")
        table.add_row(mark, check.promise, Text(check.found))
    table.add_row("", "events", str(len(observed.events)))
    table.add_row("", "time to 202", f"{accepted_s * 1000:.0f} ms")
    table.add_row("", "  of that, in ms", split(timings_ms))
    table.add_row("", "time to the first event", milliseconds(observed, lambda event: event.seq >= 1))
    table.add_row("", "time to the runner's first event", milliseconds(observed, lambda event: event.n is not None))
    if len(observed.lags_ms) > 1:
        p50, p95 = statistics.median(observed.lags_ms), statistics.quantiles(observed.lags_ms, n=20)[-1]
        table.add_row("", "produced → seen", f"p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    return table


def split(timings_ms: dict[str, float]) -> str:
    """How the submit's time divides: Supabase (admit, record), E2B (create, start), and our own share."""
    return ", ".join(f"{name} {duration:.0f}" for name, duration in timings_ms.items() if name != "total")


def milliseconds(observed: Observed, wanted: Callable[[Event], bool]) -> str:
    """When the first such event was seen."""
    for event, seen_at in zip(observed.events, observed.seen_at, strict=True):
        if wanted(event):
            return f"{seen_at * 1000:.0f} ms"
    return "never"

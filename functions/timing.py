"""Where the time of a request goes, told to the client in a Server-Timing header (W3C)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Milliseconds by step. What is in no step is our own share."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Counts the block as waiting for somebody else; blocks of one name add up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.steps[name] = self.steps.get(name, 0.0) + (time.perf_counter() - started) * 1000

    def header(self) -> str:
        """`admit;dur=3.1, …, ours;dur=1.9, total;dur=80.0`, in milliseconds."""
        total = (time.perf_counter() - self._started) * 1000
        named = {**self.steps, "ours": total - sum(self.steps.values()), "total": total}
        return ", ".join(f"{name};dur={duration:.1f}" for name, duration in named.items())

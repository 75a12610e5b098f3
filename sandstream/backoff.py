"""Waiting longer after each failure, up to a cap, and never in step with others."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass
class Backoff:
    """Delays in seconds: `first`, then doubled up to `cap`, each shortened by a random part of up to a half."""

    first: float
    cap: float
    failures: int = 0

    def next(self) -> float:
        """The delay after one more failure."""
        # 2**30 is beyond any cap; an unbounded power would overflow after days of failing.
        whole: float = min(self.cap, self.first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 spreads clients out, decides nothing secret

    def reset(self) -> None:
        """It worked: start over."""
        self.failures = 0

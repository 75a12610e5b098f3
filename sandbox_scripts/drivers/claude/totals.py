"""Tokens by model: of the requests whose spans are in the log, beside what the CLI itself reports.

Sub-agents' last messages, compaction and other requests of the CLI's own have no lines: a `result` has their sum, for
each model. A model has several names: with its date or without, and with [1m] where it takes long prompts.
"""

from __future__ import annotations

import re

from .blocks import count_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Counts = dict[str, int]

USAGE_KEYS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
# How long what was written to the cache is kept there: the longer, the dearer. Both are among the third of those above.
SPLIT_KEYS = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_NAMES = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_creation_input_tokens": "cacheCreationInputTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
    "ephemeral_5m_input_tokens": "cacheCreationEphemeral5mInputTokens",
    "ephemeral_1h_input_tokens": "cacheCreationEphemeral1hInputTokens",
}
_VARIANT = re.compile(r"(?:-\d{8}|-latest)?(?:\[1m\])?\Z")


class Totals:
    """Counts of one process of the CLI, from its first line on."""

    def __init__(self) -> None:
        self._seen: dict[str | None, Counts] = {}
        self._reported: dict[str | None, Counts] = {}
        self._microusd = 0

    def add(self, usage: dict[str, Any], model: str | None) -> None:
        """A span with this usage is in the log."""
        split = usage.get("cache_creation") or {}
        _count(self._seen, plain(model), {name: usage.get(name, split.get(name, 0)) for name in _NAMES})

    def missing(self, line: dict[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
        """What a `result` reports beyond the spans so far: (model, usage) for each model with any.

        Where the models do not add up to what is missing in all, as when the CLI and the API call one by two names, it
        is one usage of no model.
        """
        self._report(line)
        total = _beyond(_sum(self._reported.values()), _sum(self._seen.values()))
        models = {name: _beyond(counts, self._seen.get(name, {})) for name, counts in self._reported.items()}
        found = {name: counts for name, counts in models.items() if _four(counts) != _four({})}
        if _four(_sum(found.values())) != _four(total):
            found = {None: total} if _four(total) != _four({}) else {}
        for name, counts in found.items():
            _count(self._seen, name, counts)
        self._settle()
        return [(name, _usage(counts)) for name, counts in found.items()]

    def cost(self, line: dict[str, Any]) -> int:
        """`total_cost_usd` goes on from the process before when a session is resumed; these sums do not."""
        since = line.get("model_usage_since_last_result")
        if not isinstance(since, dict):
            return microusd(line.get("total_cost_usd"))
        self._microusd += sum(
            microusd(model.get("costUSD")) if isinstance(model, dict) else 0 for model in since.values()
        )
        return self._microusd

    def _report(self, line: dict[str, Any]) -> None:
        models = line.get("model_usage_since_last_result")
        if not isinstance(models, dict):
            models, self._reported = line.get("modelUsage"), {}
        for model, told in models.items() if isinstance(models, dict) else ():
            _count(self._reported, plain(model), {name: count_at(told, key) for name, key in _NAMES.items()})

    def _settle(self) -> None:
        """Where both agree in all, what differs by model is a matter of names, and not missing another time."""
        if _four(_sum(self._seen.values())) == _four(_sum(self._reported.values())):
            self._seen = {model: dict(counts) for model, counts in self._reported.items()}


def plain(model: str | None) -> str | None:
    """The model's name without the parts that do not change what it is."""
    return _VARIANT.sub("", model, count=1) if model else None


def split_of(usage: Any) -> Counts:
    """What a usage of the API says of how long its cache writes are kept; empty when it does not."""
    told = usage.get("cache_creation") if isinstance(usage, dict) else None
    return {name: count_at(told, name) for name in SPLIT_KEYS} if isinstance(told, dict) else {}


def microusd(dollars: Any) -> int:
    """Millionths of a dollar; 0 for what is no amount."""
    if isinstance(dollars, bool) or not isinstance(dollars, (int, float)) or not 0 <= dollars < 1e9:
        return 0
    return round(dollars * 1_000_000)


def _count(totals: dict[str | None, Counts], model: str | None, counts: Counts) -> None:
    totals[model] = _sum([totals.get(model, {}), counts])


def _sum(several: Iterable[Counts]) -> Counts:
    several = list(several)
    return {name: sum(counts.get(name, 0) for counts in several) for name in _NAMES}


def _beyond(counts: Counts, others: Counts) -> Counts:
    return {name: max(0, counts.get(name, 0) - others.get(name, 0)) for name in _NAMES}


def _four(counts: Counts) -> list[int]:
    """What has to add up: the split of the third is not always told."""
    return [counts.get(name, 0) for name in USAGE_KEYS]


def _usage(counts: Counts) -> dict[str, Any]:
    usage: dict[str, Any] = {name: counts[name] for name in USAGE_KEYS}
    split = {name: counts[name] for name in SPLIT_KEYS}
    return {**usage, "cache_creation": split} if any(split.values()) else usage

"""How much an owner may. SQL decides, in admission; here it learns what the deployment's settings are."""

import asyncio
from typing import Literal

from functions.models import Answer
from functions.rest import Row
from functions.settings import Settings
from functions.store import Store


class Rates(Answer):
    """Requests a minute, of each kind."""

    submit: int
    message: int
    other: int


class AccountLimits(Answer):
    """What an owner may have, and what they have now."""

    type: Literal["limits"] = "limits"
    max_concurrent_sandboxes: int
    live_sandboxes: int
    max_sandbox_duration_ms: int
    max_run_seconds: int
    requests_per_minute: Rates


def as_limits(row: Row) -> AccountLimits:
    """The answer of `read_limits_v1` as it goes over the wire."""
    rates = {name: row[f"{name}s_per_minute"] for name in Rates.model_fields}
    return AccountLimits.model_validate({**row, "requests_per_minute": rates})


class Limits:
    """Tells the database this deployment's limits. One per process."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._lock = asyncio.Lock()
        self._is_told = False

    async def tell(self) -> None:
        """The database has this process's settings when this returns; said once, and again only after a failure.

        At the first request that they matter to, not when the process starts: the endpoints come up without Supabase.
        Raises StoreUnavailable.
        """
        async with self._lock:
            if not self._is_told:
                await self._store.as_service().set_limits(deployed(self._settings))
                self._is_told = True


def deployed(settings: Settings) -> Row:
    """The arguments of `set_limits_v1`."""
    return {
        "max_concurrent_sandboxes": settings.max_concurrent_sandboxes,
        "max_sandbox_duration_ms": settings.max_sandbox_duration,
        "sandbox_margin_seconds": settings.sandbox_margin_seconds,
        "requests_per_minute": settings.rate_limit_per_minute,
    }

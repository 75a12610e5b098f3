"""How much an owner may. SQL decides, in admission; here it learns the deployment's settings, and what things cost."""

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from functions import prices
from functions.models import Answer, Request
from functions.rest import Row
from functions.settings import Settings
from functions.store import Store

# The bounds are those of the table's CHECKs.
Rate = Annotated[int | None, Field(ge=1, le=1_000_000)]


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
    max_month_microusd: int | None


class OwnerLimits(AccountLimits):
    """The same for somebody else, as operators are answered."""

    owner: UUID


class NewRates(Request):
    """Requests a minute, of each kind. Null: as the deployment."""

    submit: Rate = None
    message: Rate = None
    other: Rate = None


class LimitsRequest(Request):
    """The body of `PUT /v1/limits`: all exceptions of one owner. What is null or left out is as the deployment's."""

    owner: Annotated[UUID, Field(strict=False)]
    max_concurrent_sandboxes: Annotated[int | None, Field(ge=0, le=100_000)] = None
    max_sandbox_duration_ms: Annotated[int | None, Field(ge=60_000, le=604_800_000)] = None
    requests_per_minute: NewRates = NewRates()
    max_month_microusd: Annotated[int | None, Field(ge=0, le=10**15)] = None

    def arguments(self) -> Row:
        """The arguments of `set_account_limits_v1`."""
        told = self.model_dump(mode="json", exclude={"requests_per_minute"})
        return told | {f"{name}s_per_minute": rate for name, rate in self.requests_per_minute}


def as_limits(row: Row) -> AccountLimits:
    """The answer of `read_limits_v1` as it goes over the wire."""
    return AccountLimits.model_validate(nested(row))


def as_owner_limits(row: Row) -> OwnerLimits:
    """The answer of `set_account_limits_v1`, likewise."""
    return OwnerLimits.model_validate(nested(row))


def nested(row: Row) -> Row:
    """The row with its rates together, as the wire has them."""
    return {**row, "requests_per_minute": {name: row[f"{name}s_per_minute"] for name in Rates.model_fields}}


class Limits:
    """Tells the database this deployment's limits and prices. One per process."""

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
                service = self._store.as_service()
                await service.set_prices(prices.deployed(self._settings))
                await service.set_limits(deployed(self._settings))
                self._is_told = True


def deployed(settings: Settings) -> Row:
    """The arguments of `set_limits_v1`."""
    return {
        "max_concurrent_sandboxes": settings.max_concurrent_sandboxes,
        "max_sandbox_duration_ms": settings.max_sandbox_duration,
        "sandbox_margin_seconds": settings.sandbox_margin_seconds,
        "requests_per_minute": settings.rate_limit_per_minute,
        "idle_sandbox_seconds": settings.idle_sandbox_seconds,
        "max_month_microusd": settings.max_month_microusd,
    }

"""What the caller has spent, as the endpoints answer it. Money is in millionths of a US dollar."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from sandstream.wire import Answer


class DayUsage(Answer):
    """What one kind of thing cost on one day, in UTC: a sandbox's milliseconds, a model's tokens of each kind."""

    day: date
    kind: str
    model: str | None = None
    amount_microusd: int
    quantity: dict[str, int]


class MonthUsage(Answer):
    """The month under way. What is reserved is for runs that have not ended; None: there is no limit."""

    month: str
    spent_microusd: int
    reserved_microusd: int
    limit_microusd: int | None = None
    remainder_microusd: int | None = None


class AccountUsage(Answer):
    """Days from the first to the last, those that cost nothing left out, and how the month stands."""

    first: date = Field(alias="from")
    last: date = Field(alias="to")
    days: list[DayUsage]
    month: MonthUsage
    prices_as_of: date | None = None


def dollars(microusd: int) -> str:
    """An amount for people, to the hundredth of a cent, rounded up: what was spent is never understated."""
    hundredths = -(-microusd // 100)
    return f"${hundredths // 10_000:,}.{hundredths % 10_000:04d}"

"""What an owner has spent, as SQL reads it from the ledger: day by day, and how the month stands."""

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from functions.models import Answer
from functions.rest import Row

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def as_written(day: object) -> object:
    """A day in one form only: pydantic would also take a number of seconds."""
    if isinstance(day, str) and not DAY.fullmatch(day):
        raise ValueError("must be a day, YYYY-MM-DD")
    return day


Day = Annotated[date, BeforeValidator(as_written)]


class DayUsage(Answer):
    """What one kind of thing cost on one day. `quantity`: milliseconds of a sandbox, or tokens of each kind."""

    day: date
    kind: Literal["sandbox", "model", "embedding"]
    model: str | None
    amount_microusd: int
    quantity: dict[str, int]


class MonthUsage(Answer):
    """The month under way. What is reserved is for runs that have not ended; null: there is no limit."""

    month: str
    spent_microusd: int
    reserved_microusd: int
    limit_microusd: int | None
    remainder_microusd: int | None


class AccountUsage(Answer):
    """Days in UTC, from the first to the last; those without any cost are left out."""

    type: Literal["usage"] = "usage"
    first: Annotated[date, Field(alias="from")]
    last: Annotated[date, Field(alias="to")]
    days: list[DayUsage]
    month: MonthUsage
    prices_as_of: date | None


def as_usage(row: Row) -> AccountUsage:
    """The answer of `read_usage_v1` as it goes over the wire."""
    return AccountUsage.model_validate(row)

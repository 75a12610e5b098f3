"""`/v1/usage`: what the caller has spent."""

from typing import Annotated

from fastapi import APIRouter, Query

from functions.usage import AccountUsage, Day, as_usage
from functions.wiring import Reader, Served

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("")
async def get_usage(
    caller: Reader,
    served: Served,
    first: Annotated[Day | None, Query(alias="from")] = None,
    last: Annotated[Day | None, Query(alias="to")] = None,
) -> AccountUsage:
    """What each day cost, in UTC, this month's unless others are named; and how the month stands."""
    await served.limits.tell()
    return as_usage(await served.store.as_user(caller.token).usage(first, last))

"""`/v1/limits`: how much the caller may."""

from fastapi import APIRouter

from functions.limits import AccountLimits, as_limits
from functions.wiring import Reader, Served

router = APIRouter(prefix="/v1/limits", tags=["limits"])


@router.get("")
async def get_limits(caller: Reader, served: Served) -> AccountLimits:
    """What holds for the caller, and how many of their sandboxes are live now."""
    await served.limits.tell()
    return as_limits(await served.store.as_user(caller.token).limits())

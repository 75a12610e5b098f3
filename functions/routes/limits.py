"""`/v1/limits`: how much the caller may; and for operators, how much somebody else may."""

from fastapi import APIRouter

from functions.limits import AccountLimits, LimitsRequest, OwnerLimits, as_limits, as_owner_limits
from functions.wiring import Admin, Reader, Served

router = APIRouter(prefix="/v1/limits", tags=["limits"])


@router.get("")
async def get_limits(caller: Reader, served: Served) -> AccountLimits:
    """What holds for the caller, and how many of their sandboxes are live now."""
    await served.limits.tell()
    return as_limits(await served.store.as_user(caller.token).limits())


@router.put("")
async def put_limits(body: LimitsRequest, caller: Admin, served: Served) -> OwnerLimits:
    """An operator's exceptions for one owner, all of them at once; the answer is what holds for the owner then."""
    return as_owner_limits(await served.store.as_user(caller.token).set_account_limits(body.arguments()))

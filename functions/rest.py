"""PostgREST as the store uses it: one call of a SQL function, or one read; what it refuses becomes an error of ours."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from functions.errors import (
    ApiError,
    BudgetExceeded,
    Conflict,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RateLimited,
    StoreUnavailable,
    TooLarge,
    TooManySandboxes,
)

Row = dict[str, Any]

# PostgREST turns SQLSTATE PTxyz into HTTP status xyz; our SQL raises nothing else on purpose.
REFUSALS: dict[str, type[ApiError]] = {
    "PT400": InvalidRequest,
    "PT401": NotAuthenticated,
    "PT403": NotPermitted,
    "PT404": NotFound,
    "PT409": Conflict,
    "PT413": TooLarge,
    "PT429": TooManySandboxes,
}
# Data that Postgres cannot take: a date out of range, a row that breaks a CHECK.
BAD_DATA = ("22", "23514")
TOKEN_REFUSED = ("PGRST301", "PGRST302", "PGRST303")


async def call(client: AsyncPostgrestClient, function: str, arguments: Row) -> Row:
    """A SQL function that answers with one object. Raises the refusal that its SQLSTATE stands for."""
    with refusals():
        answer = await client.rpc(function, arguments).execute()
    if not isinstance(answer.data, dict):
        raise StoreUnavailable(f"{function} answered with something else than an object")
    return answer.data


async def called(client: AsyncPostgrestClient, function: str, arguments: Row) -> list[Any]:
    """A SQL function that answers with a list. Raises as `call`."""
    with refusals():
        answer = await client.rpc(function, arguments).execute()
    return rows(answer.data)


def rows(data: object) -> list[Row]:
    """PostgREST's answer to a read. Raises StoreUnavailable for anything but a list: it is not the same as nothing."""
    if not isinstance(data, list):
        raise StoreUnavailable("Supabase answered a read with something else than rows")
    return data


async def one(client: AsyncPostgrestClient, table: str, columns: str, id: UUID | str) -> Row:
    """The row with this id. Raises NotFound when there is none that the client's role may see."""
    with refusals():
        answer = await client.from_(table).select(columns).eq("id", str(id)).limit(1).execute()
    found = rows(answer.data)
    if not found:
        raise NotFound(f"no such {table.removeprefix('agent_').removesuffix('s')}")
    return found[0]


@contextmanager
def refusals() -> Iterator[None]:
    """Turns what PostgREST and the connection raise into our own errors."""
    try:
        yield
    except APIError as error:
        raise as_refusal(error) from error
    except httpx.HTTPError as error:
        raise StoreUnavailable("Supabase did not answer") from error


def as_refusal(error: APIError) -> ApiError:
    """The error that a PostgREST answer stands for; what is not a refusal of ours is Supabase's failure."""
    if (error.code, error.message) == ("PT429", "rate_limited"):
        return RateLimited(limit=int(error.hint or 0), seconds=int(error.details or 1))
    if error.code == "PT402":
        money = json.loads(error.hint or "{}")
        return BudgetExceeded(
            error.details or "the budget is spent", money.get("estimate_microusd"), money.get("remainder_microusd")
        )
    if error.code in REFUSALS:
        word = error.message or "refused"
        return REFUSALS[error.code](error.details or word.replace("_", " "), type=word, param=error.hint)
    if error.code in TOKEN_REFUSED:
        return NotAuthenticated("the token is not valid")
    if error.code is not None and error.code.startswith(BAD_DATA):
        return InvalidRequest("the database cannot take a value of this request")
    return StoreUnavailable("Supabase failed")

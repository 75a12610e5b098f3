"""Keyset pages of lists: `(created_at, id)` of the last row seen is the cursor of the next page, opaque to clients."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from fastapi import Query
from pydantic import AfterValidator

from functions.errors import InvalidRequest
from functions.models import Answer, Page
from functions.tools import Row

# One less than Supabase gives at once, so that a page can tell whether there is another.
MAX_PAGE = 999
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
Order = Literal["asc", "desc"]
Item = TypeVar("Item", bound=Answer)


def aware(moment: datetime) -> datetime:
    """A time without a zone is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(aware)]


@dataclass(frozen=True)
class Cursor:
    """The last row that was seen."""

    created_at: str
    id: str

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.created_at} {self.id}".encode()).decode()

    def beyond(self, order: Order) -> str:
        """What comes after it, as PostgREST's `or`."""
        side = "lt" if order == "desc" else "gt"
        return f'created_at.{side}."{self.created_at}",and(created_at.eq."{self.created_at}",id.{side}.{self.id})'

    @classmethod
    def parse(cls, cursor: str, param: str) -> "Cursor":
        """Raises InvalidRequest for what is not a cursor of ours."""
        try:
            created_at, id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().split(" ")
            moment = datetime.fromisoformat(created_at)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest("not a cursor", param=param) from error
        if moment.tzinfo is None or not ID.fullmatch(id):
            raise InvalidRequest("not a cursor", param=param)
        return cls(moment.isoformat(), id)


@dataclass(frozen=True)
class Part:
    """Which part of a list is asked for."""

    limit: int
    after: Cursor | None

    def page(self, rows: list[Row], items: list[Item]) -> Page[Item]:
        """The page of `limit + 1` rows that were read: one more than is shown says whether there is another page."""
        has_more = len(rows) > self.limit
        last = rows[self.limit - 1] if has_more else None
        cursor = str(Cursor(last["created_at"], last["id"])) if last else None
        return Page[Item](data=items[: self.limit], has_more=has_more, next_cursor=cursor)


def part(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
    after: Annotated[str | None, Query(max_length=200)] = None,
    page: Annotated[str | None, Query(max_length=200)] = None,
) -> Part:
    """The part that a request's parameters name; `page` is what the official SDK calls `after`."""
    if after is not None:
        return Part(limit, Cursor.parse(after, "after"))
    return Part(limit, Cursor.parse(page, "page") if page else None)


@dataclass(frozen=True)
class Created:
    """Bounds of `created_at`, as PostgREST's operators: `(("gte", "2026-…"), …)`."""

    bounds: tuple[tuple[str, str], ...]


def created(
    gt: Annotated[Moment | None, Query(alias="created_at[gt]")] = None,
    gte: Annotated[Moment | None, Query(alias="created_at[gte]")] = None,
    lt: Annotated[Moment | None, Query(alias="created_at[lt]")] = None,
    lte: Annotated[Moment | None, Query(alias="created_at[lte]")] = None,
) -> Created:
    """The bounds that a request's parameters name."""
    given = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
    return Created(tuple((operator, moment.isoformat()) for operator, moment in given.items() if moment))


@dataclass(frozen=True)
class Filter:
    """Which rows of a list, and in which order."""

    part: Part
    created: Created = Created(())
    order: Order = "desc"
    include_archived: bool = False
    # Columns that must be one of these; what is empty does not count.
    among: tuple[tuple[str, tuple[str, ...]], ...] = ()

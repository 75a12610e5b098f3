"""Pages of lists, and their cursors."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.errors import InvalidRequest
from functions.models import Answer
from functions.pages import Cursor, Part, created, part

IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=64)
WHEN = "2026-01-01T00:00:00+00:00"


class Item(Answer):
    """Something to list."""

    id: str


def rows(count: int) -> list[dict[str, str]]:
    """What was read."""
    return [{"id": f"id_{n}", "created_at": WHEN} for n in range(count)]


@given(moment=st.datetimes(timezones=st.just(UTC)), id=IDS)
def test_a_cursor_comes_back_as_it_went(moment: datetime, id: str) -> None:
    """Opaque to clients, and safe in a URL as it is."""
    cursor = Cursor(moment.isoformat(), id)
    assert str(cursor).replace("=", "").replace("-", "").replace("_", "").isalnum()
    assert Cursor.parse(str(cursor), "page") == cursor


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Whatever it is, it does not come near the database."""
    with pytest.raises(InvalidRequest) as refused:
        Cursor.parse(text, "after")
    assert refused.value.param == "after"


@pytest.mark.parametrize("content", [f"{WHEN} a,b", f'{WHEN} a"', f"{WHEN} ", f"{WHEN}", "2026-01-01T00:00:00 a", " a"])
def test_what_postgrest_would_read_differently_is_refused(content: str) -> None:
    """An id has no comma, quote or bracket, a time has its zone."""
    with pytest.raises(InvalidRequest):
        Cursor.parse(base64.urlsafe_b64encode(content.encode()).decode(), "page")


def test_a_cursor_points_beyond_itself() -> None:
    """Later or earlier, and among those of one instant by their ids."""
    cursor = Cursor(WHEN, "id_1")
    assert cursor.beyond("desc") == f'created_at.lt."{WHEN}",and(created_at.eq."{WHEN}",id.lt.id_1)'
    assert cursor.beyond("asc") == cursor.beyond("desc").replace(".lt.", ".gt.")


@pytest.mark.parametrize(("read", "shown", "has_more"), [(0, 0, False), (1, 1, False), (2, 2, False), (3, 2, True)])
def test_one_row_more_than_is_shown_tells_of_another_page(read: int, shown: int, has_more: bool) -> None:
    """The cursor is that of the last row shown; it is there by both names."""
    found = rows(read)
    page = Part(2, None).page(found, [Item.model_validate(row) for row in found])
    assert ([item.id for item in page.data], page.has_more) == ([row["id"] for row in found[:shown]], has_more)
    expected = str(Cursor(WHEN, "id_1")) if has_more else None
    assert page.model_dump()["next_page"] == page.next_cursor == expected


def test_a_part_is_named_in_two_ways() -> None:
    """Ours goes first where both are there."""
    one, two = str(Cursor(WHEN, "one")), str(Cursor(WHEN, "two"))
    assert part(limit=5) == Part(5, None)
    assert part(limit=5, page=one) == part(limit=5, after=one) == Part(5, Cursor(WHEN, "one"))
    assert part(limit=5, after=two, page=one).after == Cursor(WHEN, "two")
    assert part(limit=5, page="") == Part(5, None)


def test_times_become_bounds() -> None:
    """Those that are given, by PostgREST's operators."""
    assert created().bounds == ()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert created(gt=moment, lte=moment).bounds == (("gt", WHEN), ("lte", WHEN))

"""Reading tables, over HTTP, as PostgREST answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.local.supabase_world import SINGULAR, Project


@pytest.fixture
async def rest(library: Project) -> AsyncIterator[httpx.AsyncClient]:
    async with library.rest(key=library.secret) as client:
        yield client


async def rows(rest: httpx.AsyncClient, path: str) -> Any:
    answer = await rest.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ids(rest: httpx.AsyncClient, path: str) -> list[int]:
    return sorted(row["id"] for row in await rows(rest, path))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/books?id=eq.2", [2]),
        ("/books?id=neq.2", [1, 3, 4]),
        ("/books?id=gt.2", [3, 4]),
        ("/books?id=gte.2", [2, 3, 4]),
        ("/books?id=lt.2", [1]),
        ("/books?id=lte.2", [1, 2]),
        ("/books?title=like.*o*s", [1, 4]),
        ("/books?title=ilike.n*", [1]),
        ("/books?title=match.^N", [1]),
        ("/books?title=imatch.^n", [1]),
        ("/books?author_id=is.null", [4]),
        ("/books?author_id=not.is.null", [1, 2, 3]),
        ("/books?author_id=is.not_null", [1, 2, 3]),
        ("/books?id=in.(1,3)", [1, 3]),
        ("/books?id=not.in.(1,3)", [2, 4]),
        ("/books?id=in.()", []),
        ('/books?title=in.("Letters, vol. 1",Notes)', [1, 2]),
        (r'/books?title=in.("Ink \"and\" ash")', [3]),
        ("/books?tags=cs.{math}", [1, 4]),
        ("/books?tags=cd.{math,history}", [1, 2, 3, 4]),
        ("/books?tags=ov.{history}", [1, 2]),
        ("/books?title=fts(english).note", [1]),
        ("/books?title=plfts.ink ash", [3]),
        ("/books?title=phfts(english).letters vol", [2]),
        ("/books?title=wfts.notes or ink", [1, 3]),
        ("/books?author_id=isdistinct.1", [3, 4]),
        ("/books?id=eq(any).{1,2}", [1, 2]),
        ("/books?title=like(all).{*o*,N*}", [1]),
        ("/books?or=(id.eq.1,and(id.gt.2,author_id.is.null))", [1, 4]),
        ("/books?not.or=(id.eq.1,id.eq.2)", [3, 4]),
        ("/books?and=(id.gt.1,id.lt.4)&price=gt.3", [2]),
        ("/books?or=(title.in.(Notes,Anonymous),id.eq.3)", [1, 3, 4]),
        ("/authors?meta->home->>city=eq.Paris", [3]),
        ("/authors?meta->langs->>1=eq.fr", [1]),
        ('/authors?meta=cs.{"langs":["en"]}', [1]),
        ("/authors?meta->home=is.null", [2]),
        ("/authors?shouted=eq.ADA", [1]),
    ],
)
async def test_operators(rest: httpx.AsyncClient, path: str, wanted: list[int]) -> None:
    """Each operator chooses the rows that Postgres' own would."""
    assert await ids(rest, path) == wanted


async def test_select_alias_cast_and_json(rest: httpx.AsyncClient) -> None:
    """Columns are renamed, cast, reached into, and computed by a function of the row."""
    path = "/authors?select=id,called:name,born::text,meta->home->>city,first:meta->langs->0,shouted&id=eq.1"
    wanted = {"id": 1, "called": "Ada", "born": "1815-12-10", "city": "London", "first": "en", "shouted": "ADA"}
    assert await rows(rest, path) == [wanted]


async def test_many_to_one(rest: httpx.AsyncClient) -> None:
    """The row that a foreign key names is an object, null where there is none."""
    found = await rows(rest, "/books?select=id,authors(name)&order=id")
    assert [row["authors"] for row in found] == [{"name": "Ada"}, {"name": "Ada"}, {"name": "Bo"}, None]
    assert await rows(rest, "/books?select=writer:author_id(name)&id=eq.1") == [{"writer": {"name": "Ada"}}]
    assert await rows(rest, "/books?select=authors!books_author_id_fkey(name)&id=eq.3") == [{"authors": {"name": "Bo"}}]


async def test_one_to_many_with_filters_of_its_own(rest: httpx.AsyncClient) -> None:
    """Rows that refer are a list, filtered, ordered and limited by themselves; every parent stays."""
    found = await rows(rest, "/authors?select=name,books(id)&books.order=id.desc&books.limit=1&books.id=lt.3&order=id")
    assert [row["books"] for row in found] == [[{"id": 2}], [], []]


async def test_inner_joins_choose_parents(rest: httpx.AsyncClient) -> None:
    """`!inner` keeps only parents that have such a row, and counts only those."""
    path = "/authors?select=name,books!inner(id)&books.title=eq.Notes"
    assert await rows(rest, path) == [{"name": "Ada", "books": [{"id": 1}]}]
    answer = await rest.get(path, headers={"Prefer": "count=exact"})
    assert answer.headers["content-range"] == "0-0/1"
    assert await ids(rest, "/books?select=id,authors!inner(name)&authors.name=eq.Bo") == [3]


async def test_many_to_many_and_nesting(rest: httpx.AsyncClient) -> None:
    """A junction table is stepped over; embedding nests."""
    path = "/authors?select=name,books(title,labels(word))&id=eq.1&books.order=id&books.labels.order=word"
    books = [
        {"title": "Notes", "labels": [{"word": "new"}, {"word": "rare"}]},
        {"title": "Letters, vol. 1", "labels": []},
    ]
    assert await rows(rest, path) == [{"name": "Ada", "books": books}]


async def test_absence_of_related_rows(rest: httpx.AsyncClient) -> None:
    """An empty embedding only chooses: authors without books, books with an author."""
    assert await rows(rest, "/authors?select=name,books()&books=is.null") == [{"name": "Cy"}]
    assert await ids(rest, "/books?select=id,authors()&authors=not.is.null") == [1, 2, 3]


async def test_spread_and_counts(rest: httpx.AsyncClient) -> None:
    """`...relation(…)` lifts columns into the row; `relation(count)` counts."""
    assert await rows(rest, "/books?select=id,...authors(writer:name)&id=eq.3") == [{"id": 3, "writer": "Bo"}]
    found = await rows(rest, "/authors?select=name,books(count)&order=id")
    assert [row["books"] for row in found] == [[{"count": 2}], [{"count": 1}], [{"count": 0}]]


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("author_id.desc,id", [4, 3, 1, 2]),
        ("author_id.desc.nullslast,id.desc", [3, 2, 1, 4]),
        ("author_id.nullsfirst,id", [4, 1, 2, 3]),
        ("price", [3, 4, 2, 1]),
    ],
)
async def test_order(rest: httpx.AsyncClient, order: str, wanted: list[int]) -> None:
    """Direction and nulls as asked, otherwise as Postgres has them."""
    assert [row["id"] for row in await rows(rest, f"/books?select=id&order={order}")] == wanted


async def test_order_by_a_related_column(rest: httpx.AsyncClient) -> None:
    """Parents in the order of what they refer to; an unknown relation is PGRST108."""
    found = await rows(rest, "/books?select=id,authors(name)&order=authors(name).desc.nullslast,id")
    assert [row["id"] for row in found] == [3, 1, 2, 4]
    answer = await rest.get("/books?order=authors(name)")
    assert (answer.status_code, answer.json()["code"]) == (400, "PGRST108")


@pytest.mark.parametrize(
    ("path", "headers", "status", "content_range", "found"),
    [
        ("/books?select=id&order=id", {}, 200, "0-3/*", 4),
        ("/books?select=id&order=id&limit=2&offset=1", {}, 200, "1-2/*", 2),
        ("/books?select=id&order=id&limit=2", {"Prefer": "count=exact"}, 206, "0-1/4", 2),
        ("/books?select=id", {"Prefer": "count=exact"}, 200, "0-3/4", 4),
        ("/books?select=id", {"Prefer": "count=planned"}, 200, "0-3/4", 4),
        ("/books?select=id&order=id", {"Range": "1-2", "Range-Unit": "items"}, 200, "1-2/*", 2),
        ("/books?select=id&order=id", {"Range": "2-", "Prefer": "count=exact"}, 206, "2-3/4", 2),
        ("/books?id=eq.99", {"Prefer": "count=exact"}, 200, "*/0", 0),
        ("/books?limit=0", {}, 200, "*/*", 0),
    ],
)
async def test_ranges(
    rest: httpx.AsyncClient, path: str, headers: dict[str, str], status: int, content_range: str, found: int
) -> None:
    """Content-Range and status tell which rows these are, and of how many where that was asked."""
    answer = await rest.get(path, headers=headers)
    assert (answer.status_code, answer.headers["content-range"], len(answer.json())) == (status, content_range, found)


async def test_head_is_get_without_a_body(rest: httpx.AsyncClient) -> None:
    """The count alone, as `head: true` asks for it."""
    answer = await rest.head("/books?id=gt.1", headers={"Prefer": "count=exact"})
    assert (answer.status_code, answer.headers["content-range"], answer.content) == (200, "0-2/3", b"")


async def test_an_offset_beyond_the_end(rest: httpx.AsyncClient) -> None:
    """416 PGRST103, where the count is known."""
    answer = await rest.get("/books?offset=9", headers={"Prefer": "count=exact"})
    assert (answer.status_code, answer.json()["code"], answer.headers["content-range"]) == (416, "PGRST103", "*/4")


async def test_singular_object(rest: httpx.AsyncClient) -> None:
    """One row is an object; none or several are 406 PGRST116."""
    answer = await rest.get("/books?select=id&id=eq.1", headers=SINGULAR)
    assert answer.json() == {"id": 1}
    assert answer.headers["content-type"].startswith("application/vnd.pgrst.object+json")
    for path, count in (("/books?id=eq.99", 0), ("/books", 4)):
        answer = await rest.get(path, headers=SINGULAR)
        assert (answer.status_code, answer.json()["code"]) == (406, "PGRST116")
        assert answer.json()["details"] == f"The result contains {count} rows"


async def test_nulls_can_be_stripped(rest: httpx.AsyncClient) -> None:
    """`nulls=stripped` leaves members out."""
    headers = {"Accept": "application/vnd.pgrst.array+json;nulls=stripped"}
    answer = await rest.get("/authors?select=id,born&id=eq.2", headers=headers)
    assert answer.json() == [{"id": 2}]


async def test_names_that_need_quotes(library: Project, rest: httpx.AsyncClient) -> None:
    """Spaces, quotes and keywords in names are names."""
    library.sql("""delete from public."odd ""name"; insert into public."odd ""name" values (1, 'x')""")
    assert await rows(rest, '/odd%20%22name?select="a column",select&"a column"=eq.1') == [
        {"a column": 1, "select": "x"}
    ]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/nowhere", 404, "PGRST205"),
        ("/books?nope=eq.1", 400, "42703"),
        ("/books?select=nope", 400, "42703"),
        ("/books?order=nope", 400, "42703"),
        ("/books?select=diaries(*)", 400, "PGRST200"),
        ("/books?id=eq.x", 400, "22P02"),
        ("/books?id=what.1", 400, "PGRST100"),
        ("/books?select=id::nosuchtype", 400, "42704"),
        ("/books?select=price::int::x", 400, "PGRST100"),
        ("/pg_catalog.pg_user", 404, "PGRST205"),
        ("/users", 404, "PGRST205"),
        ("/books?title=match.[", 400, "2201B"),
        ("/books?select=...labels(word)", 400, "PGRST119"),
    ],
)
async def test_errors(rest: httpx.AsyncClient, path: str, status: int, code: str) -> None:
    """The status and the code that PostgREST has for it, in a body of four members."""
    answer = await rest.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"code", "message", "details", "hint"}


@pytest.mark.parametrize(
    "text", ["'; drop table books; --", "\\", '"', "$1", "%s", "a'b", "{x}", "\u2603", "); select 1; --"]
)
async def test_values_are_values(rest: httpx.AsyncClient, text: str) -> None:
    """No value, alias or JSON key is read as SQL."""
    parameters = {"title": f"eq.{text}", "select": "id"}
    assert (await rest.get("/books", params=parameters)).json() == []
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    answer = await rest.get("/books", params={"select": f"{quoted}:id", "id": "eq.1"})
    assert answer.json() == [{text: 1}]
    answer = await rest.get("/authors", params={"select": "id", f"meta->>{quoted}": "eq.x"})
    assert answer.json() == []


async def test_schemas(rest: httpx.AsyncClient) -> None:
    """The profile header chooses among the exposed schemas; others are PGRST106."""
    assert (await rest.get("/books?limit=1", headers={"Accept-Profile": "public"})).status_code == 200
    answer = await rest.get("/users", headers={"Accept-Profile": "auth"})
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST106")


async def test_media_types(rest: httpx.AsyncClient) -> None:
    """What cannot be answered in is PGRST107; a browser's list contains something that can."""
    answer = await rest.get("/books", headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST107")
    assert (await rest.get("/books", headers={"Accept": "text/html,*/*;q=0.8"})).status_code == 200


async def test_the_catalogue_follows_the_schema(library: Project, rest: httpx.AsyncClient) -> None:
    """A table made, changed or dropped by a migration is so for REST too, without a restart."""
    library.sql("create table public.fresh (id int)")
    assert await rows(rest, "/fresh") == []
    library.sql("alter table public.fresh add column more text default 'm'; insert into public.fresh values (1)")
    assert await rows(rest, "/fresh?select=id,more") == [{"id": 1, "more": "m"}]
    library.sql("drop table public.fresh")
    assert (await rest.get("/fresh")).status_code == 404


async def test_a_read_cannot_write(rest: httpx.AsyncClient) -> None:
    """GET runs in a read-only transaction: 405."""
    answer = await rest.get("/rpc/add_label?id=9&word=sly")
    assert (answer.status_code, answer.json()["code"]) == (405, "25006")

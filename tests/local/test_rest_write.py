"""Writing tables, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.local.supabase_world import REPRESENTATION, SINGULAR, Project


@pytest.fixture
async def rest(library: Project) -> AsyncIterator[httpx.AsyncClient]:
    async with library.rest(key=library.secret) as client:
        yield client


async def test_insert_one(rest: httpx.AsyncClient) -> None:
    """201; the row comes back when asked for, with the defaults Postgres gave it."""
    answer = await rest.post("/books", json={"title": "New", "tags": ["a", 'b"c']}, headers=REPRESENTATION)
    assert answer.status_code == 201
    assert answer.json() == [{"id": 5, "author_id": None, "title": "New", "tags": ["a", 'b"c'], "price": 5}]


async def test_insert_many_with_related(rest: httpx.AsyncClient) -> None:
    """Rows in bulk, with the columns named, and what they refer to in the answer."""
    rows = [{"title": "X", "author_id": 1, "ignored": True}, {"title": "Y"}]
    answer = await rest.post(
        "/books?columns=title,author_id&select=title,authors(name)", json=rows, headers=REPRESENTATION
    )
    assert answer.json() == [{"title": "X", "authors": {"name": "Ada"}}, {"title": "Y", "authors": None}]


async def test_minimal_and_headers_only(rest: httpx.AsyncClient) -> None:
    """Without `return=representation` nothing comes back; `headers-only` tells where the row is."""
    answer = await rest.post("/labels", json={"id": 7, "word": "w"})
    assert (answer.status_code, answer.content) == (201, b"")
    answer = await rest.post("/labels", json={"id": 8, "word": "w"}, headers={"Prefer": "return=headers-only"})
    assert (answer.headers["location"], answer.content) == ("/labels?id=eq.8", b"")


async def test_missing_columns_take_their_default(rest: httpx.AsyncClient) -> None:
    """With `missing=default` a named column that a row lacks has its default; without, it is null."""
    rows = [{"title": "A", "price": 1}, {"title": "B"}]
    prefer = {"Prefer": "return=representation,missing=default"}
    answer = await rest.post("/books?columns=title,price&select=price", json=rows, headers=prefer)
    assert answer.json() == [{"price": 1}, {"price": 5}]
    assert answer.headers["preference-applied"] == "return=representation, missing=default"
    answer = await rest.post("/books?columns=title,price", json=rows)
    assert (answer.status_code, answer.json()["code"]) == (400, "23502")


async def test_empty_bodies(rest: httpx.AsyncClient) -> None:
    """An empty list writes nothing; an empty object is a row of defaults."""
    answer = await rest.post("/books", json=[], headers=REPRESENTATION)
    assert (answer.status_code, answer.json()) == (201, [])
    assert (await rest.post("/books", json={})).json()["code"] == "23502"


async def test_upsert(rest: httpx.AsyncClient) -> None:
    """Merge or ignore duplicates, by the primary key or by `on_conflict`."""
    merge = {"Prefer": "return=representation,resolution=merge-duplicates"}
    answer = await rest.post("/labels", json=[{"id": 1, "word": "rarer"}, {"id": 3, "word": "old"}], headers=merge)
    assert answer.json() == [{"id": 1, "word": "rarer"}, {"id": 3, "word": "old"}]
    answer = await rest.post(
        "/authors?on_conflict=name&select=id,born", json={"name": "Bo", "born": "2000-01-01"}, headers=merge
    )
    assert answer.json() == [{"id": 2, "born": "2000-01-01"}]
    ignore = {"Prefer": "return=representation,resolution=ignore-duplicates"}
    answer = await rest.post("/labels", json=[{"id": 1, "word": "no"}, {"id": 4, "word": "yes"}], headers=ignore)
    assert answer.json() == [{"id": 4, "word": "yes"}]


async def test_update(rest: httpx.AsyncClient) -> None:
    """PATCH changes the filtered rows; 204 without, 200 with what they are now."""
    answer = await rest.patch("/books?author_id=eq.1&select=id,price", json={"price": 9}, headers=REPRESENTATION)
    assert (answer.status_code, answer.headers["content-range"]) == (200, "0-1/*")
    assert answer.json() == [{"id": 1, "price": 9}, {"id": 2, "price": 9}]
    assert (await rest.patch("/books?id=eq.3", json={"title": "T"})).status_code == 204
    assert (await rest.patch("/books?id=eq.99", json={"title": "T"}, headers=REPRESENTATION)).json() == []
    assert (await rest.patch("/books?id=eq.3", json={})).status_code == 204


async def test_delete(rest: httpx.AsyncClient) -> None:
    """DELETE removes the filtered rows, and gives back and counts what went."""
    headers = {"Prefer": "return=representation,count=exact"}
    answer = await rest.delete("/books?id=in.(2,4)&select=id", headers=headers)
    assert (answer.status_code, answer.json(), answer.headers["content-range"]) == (200, [{"id": 2}, {"id": 4}], "*/2")
    assert (await rest.delete("/books?id=eq.3")).status_code == 204
    assert (await rest.get("/books?select=id")).json() == [{"id": 1}]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_write_to_all_rows_is_refused(rest: httpx.AsyncClient, method: str) -> None:
    """Without a condition nothing is changed: 21000, as hosted Supabase's pg-safeupdate has it."""
    answer = await rest.request(method, "/labels", json={"word": "all"})
    assert (answer.status_code, answer.json()["code"]) == (400, "21000")
    assert (await rest.get("/labels?word=eq.rare&select=id")).json() == [{"id": 1}]


async def test_singular_writes_are_undone(rest: httpx.AsyncClient) -> None:
    """When one object is asked for and more rows change, none does: 406."""
    headers = {**REPRESENTATION, **SINGULAR}
    answer = await rest.patch("/books?author_id=eq.1", json={"price": 99}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST116")
    assert (await rest.get("/books?price=eq.99")).json() == []
    answer = await rest.patch("/books?id=eq.1&select=price", json={"price": 99}, headers=headers)
    assert answer.json() == {"price": 99}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/labels", b'{"id": 1, "word": "twice"}', 409, "23505"),
        ("/books", b'{"title": "x", "author_id": 99}', 409, "23503"),
        ("/books", b'{"title": "x", "price": -1}', 400, "23514"),
        ("/books", b'{"title": "x", "nope": 1}', 400, "PGRST204"),
        ("/books?columns=title,nope", b'{"title": "x"}', 400, "PGRST204"),
        ("/books", b'[{"title": "x"}, {"price": 1}]', 400, "PGRST102"),
        ("/books", b"", 400, "PGRST102"),
        ("/books", b"{", 400, "PGRST102"),
        ("/books", b"3", 400, "PGRST102"),
        ("/books", b'{"title": "\xff"}', 400, "PGRST102"),
        ("/books", b'{"title": "x", "price": "many"}', 400, "22P02"),
        ("/nowhere", b"{}", 404, "PGRST205"),
        ("/labels?on_conflict=word", b'{"id": 1, "word": "w"}', 409, "23505"),
    ],
)
async def test_errors(rest: httpx.AsyncClient, path: str, body: bytes, status: int, code: str) -> None:
    """The status and the code that PostgREST has for it."""
    answer = await rest.post(path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_unknown_preferences(rest: httpx.AsyncClient) -> None:
    """They are ignored, unless handling is strict: PGRST122."""
    assert (await rest.get("/books", headers={"Prefer": "taste=sweet"})).status_code == 200
    answer = await rest.get("/books", headers={"Prefer": "handling=strict,taste=sweet"})
    assert (answer.status_code, answer.json()["code"]) == (400, "PGRST122")

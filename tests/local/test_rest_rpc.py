"""Calling functions, over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.local.supabase_world import SINGULAR, Project


@pytest.fixture
async def rest(library: Project) -> AsyncIterator[httpx.AsyncClient]:
    async with library.rest(key=library.secret) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "wanted"),
    [
        ("/rpc/add", {"a": 1}, 3),
        ("/rpc/add", {"a": 1, "b": 5}, 6),
        ("/rpc/add", {"b": 5, "a": None}, None),
        ("/rpc/letters", {}, ["a", "b"]),
        ("/rpc/letters", None, ["a", "b"]),
        ("/rpc/squares", {"upto": 2}, [{"n": 1, "square": 1}, {"n": 2, "square": 4}]),
        ("/rpc/squares?n=gt.1&select=square", {"upto": 3}, [{"square": 4}, {"square": 9}]),
        ("/rpc/squares?order=n.desc&limit=1", {"upto": 3}, [{"n": 3, "square": 9}]),
        ("/rpc/squares", {"upto": 0}, []),
        ("/rpc/whole", {"any": ["json", 1]}, {"any": ["json", 1]}),
        ("/rpc/whole", [1, 2], [1, 2]),
        ("/rpc/overloaded", {"a": 1}, "number"),
        ("/rpc/overloaded", {"b": "x"}, "text"),
        ("/rpc/add_label", {"id": 9, "word": "hot"}, {"id": 9, "word": "hot"}),
        (
            "/rpc/authors_like?select=name,books(title)",
            {"pattern": "B%"},
            [{"name": "Bo", "books": [{"title": 'Ink "and" ash'}]}],
        ),
    ],
)
async def test_results(rest: httpx.AsyncClient, path: str, body: Any, wanted: Any) -> None:
    """Scalars, sets, rows, tables, defaults, overloads, one unnamed argument; rows are selected from like a table's."""
    answer = await rest.post(path, json=body) if body is not None else await rest.post(path)
    assert answer.status_code == 200, answer.text
    assert answer.json() == wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/rpc/add?a=1&b=5", 6),
        ("/rpc/squares?upto=3&n=eq.2", [{"n": 2, "square": 4}]),
        ("/rpc/authors_like?pattern=%25y&select=name", [{"name": "Cy"}]),
        ("/rpc/letters", ["a", "b"]),
    ],
)
async def test_get_takes_arguments_from_the_query(rest: httpx.AsyncClient, path: str, wanted: Any) -> None:
    """Arguments by name, conditions by operator."""
    assert (await rest.get(path)).json() == wanted


async def test_head_and_counts(rest: httpx.AsyncClient) -> None:
    """The count of a function's rows, without them."""
    answer = await rest.head("/rpc/squares?upto=5&limit=2", headers={"Prefer": "count=exact"})
    assert (answer.status_code, answer.headers["content-range"], answer.content) == (206, "0-1/5", b"")


async def test_void_is_no_content(rest: httpx.AsyncClient) -> None:
    """204."""
    answer = await rest.post("/rpc/nothing", json={})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_singular(rest: httpx.AsyncClient) -> None:
    """One row of a set as an object; otherwise 406."""
    assert (await rest.post("/rpc/squares?n=eq.2", json={"upto": 3}, headers=SINGULAR)).json() == {"n": 2, "square": 4}
    answer = await rest.post("/rpc/squares", json={"upto": 3}, headers=SINGULAR)
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST116")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("PT409", 409),
        ("PT403", 403),
        ("P0001", 400),
        ("42501", 403),
        ("23505", 409),
        ("23503", 409),
        ("40001", 500),
        ("22P02", 400),
        ("42883", 404),
        ("53300", 503),
        ("P0002", 500),
        ("XX000", 500),
        ("28000", 403),
    ],
)
async def test_raised_errors(rest: httpx.AsyncClient, code: str, status: int) -> None:
    """What a function raises has PostgREST's status for its SQLSTATE, and its own texts."""
    answer = await rest.post("/rpc/fail", json={"code": code})
    assert answer.status_code == status
    assert answer.json() == {"code": code, "message": "run_finished", "details": "the detail", "hint": "the hint"}
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_raised_json(library: Project, rest: httpx.AsyncClient) -> None:
    """`raise sqlstate 'PGRST'` decides status, headers and body."""
    library.sql("""create or replace function public.own() returns void language plpgsql as $$ begin
      raise sqlstate 'PGRST' using message = '{"code": "123", "message": "Payment", "details": "d", "hint": "h"}',
      detail = '{"status": 402, "headers": {"X-Powered-By": "Nerd"}}'; end $$""")
    answer = await rest.post("/rpc/own")
    assert (answer.status_code, answer.headers["x-powered-by"], answer.json()["code"]) == (402, "Nerd", "123")


async def test_a_function_sets_status_and_headers(rest: httpx.AsyncClient) -> None:
    """By `response.status` and `response.headers`."""
    answer = await rest.post("/rpc/teapot")
    assert (answer.status_code, answer.headers["x-tea"]) == (418, "green")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/rpc/nope", b"{}", "PGRST202"),
        ("/rpc/add", b"{}", "PGRST202"),
        ("/rpc/add", b'{"a": 1, "z": 2}', "PGRST202"),
        ("/rpc/add", b"[1]", "PGRST202"),
        ("/rpc/pg_sleep", b'{"a": 1}', "PGRST202"),
    ],
)
async def test_no_such_function(rest: httpx.AsyncClient, path: str, body: bytes, code: str) -> None:
    """An unknown name, missing or surplus arguments: 404 PGRST202."""
    answer = await rest.post(path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (404, code)


@pytest.mark.parametrize("body", [b"{", b'{"a": 1} x', b'{"a": "\xff"}', b'{"a": NaN}'])
async def test_bad_json(rest: httpx.AsyncClient, body: bytes) -> None:
    """PGRST102, 400."""
    answer = await rest.post("/rpc/add", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "PGRST102")


async def test_a_megabyte_arrives_whole(rest: httpx.AsyncClient) -> None:
    """A large body comes out as it went in: unicode, escapes, numbers beyond a float."""
    events = [{"n": n, "text": 'é"\\\n\u2028' * 40, "big": 12345678901234567890} for n in range(2500)]
    body = json.dumps(events, ensure_ascii=False).encode()
    assert len(body) > 1_000_000
    assert (await rest.post("/rpc/whole", content=body)).json() == events


async def test_the_request_is_visible_to_sql(library: Project) -> None:
    """Role, claims, method, headers (but no credentials) and the role's own timeout are set for the transaction."""
    token = library.token(sub="someone", extra={"a": [1]})
    async with library.rest(token) as rest:
        said = (await rest.post("/rpc/said", headers={"user-agent": "tester"})).json()
    assert (said["role"], said["method"], said["agent"], said["secret"]) == ("authenticated", "POST", "tester", None)
    assert (said["claims"]["sub"], said["claims"]["extra"], said["timeout"]) == ("someone", {"a": [1]}, "8s")


async def test_nothing_of_a_caller_is_left_for_the_next(library: Project) -> None:
    """Connections are shared, callers are not: the next, anonymous one has no claims of the last."""
    async with library.rest(library.token(sub="someone")) as rest:
        await rest.post("/rpc/said")
    async with library.rest() as rest:
        said = (await rest.post("/rpc/said")).json()
    assert (said["role"], said["claims"], said["timeout"]) == ("anon", {"role": "anon"}, "3s")

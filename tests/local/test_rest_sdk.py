"""The unmodified supabase-py, synchronous and asynchronous, against REST."""

from __future__ import annotations

import asyncio

import pytest
from postgrest.exceptions import APIError

from tests.local.supabase_world import Project

# supabase-py passes its own deprecated arguments on to postgrest.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")


async def test_the_async_client(library: Project) -> None:
    """Its query builder's usual sentences mean what they say."""
    async with library.sdk(library.secret) as client:
        books = client.table("books")
        found = await books.select("title, authors(name)").eq("author_id", 1).order("id", desc=True).limit(1).execute()
        assert found.data == [{"title": "Letters, vol. 1", "authors": {"name": "Ada"}}]
        counted = await client.table("books").select("*", count="exact", head=True).execute()
        assert counted.count == 4
        ranged = await client.table("books").select("id", count="exact").order("id").range(1, 2).execute()
        assert (ranged.data, ranged.count) == ([{"id": 2}, {"id": 3}], 4)
        either = await client.table("books").select("id").or_("id.eq.1,title.ilike.anon*").order("id").execute()
        assert either.data == [{"id": 1}, {"id": 4}]
        inside = (
            await client.table("books").select("id").contains("tags", ["math"]).not_.is_("author_id", "null").execute()
        )
        assert inside.data == [{"id": 1}]
        assert (await client.rpc("add", {"a": 1, "b": 1}).execute()).data == 2


async def test_writes(library: Project) -> None:
    """insert, upsert, update and delete return their rows."""
    async with library.sdk(library.secret) as client:
        made = await client.table("labels").insert([{"id": 5, "word": "five"}, {"id": 6, "word": "six"}]).execute()
        assert len(made.data) == 2
        upserted = await client.table("labels").upsert({"id": 5, "word": "FIVE"}).execute()
        assert upserted.data == [{"id": 5, "word": "FIVE"}]
        changed = await client.table("labels").update({"word": "SIX"}).eq("id", 6).execute()
        assert changed.data == [{"id": 6, "word": "SIX"}]
        gone = await client.table("labels").delete().in_("id", [5, 6]).execute()
        assert len(gone.data) == 2


async def test_single_and_maybe_single(library: Project) -> None:
    """`single` raises PGRST116 for none, `maybe_single` has no answer."""
    async with library.sdk(library.secret) as client:
        one = await client.table("labels").select("word").eq("id", 1).single().execute()
        assert one.data == {"word": "rare"}
        with pytest.raises(APIError) as refused:
            await client.table("labels").select("word").eq("id", 99).single().execute()
        assert refused.value.code == "PGRST116"
        assert await client.table("labels").select("word").eq("id", 99).maybe_single().execute() is None


async def test_errors_reach_the_client(library: Project) -> None:
    """Code, message, details and hint of what a function raised."""
    async with library.sdk() as client:
        with pytest.raises(APIError) as refused:
            await client.rpc("fail", {"code": "PT409", "message": "stale_epoch"}).execute()
        error = refused.value
        assert (error.code, error.message, error.details, error.hint) == (
            "PT409",
            "stale_epoch",
            "the detail",
            "the hint",
        )


async def test_the_sync_client(library: Project) -> None:
    """The same through the synchronous client."""

    def use() -> None:
        with library.sync_sdk(library.secret) as client:
            found = client.table("authors").select("name, books(title)").eq("name", "Bo").execute()
            assert found.data == [{"name": "Bo", "books": [{"title": 'Ink "and" ash'}]}]
            assert client.rpc("squares", {"upto": 3}).gt("n", 1).execute().data == [
                {"n": 2, "square": 4},
                {"n": 3, "square": 9},
            ]

    await asyncio.to_thread(use)

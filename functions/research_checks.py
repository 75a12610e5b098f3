"""Research under examination: the key and the models that questions are embedded and planned with."""

from functions.cache import threshold
from functions.case import Case, Check, NotNeeded, Problem
from functions.embeddings import Embeddings
from functions.errors import EmbeddingUnavailable
from functions.planners import Planner


async def embedding(case: Case) -> str:
    """Questions can be embedded, and there is a threshold to compare them by. One word is embedded, and paid for."""
    if case.settings.openai_api_key is None:
        raise NotNeeded("OPENAI_API_KEY is not set: no question is answered from memory")
    model = case.settings.embedding_model
    try:
        await Embeddings(case.settings, case.http).of("hello")
    except EmbeddingUnavailable as error:
        where = case.settings.openai_base_url
        raise Problem(f"{where} embeds nothing with OPENAI_API_KEY and EMBEDDING_MODEL={model} ({error})") from error
    nearest = threshold(case.settings)
    if nearest is None:
        return f"{model}, which nobody has measured: set EMBEDDING_THRESHOLD (docs/cache.md), or nothing is remembered"
    return f"{model}, the same from {nearest} on"


async def planner(case: Case) -> str:
    """There is a key for the model that plans. It is not asked anything."""
    found = Planner.of(case.settings, case.settings.research_model)
    if found.key is None:
        raise NotNeeded(f"{found.variable} is not set, which RESEARCH_MODEL={found.model} needs: there is no research")
    return f"{found.model} at {found.url}"


CHECKS = (Check("embedding", embedding), Check("planner", planner))

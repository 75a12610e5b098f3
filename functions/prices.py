"""What things cost: `prices.json`, dated, each figure with its source; and the size of a deployment's sandboxes.

Nano-dollars per token and per second. The database charges by them; here they are only read, checked and told.
"""

from datetime import date
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

import functions
from functions.rest import Row
from functions.settings import Settings

# Older than this, somebody should compare them with the providers' pages.
MAX_AGE_DAYS = 180

NanoUsd = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]


class Strict(BaseModel):
    """Part of the file: nothing unknown, nothing left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenPrices(Strict):
    """A token of each kind."""

    input: NanoUsd
    output: NanoUsd
    cache_write_5m: NanoUsd
    cache_write_1h: NanoUsd
    cache_read: NanoUsd


class LongPromptPrices(TokenPrices):
    """The same, for a request whose prompt has more tokens than this."""

    above_prompt_tokens: Annotated[int, Field(ge=1, strict=True)]


class ModelPrices(TokenPrices):
    """A model's prices, and those that are different for long prompts and for speed `fast`."""

    long_prompt: LongPromptPrices | None = None
    fast: TokenPrices | None = None


class SandboxPrices(Strict):
    """A second of a sandbox, for each of its processors and each GiB of its memory."""

    vcpu_second: NanoUsd
    gib_second: NanoUsd


class Prices(Strict):
    """The file. `as_of` is the day when somebody last compared it with its sources."""

    as_of: date
    unit: str
    sources: dict[str, str]
    models: Annotated[dict[str, ModelPrices], Field(min_length=1)]
    embeddings: Annotated[dict[str, NanoUsd], Field(min_length=1)]
    sandbox: SandboxPrices

    def age_days(self, today: date) -> int:
        """How old they are."""
        return (today - self.as_of).days


def read() -> Prices:
    """The prices of this tree. Raises ValidationError for a file that makes no sense."""
    return Prices.model_validate_json((files(functions) / "prices.json").read_bytes())


def deployed(settings: Settings) -> Row:
    """The argument of `set_prices_v1`: the prices, the size of this deployment's sandboxes, what a turn reserves."""
    prices = read().model_dump(mode="json", include={"as_of", "models", "embeddings", "sandbox"}, exclude_none=True)
    size = {"vcpus": settings.sandbox_vcpus, "memory_mib": settings.sandbox_memory_mib}
    return {
        **prices,
        "sandbox": {**prices["sandbox"], **size},
        "turn_estimate_microusd": settings.turn_estimate_microusd,
    }

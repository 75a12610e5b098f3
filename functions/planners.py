"""Who plans research, by the model's name: Claude through Anthropic's API, any other model through OpenAI's."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import SecretStr

from functions.settings import Settings

CLAUDE = "claude-"


@dataclass(frozen=True)
class Planner:
    """A model, where it is asked, and how its key goes along: in a header, or without egress rules in a variable."""

    provider: Literal["openai", "anthropic"]
    model: str
    url: str
    key: SecretStr | None
    variable: str
    header: str
    scheme: str

    @classmethod
    def of(cls, settings: Settings, model: str) -> Self:
        """The one that this deployment asks for a model of that name."""
        if model.startswith(CLAUDE):
            key = settings.anthropic_api_key
            return cls("anthropic", model, settings.anthropic_base_url, key, "ANTHROPIC_API_KEY", "x-api-key", "")
        key = settings.openai_api_key
        return cls("openai", model, settings.openai_base_url, key, "OPENAI_API_KEY", "Authorization", "Bearer ")

    def as_input(self) -> dict[str, str]:
        """What the runner is told."""
        return {"provider": self.provider, "model": self.model, "url": self.url}

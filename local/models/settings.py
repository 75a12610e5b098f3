"""What the models part is told by its environment."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ModelSettings(BaseSettings):
    """Environment variables `LOCAL_MODEL_…`; a missing or malformed one raises pydantic.ValidationError."""

    model_config = SettingsConfigDict(env_prefix="LOCAL_MODEL_", env_ignore_empty=True)

    key: SecretStr
    """The only API key that is answered."""
    scripts: Path | None = None
    """A directory of scripts that come before the built-in ones; its files are read anew when they change."""
    upstream_key: SecretStr | None = None
    """With a real key nothing is scripted: requests go to `upstream_url` with it in place of ours."""
    upstream_url: str = "https://api.anthropic.com"
    openai_key: SecretStr | None = None
    """The same for OpenAI's paths, which go to `openai_url`."""
    openai_url: str = "https://api.openai.com/v1"
    web_url: str = ""
    """What `{{web}}` stands for in scripts."""

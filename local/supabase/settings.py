"""What the local Supabase is told by its environment."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Json, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _names(value: Any) -> Any:
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


class SupabaseSettings(BaseSettings):
    """Environment variables `LOCAL_…`; a missing or malformed one raises pydantic.ValidationError, which names it."""

    model_config = SettingsConfigDict(env_prefix="LOCAL_")

    database_url: str
    """DSN of the superuser `supabase_admin`."""
    supabase_url: str
    """The base URL this service answers on; the issuer of tokens is `<that>/auth/v1`."""
    signing_key: Json[dict[str, Any]]
    """Private ES256 JWK; signs users' tokens."""
    jwt_secret: SecretStr
    """The legacy HS256 secret, whose tokens are accepted too."""
    publishable_key: str
    secret_key: SecretStr
    schemas: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ("public", "graphql_public")
    """What REST exposes, comma-separated in the environment; the first is the default."""
    max_rows: int = 1000
    """A read never returns more rows, as on hosted Supabase."""
    refresh_reuse_seconds: int = 10
    """For so long a refresh token may be exchanged again: the answer to the first exchange may have been lost."""

    @property
    def issuer(self) -> str:
        """The `iss` of users' tokens."""
        return f"{self.supabase_url}/auth/v1"

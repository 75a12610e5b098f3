"""What the environment says, read once at the start; `.env.example` explains each key."""

from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from e2b.connection_config import ApiParams
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sandbox_scripts.template import CPUS, MEMORY_MB

DEFAULT_PORTS = {"http": 80, "https": 443}

MICROUSD_PER_USD = 1_000_000

Seconds = Annotated[int, Field(ge=1, le=604_800)]
# To the millionth, which is what the ledger counts in.
Usd = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=6)]


class MissingSetting(SystemExit):
    """A setting is absent or wrong. Leaving it uncaught ends the program with the setting's name."""


class Settings(BaseSettings):
    """The control plane's settings. Durations carry their unit in the name, but for those whose names people know."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    sandstream_url: str
    supabase_url: str
    supabase_publishable_key: str
    supabase_secret_key: SecretStr
    supabase_jwt_secret: SecretStr | None = None
    supabase_jwt_issuer: str | None = None
    run_token_key: SecretStr | None = None
    e2b_api_key: SecretStr
    e2b_api_url: str | None = None
    e2b_sandbox_url: str | None = None
    e2b_template: str = "base"
    credentials: Literal["egress", "env"] = "egress"
    egress_allow: Annotated[tuple[str, ...], NoDecode] = ()
    package_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    anthropic_api_key: SecretStr | None = None
    anthropic_base_url: str = "https://api.anthropic.com"
    openai_api_key: SecretStr | None = None
    openai_base_url: str = "https://api.openai.com/v1"
    research_model: str = "gpt-6.2-sol"
    research_seconds: Seconds = 300
    embedding_model: str = "text-embedding-3-small"
    embedding_threshold: Annotated[float | None, Field(gt=0, le=1)] = None
    turn_seconds: Seconds = 1800
    confirmation_seconds: Seconds = 3600
    exit_seconds: Seconds = 10
    silent_seconds: Seconds = 600
    idle_sandbox_seconds: Seconds = 300
    sweep_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    e2b_webhook_secret: SecretStr | None = None
    max_sandbox_duration: Annotated[int, Field(ge=60_000, le=604_800_000)] = 3_600_000
    default_timeout_ms: Annotated[int | None, Field(ge=1000, le=604_800_000)] = None
    max_concurrent_sandboxes: Annotated[int, Field(ge=0, le=100_000)] = 10
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 120
    max_monthly_cost_per_user: Usd | None = None
    turn_estimate_usd: Usd = Decimal("0.25")
    # Those of the template that functions/template.py builds.
    sandbox_vcpus: Annotated[int, Field(ge=1, le=1024)] = CPUS
    sandbox_memory_mib: Annotated[int, Field(ge=1, le=16_777_216)] = MEMORY_MB
    sandbox_margin_seconds: Annotated[int, Field(ge=10, le=600)] = 60
    e2b_request_timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 20.0
    supabase_request_timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def read(cls) -> Self:
        """Settings from the environment. Raises MissingSetting naming the first key that is absent or wrong."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).upper() if first["loc"] else "RUN_TOKEN_KEY"
            raise MissingSetting(f"setting {name}: {first['msg']}") from None

    @field_validator("sandstream_url", "supabase_url", "anthropic_base_url", "openai_base_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")

    @field_validator("egress_allow", "package_hosts", mode="before")
    @classmethod
    def _comma_separated(cls, hosts: object) -> object:
        return tuple(host.strip() for host in hosts.split(",") if host.strip()) if isinstance(hosts, str) else hosts

    @model_validator(mode="after")
    def _some_run_token_key(self) -> Self:
        if self.run_token_key is None and self.supabase_jwt_secret is None:
            raise ValueError("RUN_TOKEN_KEY (a private ES256 JWK) or SUPABASE_JWT_SECRET must be set")
        return self

    @property
    def issuer(self) -> str:
        """Who signs users' tokens: Supabase Auth's own URL, unless a custom domain stands before the project."""
        return self.supabase_jwt_issuer or f"{self.supabase_url}/auth/v1"

    @property
    def project(self) -> str:
        """Whose sandboxes are ours, where several deployments share an E2B account: those of one Supabase project."""
        return netloc(self.issuer)

    @property
    def max_limit_seconds(self) -> int:
        """The longest a run may last: the plan's maximum less the margin that its sandbox outlives it by."""
        return self.max_sandbox_duration // 1000 - self.sandbox_margin_seconds

    @property
    def conversation_limit_seconds(self) -> int:
        """The longest that a run of a conversation may last: its turn, and the wait for its user's answers."""
        return min(self.turn_seconds + self.confirmation_seconds, self.max_limit_seconds)

    @property
    def default_limit_seconds(self) -> int:
        """The longest that a run may last for which nobody named a limit."""
        default = self.max_limit_seconds if self.default_timeout_ms is None else self.default_timeout_ms // 1000
        return min(default, self.max_limit_seconds)

    @property
    def default_research_seconds(self) -> int:
        """The longest that a question may take for which nobody named a limit."""
        return min(self.research_seconds, self.max_limit_seconds)

    @property
    def max_month_microusd(self) -> int | None:
        """What one owner may spend in a month; None for as much as they like."""
        return None if self.max_monthly_cost_per_user is None else microusd(self.max_monthly_cost_per_user)

    @property
    def turn_estimate_microusd(self) -> int:
        """What a turn reserves beside its sandbox."""
        return microusd(self.turn_estimate_usd)

    @cached_property
    def e2b(self) -> ApiParams:
        """The connection arguments that every call of the E2B SDK takes."""
        return ApiParams(
            api_key=self.e2b_api_key.get_secret_value(),
            api_url=self.e2b_api_url,
            sandbox_url=self.e2b_sandbox_url,
            request_timeout=self.e2b_request_timeout_seconds,
        )


def microusd(usd: Decimal) -> int:
    """Dollars as the ledger counts them."""
    return int(usd * MICROUSD_PER_USD)


def netloc(url: str) -> str:
    """The host of a URL as an egress entry: with its port only when that is not the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.port is None or parts.port == DEFAULT_PORTS.get(parts.scheme):
        return host
    return f"{host}:{parts.port}"

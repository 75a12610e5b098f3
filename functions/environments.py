"""Environments in Managed Agents' words: what a session's sandbox may reach.

Sandboxes are closed: an environment lists what is open beside what every run needs. What cannot be kept as a promise
(unrestricted networking, packages, self-hosted sandboxes) is refused by its name.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from functions.agents import Description, Metadata, MetadataPatch, patched
from functions.errors import NotBuilt
from functions.hosts import open_host
from functions.models import Answer, Request, Text, Title
from functions.settings import Settings
from functions.tools import Row

MAX_HOSTS = 50
CLOSED = {"type": "limited", "allowed_hosts": [], "allow_mcp_servers": False, "allow_package_managers": False}
MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")

Names = Annotated[tuple[Text, ...] | None, Field(strict=False)]


class Networking(Request):
    """What may be reached; None leaves a field as it is."""

    type: Literal["limited", "unrestricted"]
    allowed_hosts: Annotated[tuple[Text, ...] | None, Field(max_length=MAX_HOSTS, strict=False)] = None
    allow_mcp_servers: bool | None = None
    allow_package_managers: bool | None = None

    @field_validator("type")
    @classmethod
    def _limited(cls, type: str) -> str:
        if type == "unrestricted":
            raise NotBuilt("unrestricted networking is not built here: list hosts in allowed_hosts")
        return type

    def over(self, kept: Row, settings: Settings) -> Row:
        """As it is kept. Raises InvalidRequest for a host that may not be named, NotBuilt without PACKAGE_HOSTS."""
        if self.allow_package_managers and not settings.package_hosts:
            raise NotBuilt("allow_package_managers is not built here: this deployment names no PACKAGE_HOSTS")
        param = "config.networking.allowed_hosts"
        changes = self.model_dump(mode="json", exclude_none=True)
        if self.allowed_hosts is not None:
            hosts = enumerate(self.allowed_hosts)
            changes["allowed_hosts"] = [open_host(entry, settings.egress_allow, f"{param}.{n}") for n, entry in hosts]
        return {**kept, **changes}


class Packages(Request):
    """What would be installed; empty lists are all that is built."""

    type: Literal["packages"] | None = None
    apt: Names = None
    cargo: Names = None
    gem: Names = None
    go: Names = None
    npm: Names = None
    pip: Names = None

    @field_validator(*MANAGERS)
    @classmethod
    def _none(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names:
            raise NotBuilt("packages are not built here: put them into the template")
        return names


class Config(Request):
    """Where sandboxes are; `cloud` is E2B or what stands in for it."""

    type: Literal["cloud", "self_hosted"]
    networking: Networking | None = None
    packages: Packages | None = None

    @field_validator("type")
    @classmethod
    def _cloud(cls, type: str) -> str:
        if type == "self_hosted":
            raise NotBuilt("self_hosted environments are not built here")
        return type

    def over(self, kept: Row, settings: Settings) -> Row:
        """As it is kept, where `kept` says what is not said here."""
        networking = kept["networking"]
        if self.networking is not None:
            networking = self.networking.over(networking, settings)
        return {"type": self.type, "networking": networking, "packages": no_packages()}


class EnvironmentRequest(Request):
    """The body of `POST /v1/environments`. Left out, the networking is limited and closed."""

    name: Title
    config: Config | None = None
    description: Description | None = None
    metadata: Metadata | None = None
    scope: Literal["account", "organization"] | None = None

    @field_validator("scope")
    @classmethod
    def _own(cls, scope: str | None) -> str | None:
        return own(scope)

    def kept(self, settings: Settings) -> Row:
        """What is kept. Raises InvalidRequest for a host that may not be named."""
        return {
            "name": self.name,
            "description": self.description,
            "config": (self.config or Config(type="cloud")).over(closed(), settings),
            "metadata": self.metadata or {},
            "scope": "account",
        }


class EnvironmentUpdate(Request):
    """The body of `POST /v1/environments/{id}`: what is left out stays."""

    name: Title | None = None
    config: Config | None = None
    description: Description | None = None
    metadata: MetadataPatch | None = None
    scope: Literal["account", "organization"] | None = None

    @field_validator("scope")
    @classmethod
    def _own(cls, scope: str | None) -> str | None:
        return own(scope)

    def over(self, kept: Row, settings: Settings) -> Row:
        """What is kept after `kept`. Raises InvalidRequest."""
        changes: Row = {}
        if self.name is not None:
            changes["name"] = self.name
        if "description" in self.model_fields_set:
            changes["description"] = self.description
        if self.config is not None:
            changes["config"] = self.config.over({**closed(), **kept["config"]}, settings)
        if self.metadata is not None:
            # Here an empty string takes a key away as null does.
            changes["metadata"] = patched(kept["metadata"], {key: text or None for key, text in self.metadata.items()})
        return {**kept, **changes}


class Environment(Answer):
    """An environment, in the SDK's shape (`BetaEnvironment`)."""

    type: Literal["environment"] = "environment"
    id: str
    name: str
    description: str | None
    config: dict[str, Any]
    metadata: dict[str, str]
    scope: str | None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class DeletedEnvironment(Answer):
    """What is left of an environment."""

    type: Literal["environment_deleted"] = "environment_deleted"
    id: str


def as_environment(row: Row) -> Environment:
    """An environment from its row: `{id, config, created_at, updated_at, archived_at}`."""
    kept = row["config"]
    optional: Row = {"description": None, "metadata": {}, "scope": None}
    return Environment.model_validate({**row, **optional, **kept, "config": {**closed(), **kept.get("config", {})}})


def closed() -> Row:
    """The configuration of a sandbox that reaches nothing but what every run needs."""
    return {"type": "cloud", "networking": CLOSED, "packages": no_packages()}


def no_packages() -> Row:
    """What an answer says where nothing is installed."""
    return {"type": "packages", **{manager: [] for manager in MANAGERS}}


def own(scope: str | None) -> str | None:
    """An environment is its owner's. Raises NotBuilt for one that others share."""
    if scope == "organization":
        raise NotBuilt("the scope organization is not built here")
    return scope


def snapshot(row: Row) -> Row:
    """What a session keeps of its environment."""
    kept: Row = row["config"]
    return {**kept, "config": {**closed(), **kept.get("config", {})}}

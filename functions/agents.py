"""Agents in Managed Agents' words: a request, the configuration that is kept, the snapshot that a session pins."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from functions.errors import InvalidRequest, NotBuilt
from functions.models import Answer, Label, LabelName, Request, Text, Title, metadata_size
from functions.tools import McpServers, Row, Tools, Unbuilt, resolved

DEFAULT = "default"
MAX_SYSTEM_LENGTH = 100_000
MAX_DESCRIPTION_LENGTH = 2048
MAX_METADATA_PAIRS = 16
SERVICE_ACCOUNT = {"type": "service_account"}
EFFORTS = ("low", "medium", "high", "xhigh", "max")

AgentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Metadata = Annotated[dict[LabelName, Label], Field(max_length=MAX_METADATA_PAIRS), AfterValidator(metadata_size)]
MetadataPatch = Annotated[dict[LabelName, Label | None], Field(max_length=2 * MAX_METADATA_PAIRS)]
System = Annotated[Text, Field(max_length=MAX_SYSTEM_LENGTH)]
Description = Annotated[Text, Field(max_length=MAX_DESCRIPTION_LENGTH)]


def unwrapped(effort: object) -> object:
    """`{"type": "high"}` is the long form of `"high"`."""
    return effort["type"] if isinstance(effort, dict) and set(effort) == {"type"} else effort


def as_config(model: object) -> object:
    """A model's name is the short form of its configuration."""
    return {"id": model} if isinstance(model, str) else model


class ModelConfig(Request):
    """Which model, and how hard it is to think. The name becomes an argument of the CLI."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]{0,199}$")]
    effort: Annotated[Literal[EFFORTS] | None, BeforeValidator(unwrapped)] = None  # type: ignore[valid-type]
    inference_geo: Unbuilt = None
    speed: Literal["standard", "fast"] | None = None

    @field_validator("speed")
    @classmethod
    def _standard(cls, speed: str | None) -> str | None:
        if speed == "fast":
            raise NotBuilt("the speed fast is not built here")
        return speed

    def resolved(self) -> Row:
        """As it is kept."""
        return {"id": self.id, "effort": {"type": self.effort} if self.effort else None, **MODEL_DEFAULTS}


MODEL_DEFAULTS = {"speed": "standard", "inference_geo": None}
Model = Annotated[ModelConfig, BeforeValidator(as_config)]


class ExecutionIdentity(Request, extra="allow"):
    """Who runs act as: here always the deployment itself."""

    type: str

    @field_validator("type")
    @classmethod
    def _service_account(cls, type: str) -> str:
        if type != SERVICE_ACCOUNT["type"]:
            raise NotBuilt(f"the execution_identity {type[:50]} is not built here")
        return type


class AgentRequest(Request):
    """The body of `POST /v1/agents`."""

    name: Title
    model: Model
    description: Description | None = None
    system: System | None = None
    tools: Tools | None = None
    mcp_servers: McpServers | None = None
    metadata: Metadata | None = None
    skills: Unbuilt = None
    multiagent: Unbuilt = None
    execution_identity: ExecutionIdentity | None = None

    def config(self, opened: tuple[str, ...]) -> Row:
        """What is kept. Raises InvalidRequest where tools and MCP servers do not fit each other."""
        return {
            "name": self.name,
            "description": self.description or None,
            "model": self.model.resolved(),
            "system": self.system or None,
            **resolved(self.tools or (), self.mcp_servers or (), opened),
            "skills": [],
            "metadata": self.metadata or {},
            "multiagent": None,
        }


class AgentUpdate(Request):
    """The body of `POST /v1/agents/{id}`: what is left out stays. `version` is the one that the client has seen."""

    version: Annotated[int | None, Field(ge=1)] = None
    name: Title | None = None
    model: Model | None = None
    description: Description | None = None
    system: System | None = None
    tools: Tools | None = None
    mcp_servers: McpServers | None = None
    metadata: MetadataPatch | None = None
    skills: Unbuilt = None
    multiagent: Unbuilt = None
    execution_identity: ExecutionIdentity | None = None

    def config(self, kept: Row, opened: tuple[str, ...]) -> Row:
        """The configuration that follows `kept`. Raises InvalidRequest."""
        given = self.model_fields_set - {"version", "metadata"}
        for name in given & {"name", "model"}:
            if getattr(self, name) is None:
                raise InvalidRequest("cannot be cleared", param=name)
        changes: Row = {name: getattr(self, name) for name in given}
        if self.metadata is not None:
            changes["metadata"] = patched(kept["metadata"], self.metadata)
        if self.model is not None and "effort" not in self.model.model_fields_set:
            changes["model"] = self.model.model_copy(update={"effort": unwrapped(kept["model"].get("effort"))})
        return AgentRequest.model_validate(kept).model_copy(update=changes).config(opened)


def patched(kept: dict[str, str], patch: dict[str, str | None]) -> dict[str, str]:
    """Metadata after a patch: null takes a key away. Raises InvalidRequest when it grows over its bounds."""
    merged = {name: value for name, value in {**kept, **patch}.items() if value is not None}
    if len(merged) > MAX_METADATA_PAIRS:
        raise InvalidRequest(f"at most {MAX_METADATA_PAIRS} pairs", param="metadata")
    try:
        return metadata_size(merged)
    except ValueError as error:
        raise InvalidRequest(str(error), param="metadata") from error


class Agent(Answer):
    """One version of an agent, in the SDK's shape (`BetaManagedAgentsAgent`)."""

    type: Literal["agent"] = "agent"
    id: str
    version: int
    name: str
    description: str | None
    model: dict[str, Any]
    system: str | None
    tools: list[dict[str, Any]]
    mcp_servers: list[dict[str, Any]]
    skills: list[dict[str, Any]]
    multiagent: None
    execution_identity: dict[str, Any]
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


def as_agent(row: Row) -> Agent:
    """An agent from its row: `{id, version, config, created_at, updated_at, archived_at}`."""
    return Agent.model_validate({**row, **complete(row["config"])})


def complete(config: Row) -> Row:
    """A configuration with what every answer holds, also where it was not kept."""
    optional: Row = {"description": None, "system": None, "multiagent": None}
    lists: Row = {"tools": [], "mcp_servers": [], "skills": [], "metadata": {}}
    model = {"effort": None, **MODEL_DEFAULTS, **config["model"]}
    return {**optional, **lists, "execution_identity": SERVICE_ACCOUNT, **config, "model": model}


def snapshot(id: str, version: int, config: Row) -> Row:
    """What a session pins of an agent, in the SDK's shape (`BetaManagedAgentsSessionAgent`)."""
    kept = {name: value for name, value in complete(config).items() if name != "metadata"}
    return {"type": "agent", "id": id, "version": version, **kept}

"""Sessions in Managed Agents' words: what a request may say of one, and how one is answered.

A session of a plan of commands has no agent; it is answered with one that is called `commands`, so that whoever reads
a list of sessions can read them all.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field

from functions.agents import (
    DEFAULT,
    SERVICE_ACCOUNT,
    AgentId,
    AgentRequest,
    Metadata,
    MetadataPatch,
    Model,
    System,
    snapshot,
)
from functions.errors import InvalidRequest
from functions.models import MICROUSD_PER_CENT, Answer, Budget, Request, Title
from functions.repositories import Resources
from functions.tools import McpServers, Row, Tools, Unbuilt

MAX_INITIAL_EVENTS = 50
COMMANDS = {
    "type": "agent",
    "id": "commands",
    "version": 1,
    "name": "Commands",
    "description": "A plan of commands, without a model.",
    "model": {"id": "none", "effort": None, "speed": "standard", "inference_geo": None},
    "system": None,
    "tools": [],
    "mcp_servers": [],
    "skills": [],
    "multiagent": None,
    "execution_identity": SERVICE_ACCOUNT,
}


def as_reference(agent: object) -> object:
    """An agent's id is the short form of a reference to its latest version."""
    return {"type": "agent", "id": agent} if isinstance(agent, str) else agent


class AgentReference(Request):
    """An agent, at a version or at its latest."""

    type: Literal["agent"]
    id: AgentId
    version: Annotated[int | None, Field(ge=1)] = None

    def applied(self, config: Row, _opened: tuple[str, ...]) -> Row:
        """The configuration as it is."""
        return config


class AgentOverrides(Request):
    """An agent, and what is different for this session: each field replaces the agent's."""

    type: Literal["agent_with_overrides"]
    id: AgentId
    version: Annotated[int | None, Field(ge=1)] = None
    model: Model | None = None
    system: System | None = None
    tools: Tools | None = None
    mcp_servers: McpServers | None = None
    skills: Unbuilt = None

    def applied(self, config: Row, opened: tuple[str, ...]) -> Row:
        """The configuration with what is different. Raises InvalidRequest where it does not fit."""
        given = self.model_fields_set - {"type", "id", "version"}
        changes = {name: getattr(self, name) for name in given if name == "system" or getattr(self, name) is not None}
        return AgentRequest.model_validate(config).model_copy(update=changes).config(opened)


class SessionRequest(Request):
    """The body of `POST /v1/sessions`. With `initial_events` the session starts at once."""

    agent: Annotated[AgentReference | AgentOverrides, Field(discriminator="type"), BeforeValidator(as_reference)]
    environment_id: AgentId = DEFAULT
    budget: Budget | None = None
    initial_events: Annotated[tuple[dict[str, Any], ...] | None, Field(strict=False, max_length=MAX_INITIAL_EVENTS)] = (
        None
    )
    metadata: Metadata | None = None
    resources: Resources | None = None
    title: Title | None = None
    vault_ids: Unbuilt = None


class AgentChange(Request):
    """What may change of a session's agent: whole lists."""

    tools: Tools | None = None
    mcp_servers: McpServers | None = None

    def applied(self, agent: Row | None, opened: tuple[str, ...]) -> Row:
        """The session's snapshot after the change. Raises InvalidRequest where it does not fit, or there is none."""
        if agent is None:
            raise InvalidRequest("a plan of commands has no agent", param="agent")
        given = {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}
        known = {name: value for name, value in agent.items() if name in AgentRequest.model_fields}
        changed = AgentRequest.model_validate(known).model_copy(update=given).config(opened)
        return {**agent, "tools": changed["tools"], "mcp_servers": changed["mcp_servers"]}


class SessionUpdate(Request):
    """The body of `POST /v1/sessions/{id}`: what is left out stays."""

    agent: AgentChange | None = None
    budget: Budget | None = None
    metadata: MetadataPatch | None = None
    title: Title | None = None
    vault_ids: Unbuilt = None

    def changes(self) -> Row:
        """The changes in the words of `update_session_v1`, but for the agent's."""
        found: Row = {}
        if "title" in self.model_fields_set:
            found["title"] = self.title
        if "budget" in self.model_fields_set:
            found["budget_microusd"] = self.budget.microusd if self.budget else None
        if self.metadata is not None:
            found["metadata"] = self.metadata
        return found


class Session(Answer):
    """A session as it stands, in the SDK's shape (`BetaManagedAgentsSession`). `last_seq` is the length of its log."""

    type: Literal["session"] = "session"
    id: UUID
    agent: dict[str, Any]
    environment_id: str
    title: str | None
    status: str
    last_seq: int
    metadata: dict[str, Any]
    resources: list[dict[str, Any]]
    budget: dict[str, Any] | None
    usage: dict[str, Any]
    stats: dict[str, float | None]
    outcome_evaluations: list[dict[str, Any]]
    vault_ids: list[str]
    deployment_id: None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class DeletedSession(Answer):
    """What is left of a session."""

    type: Literal["session_deleted"] = "session_deleted"
    id: UUID


def as_session(row: Row) -> Session:
    """A session from its row."""
    budget = row["budget_microusd"]
    unbuilt: Row = {"outcome_evaluations": [], "vault_ids": [], "deployment_id": None}
    shown = {
        "agent": pinned(row["agent"]) if row["agent"] else COMMANDS,
        "environment_id": row["environment_id"] or DEFAULT,
        "budget": {"type": "limit", "max_list_cost": cents(budget)} if budget is not None else None,
        "usage": usage(row),
        "stats": {"active_seconds": None, "duration_seconds": duration(row)},
    }
    return Session.model_validate({**row, **unbuilt, **shown})


def pinned(agent: Row) -> Row:
    """A session's snapshot with what every answer holds."""
    return snapshot(agent["id"], agent["version"], agent)


def usage(row: Row) -> Row:
    """The tokens of all turns. How long caches live is not told apart: `cache_creation_input_tokens` is their sum."""
    kept = row["usage"] or {}
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return {
        **{name: kept.get(name, 0) for name in names},
        "cache_creation": None,
        "server_tool_use": None,
        "active_seconds": None,
        "list_cost": cents(row["cost_microusd"]),
    }


def cents(microusd: int) -> Row:
    """An amount as the wire has it, in whole cents, rounded up: what was spent is never understated."""
    return {"amount": str(-(-microusd // MICROUSD_PER_CENT)), "currency": "USD"}


def duration(row: Row) -> float:
    """Seconds since the session was made; until its end, once it has one."""
    ended = row["updated_at"] if row["status"] == "terminated" else None
    until = datetime.fromisoformat(ended) if ended else datetime.now(UTC)
    return max(0.0, (until - datetime.fromisoformat(row["created_at"])).total_seconds())

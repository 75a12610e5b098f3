"""The tools of an agent in Managed Agents' words: what a request may say of them, and the resolved form that is kept.

A toolset has a default, and each of its tools may differ from it. What is kept says for each whether it is enabled and
whether it asks; `deny` is a word of ours for a tool that is not enabled. The kept form is also a valid request.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from functions.errors import InvalidRequest, NotBuilt
from functions.hosts import open_url
from functions.models import Request, Text, readable

Row = dict[str, Any]
BuiltInName = Literal["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"]

MAX_TOOLS = 256
MAX_MCP_SERVERS = 20
MAX_DESCRIPTION_LENGTH = 4096
# The runner offers custom tools to Claude as an MCP server of this name.
RESERVED_SERVER = "custom"
ALWAYS_ALLOW = {"type": "always_allow"}
ALWAYS_ASK = {"type": "always_ask"}


def absent(value: object, info: ValidationInfo) -> None:
    """Nothing, or an empty list. Raises NotBuilt with the field's name for anything else."""
    if value is not None and value not in ([], {}):
        raise NotBuilt(f"{info.field_name} is not built here")


Unbuilt = Annotated[Any, AfterValidator(absent)]


class Policy(Request):
    """Whether a tool runs when Claude asks for it."""

    type: Literal["always_allow", "always_ask", "deny", "auto"]

    @field_validator("type")
    @classmethod
    def _without_judge(cls, type: str) -> str:
        if type == "auto":
            raise NotBuilt("the permission policy auto is not built here")
        return type


class Rule(Request):
    """What is said of a toolset's default or of one tool; None leaves it as it is above."""

    enabled: bool | None = None
    permission_policy: Policy | None = None

    @property
    def denied(self) -> bool:
        """Whether it says `deny`."""
        return self.permission_policy is not None and self.permission_policy.type == "deny"

    def over(self, above: Row, *, lifts: bool = False) -> Row:
        """`{"enabled", "permission_policy"}`, where `above` says what is not said here.

        With `lifts` a policy of its own enables a tool: what stands above was denied, and this is the exception.
        """
        if self.denied:
            return {"enabled": False, "permission_policy": ALWAYS_ASK}
        if self.permission_policy is None:
            enabled, policy = above["enabled"], above["permission_policy"]
        else:
            enabled, policy = above["enabled"] or lifts, self.permission_policy.model_dump()
        return {"enabled": enabled if self.enabled is None else self.enabled, "permission_policy": policy}


class BuiltInRule(Rule):
    """One of Claude Code's own tools."""

    name: BuiltInName
    type: BuiltInName | None = None
    allowed_domains: Unbuilt = None
    blocked_domains: Unbuilt = None
    max_content_tokens: Unbuilt = None
    url_sources: Unbuilt = None
    user_location: Unbuilt = None

    @model_validator(mode="after")
    def _type_is_name(self) -> "BuiltInRule":
        if self.type not in (None, self.name):
            raise ValueError("the type of a tool is its name")
        return self

    def words(self) -> Row:
        """What it is called."""
        return {"type": self.name, "name": self.name}


class McpRule(Rule):
    """One tool of an MCP server."""

    name: Annotated[Text, Field(min_length=1, max_length=128)]

    def words(self) -> Row:
        """What it is called."""
        return {"name": self.name}


def settled(default: Rule | None, rules: tuple[BuiltInRule | McpRule, ...], policy: Row) -> Row:
    """`{"default_config", "configs"}` as they are kept; `policy` is that of a toolset that says nothing.

    Raises InvalidRequest for a tool that is named twice.
    """
    once((rule.name for rule in rules), "tools")
    default = default or Rule()
    above = default.over({"enabled": True, "permission_policy": policy})
    configs = [{**rule.words(), **rule.over(above, lifts=default.denied)} for rule in rules]
    return {"default_config": above, "configs": configs}


class AgentToolset(Request):
    """Claude Code's own tools: all of them run unasked, unless said otherwise."""

    type: Literal["agent_toolset_20260401"]
    configs: Annotated[tuple[BuiltInRule, ...], Field(strict=False, max_length=MAX_TOOLS)] = ()
    default_config: Rule | None = None

    @property
    def key(self) -> str:
        """What an agent has only one of."""
        return self.type

    def resolved(self) -> Row:
        """As it is kept. Raises InvalidRequest for a tool that is named twice."""
        return {"type": self.type, **settled(self.default_config, self.configs, ALWAYS_ALLOW)}


class McpToolset(Request):
    """The tools of one MCP server: they ask first, unless said otherwise, since others may add to them."""

    type: Literal["mcp_toolset"]
    mcp_server_name: Annotated[Text, Field(min_length=1, max_length=255)]
    configs: Annotated[tuple[McpRule, ...], Field(strict=False, max_length=MAX_TOOLS)] = ()
    default_config: Rule | None = None

    @property
    def key(self) -> str:
        """What an agent has only one of."""
        return f"{self.type} {self.mcp_server_name}"

    def resolved(self) -> Row:
        """As it is kept. Raises InvalidRequest for a tool that is named twice."""
        rules = settled(self.default_config, self.configs, ALWAYS_ASK)
        return {"type": self.type, "mcp_server_name": self.mcp_server_name, **rules}


class InputSchema(Request, extra="allow"):
    """A JSON Schema of an object. More than this is for the model to read."""

    type: Literal["object"]
    properties: dict[str, Any] | None = None
    required: Annotated[tuple[str, ...] | None, Field(strict=False)] = None

    @model_validator(mode="after")
    def _readable(self) -> Self:
        readable(self.model_dump(mode="python"))
        return self


class CustomTool(Request):
    """A tool that the client runs."""

    type: Literal["custom"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    description: Annotated[Text, Field(min_length=1, max_length=MAX_DESCRIPTION_LENGTH)]
    input_schema: InputSchema

    @property
    def key(self) -> str:
        """What an agent has only one of."""
        return f"{self.type} {self.name}"

    def resolved(self) -> Row:
        """As it is kept."""
        return {**self.model_dump(mode="json", exclude={"input_schema"}), "input_schema": self._schema()}

    def _schema(self) -> Row:
        return self.input_schema.model_dump(mode="json", exclude_unset=True)


class McpServer(Request):
    """An MCP server that the sandbox speaks to. The name becomes a part of its tools' names, `mcp__<name>__<tool>`."""

    type: Literal["url"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$")]
    url: Text

    @field_validator("name")
    @classmethod
    def _unambiguous(cls, name: str) -> str:
        if name == RESERVED_SERVER or "__" in name or name.endswith("_"):
            raise ValueError(f"must not be {RESERVED_SERVER}, hold __ or end in _")
        return name


Tool = Annotated[AgentToolset | McpToolset | CustomTool, Field(discriminator="type")]
Tools = Annotated[tuple[Tool, ...], Field(strict=False, max_length=MAX_TOOLS)]
McpServers = Annotated[tuple[McpServer, ...], Field(strict=False, max_length=MAX_MCP_SERVERS)]


def resolved(tools: Tools, servers: McpServers, opened: tuple[str, ...]) -> Row:
    """`{"tools", "mcp_servers"}` as they are kept. Raises InvalidRequest where the two do not fit each other.

    `opened` is the operator's EGRESS_ALLOW.
    """
    once((tool.key for tool in tools), "tools")
    once((server.name for server in servers), "mcp_servers")
    used = {tool.mcp_server_name for tool in tools if isinstance(tool, McpToolset)}
    declared = {server.name for server in servers}
    if used - declared:
        raise InvalidRequest(f"no MCP server is called {min(used - declared)}", param="tools")
    if declared - used:
        raise InvalidRequest(f"no mcp_toolset uses {min(declared - used)}", param="mcp_servers")
    for index, server in enumerate(servers):
        open_url(server.url, opened, f"mcp_servers.{index}.url")
    return {"tools": [tool.resolved() for tool in tools], "mcp_servers": [server.model_dump() for server in servers]}


def once(names: Iterable[str], param: str) -> None:
    """Raises InvalidRequest for a name that comes twice."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InvalidRequest(f"{repeated[0]} is there twice", param=param)

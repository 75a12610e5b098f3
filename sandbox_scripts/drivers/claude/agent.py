"""The agent of the job: what it may use and under which policy, in the CLI's words.

`agent` has the form of BetaManagedAgentsSessionAgent in the anthropic SDK, its tools normalised: every toolset names
its default_config and its configs.
"""

from __future__ import annotations

import re

from .events import TOOL_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOOLSET = "agent_toolset_20260401"
CUSTOM = "custom"
# What Claude Code offers beside the toolset's tools and what is allowed with its default: sub-agents.
COMPANIONS = ("Task",)
_BUILT_IN = {name: tool for tool, name in TOOL_NAMES.items()}
_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")
_DECISIONS = {"always_allow": "allow", "always_ask": "ask"}


class Policies:
    """One toolset: a decision for each name, and one for all others."""

    def __init__(self, toolset: dict[str, Any]) -> None:
        self.default = _decision(toolset.get("default_config") or {}, "ask")
        self.named = {str(one["name"]): _decision(one, self.default) for one in toolset.get("configs") or ()}

    def of(self, name: str) -> str:
        """allow, ask or deny."""
        return self.named.get(name, self.default)


class Agent:
    """What the driver needs of an agent."""

    def __init__(self, raw: dict[str, Any]) -> None:
        """Raise KeyError, TypeError or ValueError when it is no agent."""
        self.model = str(raw["model"]["id"])
        self.effort = str((raw["model"].get("effort") or {}).get("type") or "")
        self.system = str(raw.get("system") or "")
        tools = raw.get("tools") or []
        self.custom_tools = [tool for tool in tools if tool["type"] == CUSTOM]
        self._customs = {str(tool["name"]) for tool in self.custom_tools}
        own = [tool for tool in tools if tool["type"] == TOOLSET]
        self._own = Policies(own[0]) if own else None
        self._of_servers = {
            _safe(str(tool["mcp_server_name"])): Policies(tool) for tool in tools if tool["type"] == "mcp_toolset"
        }
        servers = {_safe(str(server["name"])): str(server["url"]) for server in raw.get("mcp_servers") or ()}
        self.servers = {name: url for name, url in servers.items() if name in self._of_servers}

    def permission(self, tool: str) -> str:
        """allow, ask or deny for a tool, by the CLI's name for it."""
        if tool.startswith("mcp__"):
            return self._remote(*_parts(tool))
        if self._own is None:
            return "deny"
        return self._own.of(TOOL_NAMES.get(tool, tool))

    def offered(self) -> list[str]:
        """The built-in tools that Claude is told of. A tool that is denied is not among them."""
        names = [*_BUILT_IN.values(), *COMPANIONS]
        return [tool for tool in names if self.permission(tool) != "deny"]

    def settings(self) -> dict[str, Any]:
        """The CLI's settings.

        Every tool is under `ask`, which overrides what the CLI would let pass by itself, so that each use comes
        to the permission callback: one place decides, by the tool's exact name.
        """
        servers = [f"mcp__{name}" for name in self.servers]
        allowed = [f"mcp__{CUSTOM}"] if self.custom_tools else []
        return {
            "permissions": {"ask": [*self.offered(), *servers], "allow": allowed, "defaultMode": "default"},
            "disableAllHooks": True,
            "enableAllProjectMcpServers": False,
            "autoMemoryEnabled": False,
        }

    def mcp_config(self) -> dict[str, Any]:
        """The CLI's MCP configuration. The server `custom` is this runner, reached over the control channel."""
        servers: dict[str, Any] = {name: {"type": "http", "url": url} for name, url in self.servers.items()}
        if self.custom_tools:
            servers[CUSTOM] = {"type": "sdk", "name": CUSTOM}
        return {"mcpServers": servers}

    def _remote(self, server: str, name: str) -> str:
        if server == CUSTOM:
            return "allow" if name in self._customs else "deny"
        policies = self._of_servers.get(server)
        return policies.of(name) if policies else "deny"


def _decision(config: dict[str, Any], default: str) -> str:
    """A policy this runner does not know is asked about."""
    if config.get("enabled") is False:
        return "deny"
    policy = (config.get("permission_policy") or {}).get("type")
    return _DECISIONS.get(policy, "ask") if policy else default


def _parts(tool: str) -> tuple[str, str]:
    server, _, name = tool[len("mcp__") :].partition("__")
    return server, name


def _safe(name: str) -> str:
    """A server's name as the CLI writes it into its tools' names."""
    return _UNSAFE.sub("_", name)

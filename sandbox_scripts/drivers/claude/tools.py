"""The CLI's tools as kinds of events: the agent toolset's own, those of MCP servers, and custom ones."""

from __future__ import annotations

# The MCP server that stands for the tools which the API's client runs itself.
CUSTOM_SERVER = "custom"
NAME_CHARS = 500

# The CLI's names of the tools that the API's agent toolset has. Others keep the CLI's.
TOOL_NAMES = {
    "Bash": "bash",
    "Edit": "edit",
    "Read": "read",
    "Write": "write",
    "Glob": "glob",
    "Grep": "grep",
    "WebFetch": "web_fetch",
    "WebSearch": "web_search",
}

USES = {"builtin": "agent.tool_use", "mcp": "agent.mcp_tool_use", "custom": "agent.custom_tool_use"}
# The result's type, and its field for the use's id. A custom tool's result is the client's own event.
RESULTS = {
    "builtin": ("agent.tool_result", "tool_use_id"),
    "mcp": ("agent.mcp_tool_result", "mcp_tool_use_id"),
}


def named(name: str, server: str | None = None) -> tuple[str, dict[str, str]]:
    """The kind of a tool and the fields that name it. `server` is given where the name does not contain it."""
    prefix, _, rest = name.partition("__")
    if server is None and prefix == "mcp" and "__" in rest:
        server, _, name = rest.partition("__")
        if server == CUSTOM_SERVER:
            return "custom", {"name": name}
    if server is not None:
        return "mcp", {"mcp_server_name": server, "name": name}
    return "builtin", {"name": TOOL_NAMES.get(name, name)}

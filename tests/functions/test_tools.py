"""Tools and MCP servers of a request, resolved to what is kept."""

from typing import Any

import pytest
from anthropic.types.beta import (
    BetaManagedAgentsAgentToolset20260401,
    BetaManagedAgentsCustomTool,
    BetaManagedAgentsMCPServerURLDefinition,
    BetaManagedAgentsMCPToolset,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from functions.errors import InvalidRequest, NotBuilt
from functions.models import Request
from functions.tools import McpServers, Tools, resolved

Json = dict[str, Any]
ALLOW, ASK, DENY = (
    {"type": f"always_{word}"} if word != "deny" else {"type": word} for word in ("allow", "ask", "deny")
)
BUILT_IN = ("bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search")
SDK_TYPES: Json = {
    "agent_toolset_20260401": BetaManagedAgentsAgentToolset20260401,
    "mcp_toolset": BetaManagedAgentsMCPToolset,
    "custom": BetaManagedAgentsCustomTool,
}


class Offer(Request):
    """The two fields of a body that belong together."""

    tools: Tools = ()
    mcp_servers: McpServers = ()


def kept(tools: list[Json], servers: list[Json] | None = None, opened: tuple[str, ...] = ()) -> Json:
    """What is kept of tools and servers; each of the SDK's own type, and a request that changes nothing."""
    offer = Offer.model_validate({"tools": tools, "mcp_servers": servers or []})
    found = resolved(offer.tools, offer.mcp_servers, opened)
    for tool in found["tools"]:
        TypeAdapter(SDK_TYPES[tool["type"]]).validate_python(tool, strict=True)
    for server in found["mcp_servers"]:
        TypeAdapter(BetaManagedAgentsMCPServerURLDefinition).validate_python(server, strict=True)
    again = Offer.model_validate(found)
    assert resolved(again.tools, again.mcp_servers, opened) == found
    return found


def toolset(default: Json | None = None, *configs: Json) -> Json:
    """Claude Code's own tools."""
    return {"type": "agent_toolset_20260401", "default_config": default, "configs": list(configs)}


def server(name: str = "docs", url: str = "https://mcp.example.com/sse") -> Json:
    """An MCP server."""
    return {"type": "url", "name": name, "url": url}


def mcp(name: str = "docs", **more: Any) -> Json:
    """The tools of an MCP server."""
    return {"type": "mcp_toolset", "mcp_server_name": name, **more}


def custom(name: str = "ask", **schema: Any) -> Json:
    """A tool that the client runs."""
    return {"type": "custom", "name": name, "description": "Asks.", "input_schema": {"type": "object", **schema}}


def test_a_bare_toolset_runs_unasked() -> None:
    """Nothing said of them, Claude Code's tools are there and need no confirmation."""
    assert kept([{"type": "agent_toolset_20260401"}])["tools"] == [
        {
            "type": "agent_toolset_20260401",
            "default_config": {"enabled": True, "permission_policy": ALLOW},
            "configs": [],
        }
    ]


def test_a_bare_mcp_toolset_asks() -> None:
    """Others may add tools to a server at any time: what nobody has seen is not run unasked."""
    (tool,) = kept([mcp()], [server()])["tools"]
    assert tool["default_config"] == {"enabled": True, "permission_policy": ASK}


RULES = [
    # the default, the tool's own, and what comes of both: (enabled, policy)
    (None, {}, (True, ALLOW)),
    (None, {"enabled": False}, (False, ALLOW)),
    (None, {"permission_policy": ASK}, (True, ASK)),
    (None, {"permission_policy": DENY}, (False, ASK)),
    ({"enabled": False}, {}, (False, ALLOW)),
    ({"enabled": False}, {"enabled": True}, (True, ALLOW)),
    ({"permission_policy": ASK}, {}, (True, ASK)),
    ({"permission_policy": ASK}, {"permission_policy": ALLOW}, (True, ALLOW)),
    ({"permission_policy": DENY}, {}, (False, ASK)),
    ({"permission_policy": DENY}, {"enabled": True}, (True, ASK)),
    ({"permission_policy": DENY}, {"permission_policy": ALLOW}, (True, ALLOW)),
    ({"permission_policy": DENY}, {"permission_policy": ASK}, (True, ASK)),
    ({"permission_policy": DENY}, {"enabled": False, "permission_policy": ALLOW}, (False, ALLOW)),
    ({"enabled": False}, {"permission_policy": ALLOW}, (False, ALLOW)),
    ({"permission_policy": DENY}, {"enabled": True, "permission_policy": ALLOW}, (True, ALLOW)),
]


@pytest.mark.parametrize(("default", "own", "outcome"), RULES)
def test_a_tools_own_word_goes_before_the_default(default: Json | None, own: Json, outcome: tuple[bool, Json]) -> None:
    """Each of the two fields falls back by itself; what is denied is off, until a policy of its own lifts that."""
    (tool,) = kept([toolset(default, {"name": "bash", **own})])["tools"]
    (rule,) = tool["configs"]
    assert rule == {"type": "bash", "name": "bash", "enabled": outcome[0], "permission_policy": outcome[1]}


policies = st.sampled_from([None, ALLOW, ASK, DENY])
rules = st.fixed_dictionaries({}, optional={"enabled": st.booleans() | st.none(), "permission_policy": policies})
named = st.dictionaries(st.sampled_from(BUILT_IN), rules)


@given(default=rules | st.none(), own=named)
def test_every_toolset_resolves_to_a_request_that_changes_nothing(default: Json | None, own: dict[str, Json]) -> None:
    """Read, changed and sent back is what the SDK's documentation tells people to do."""
    (tool,) = kept([toolset(default, *({"name": name, **rule} for name, rule in own.items()))])["tools"]
    assert [rule["name"] for rule in tool["configs"]] == list(own)
    for rule, said in zip(tool["configs"], own.values(), strict=True):
        if said.get("permission_policy") == DENY:
            assert rule["enabled"] is False


def test_a_custom_tool_is_kept_as_it_was_sent() -> None:
    """Its schema is the model's to read: what we do not know of JSON Schema is not taken out of it."""
    tool = custom(properties={"q": {"type": "string", "minLength": 1}}, required=["q"], additionalProperties=False)
    assert kept([tool])["tools"] == [tool]


@pytest.mark.parametrize(
    ("tools", "servers", "param"),
    [
        ([toolset(), toolset()], [], "tools"),
        ([toolset(None, {"name": "bash"}, {"name": "bash"})], [], "tools"),
        ([custom("a"), custom("a")], [], "tools"),
        ([mcp("docs")], [], "tools"),
        ([mcp("docs"), mcp("docs")], [server("docs")], "tools"),
        ([mcp("docs", configs=[{"name": "x"}, {"name": "x"}])], [server("docs")], "tools"),
        ([], [server("docs")], "mcp_servers"),
        ([mcp("docs")], [server("docs"), server("docs")], "mcp_servers"),
        ([mcp("docs")], [server("docs", "http://mcp.example.com")], "mcp_servers.0.url"),
        ([mcp("docs")], [server("docs", "https://10.0.0.1/sse")], "mcp_servers.0.url"),
    ],
)
def test_what_does_not_fit_together_is_refused(tools: list[Json], servers: list[Json], param: str) -> None:
    """Names are there once, and a toolset and its server go together."""
    with pytest.raises(InvalidRequest) as refused:
        kept(tools, servers)
    assert refused.value.param == param


def test_the_operator_may_open_an_mcp_server_of_theirs() -> None:
    """EGRESS_ALLOW names hosts that need be neither public nor https."""
    inside = server("docs", "http://mcp.internal:8080/sse")
    assert kept([mcp()], [inside], ("mcp.internal:8080",))["mcp_servers"] == [inside]
    with pytest.raises(InvalidRequest):
        kept([mcp()], [inside], ("mcp.internal",))


@pytest.mark.parametrize("name", ["custom", "a__b", "a_", "-a", "a b", "", "x" * 65])
def test_a_servers_name_can_be_told_from_its_tools_names(name: str) -> None:
    """`mcp__<server>__<tool>` is read back into the two; `custom` is the server of custom tools."""
    with pytest.raises(ValidationError):
        Offer.model_validate({"mcp_servers": [server(name)]})


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (toolset({"permission_policy": {"type": "auto"}}), "auto"),
        (toolset(None, {"name": "web_fetch", "blocked_domains": ["a.example"]}), "blocked_domains"),
        (toolset(None, {"name": "web_fetch", "max_content_tokens": 5}), "max_content_tokens"),
        (toolset(None, {"name": "web_search", "user_location": {"type": "approximate"}}), "user_location"),
        (toolset(None, {"name": "web_fetch", "url_sources": {"user_input": "none"}}), "url_sources"),
    ],
)
def test_what_is_not_built_is_refused_by_its_name(tool: Json, name: str) -> None:
    """A filter that would not filter is not taken."""
    with pytest.raises(NotBuilt, match=name):
        kept([tool])


def test_what_is_not_built_may_be_empty() -> None:
    """A client that sends back what it was answered, nulls and all, is not refused for them."""
    empty = {"name": "web_fetch", "allowed_domains": None, "url_sources": None, "max_content_tokens": None}
    (tool,) = kept([toolset(None, empty)])["tools"]
    assert tool["configs"][0]["enabled"] is True


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "computer"},
        {"name": "bash"},
        toolset(None, {"name": "sh"}),
        toolset(None, {"name": "bash", "type": "read"}),
        toolset({"permission_policy": {"type": "sometimes"}}),
        toolset({"permission_policy": "always_ask"}),
        toolset({"enabled": "yes"}),
        {**custom(), "name": "a b"},
        {**custom(), "description": ""},
        {**custom(), "input_schema": {"type": "string"}},
        {**custom(), "timeout": 5},
    ],
)
def test_what_is_no_tool_is_refused(tool: Json) -> None:
    """Nothing unknown and nothing coerced."""
    with pytest.raises(ValidationError):
        Offer.model_validate({"tools": [tool]})

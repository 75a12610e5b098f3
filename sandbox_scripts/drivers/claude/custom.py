"""Custom tools as an MCP server of the runner's own, over the CLI's control channel.

Each request is answered from itself alone, so a restarted runner answers what the dead one left. JSON-RPC as the
Model Context Protocol has it: initialize, ping, tools/list, tools/call; notifications get an empty acknowledgement.
"""

from __future__ import annotations

from .agent import CUSTOM
from .blocks import event_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

PROTOCOL = "2025-06-18"
NO_ANSWER = "Nobody answered in time."
_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602


class CustomTools:
    """The server `custom`."""

    def __init__(self, tools: list[dict[str, Any]], ask: Callable[[str], Awaitable[dict[str, Any] | None]]) -> None:
        """`ask` waits for the answer to the use of an event id; None when none comes."""
        self._tools = tools
        self._ask = ask

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The control response's content for an mcp_message request."""
        message = request.get("message") or {}
        if "id" not in message:
            return {"mcp_response": {"jsonrpc": "2.0", "result": {}}}
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        return {"mcp_response": {**reply, **await self._reply(message)}}

    async def _reply(self, message: dict[str, Any]) -> dict[str, Any]:
        method, params = message.get("method"), message.get("params") or {}
        if method == "initialize":
            version = str(params.get("protocolVersion") or PROTOCOL)
            server = {"name": CUSTOM, "version": "1"}
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}}
        if method == "ping":
            return {"result": {}}
        if method == "tools/list":
            return {"result": {"tools": [_listed(tool) for tool in self._tools]}}
        if method == "tools/call":
            return await self._call(params)
        return {"error": {"code": _METHOD_NOT_FOUND, "message": f"no method {method}"}}

    async def _call(self, params: dict[str, Any]) -> dict[str, Any]:
        use = (params.get("_meta") or {}).get("claudecode/toolUseId")
        if not use:
            return {"error": {"code": _INVALID_PARAMS, "message": "the call does not say which tool use it is"}}
        answer = await self._ask(event_id(str(use)))
        if not answer:
            return {"result": {"content": [{"type": "text", "text": NO_ANSWER}], "isError": True}}
        content = [made for block in answer.get("content") or () for made in _content(block)]
        return {"result": {"content": content, "isError": bool(answer.get("is_error"))}}


def _listed(tool: dict[str, Any]) -> dict[str, Any]:
    schema = tool.get("input_schema") or {"type": "object"}
    return {"name": tool["name"], "description": tool.get("description") or "", "inputSchema": schema}


def _content(block: dict[str, Any]) -> list[dict[str, Any]]:
    """A block of the answer as MCP writes it: text, and images; of other kinds their text."""
    source = block.get("source") or {}
    if block.get("type") == "image" and source.get("type") == "base64":
        return [{"type": "image", "data": source["data"], "mimeType": source["media_type"]}]
    text = block.get("text") if block.get("type") == "text" else source.get("data")
    return [{"type": "text", "text": str(text)}] if text else []

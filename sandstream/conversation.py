"""What a user says to a session: the bodies of requests, in the Managed Agents form. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Block = Mapping[str, Any]
Content = str | Sequence[Block]
"""A text, or content blocks: text, image, document."""

OnBusy = Literal["queue", "interrupt", "reject"]
"""What becomes of a message that comes while a turn runs: it waits, it stops the turn, or it is refused."""

Json = dict[str, Any]


def message(content: Content) -> Json:
    """The user says something."""
    return {"type": "user.message", "content": blocks(content)}


def interrupt() -> Json:
    """The user stops the turn."""
    return {"type": "user.interrupt"}


def confirmation(tool_use_id: str, *, allow: bool, reason: str | None = None) -> Json:
    """The user's answer to a tool that asks. `reason` is what Claude is told of a refusal."""
    event: Json = {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, "result": "allow" if allow else "deny"}
    return event | ({"deny_message": reason} if reason is not None and not allow else {})


def tool_result(custom_tool_use_id: str, content: Content, *, is_error: bool = False) -> Json:
    """What a tool of the caller's own answered."""
    event: Json = {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": custom_tool_use_id,
        "content": blocks(content),
    }
    return event | ({"is_error": True} if is_error else {})


def new_session(
    *,
    agent: str | Block,
    environment: str,
    first: Content | None,
    title: str | None,
    metadata: Mapping[str, str] | None,
    resources: Sequence[Block] | None,
    budget_cents: int | None,
) -> Json:
    """The body that creates a session; what is None is not sent."""
    body = {
        "agent": agent if isinstance(agent, str) else dict(agent),
        "environment_id": environment,
        "title": title,
        "metadata": dict(metadata) if metadata is not None else None,
        "resources": [dict(resource) for resource in resources] if resources is not None else None,
        "budget": budget(budget_cents) if budget_cents is not None else None,
        "initial_events": [message(first)] if first is not None else None,
    }
    return {name: value for name, value in body.items() if value is not None}


def budget(cents: int) -> Json:
    """A ceiling on what the session may cost, at list price, in US cents."""
    return {"type": "limit", "max_list_cost": {"amount": str(cents), "currency": "USD"}}


def blocks(content: Content) -> list[Json]:
    """Content blocks, of which a text is one."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [dict(block) for block in content]


def text(content: object) -> str:
    """The texts of an event's content blocks, one after another. What is no text is left out."""
    if isinstance(content, str):
        return content
    listed = content if isinstance(content, list) else []
    return "".join(str(block.get("text") or "") for block in listed if isinstance(block, dict))

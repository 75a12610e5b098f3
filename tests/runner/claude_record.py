"""Lines that the real CLI (2.1.330) wrote against a scripted model, shortened and without paths, keys and times."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anthropic.types.beta.sessions import BetaManagedAgentsSessionEvent
from pydantic import TypeAdapter

from sandbox_scripts.drivers.claude.events import Fold
from sandbox_scripts.drivers.claude.lines import Line, Splitter, Unparsed

FOLDER = Path(__file__).parent / "claude_lines"
RECORDS = sorted(path.stem for path in FOLDER.glob("*.ndjson"))
EVENT: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsSessionEvent)
# Types of ours, which the API does not have.
OURS = {"agent.unparsed"}

Event = tuple[str, dict[str, Any]]


def recorded(name: str) -> bytes:
    """One recording as the bytes of the CLI's output."""
    return (FOLDER / f"{name}.ndjson").read_bytes()


def items(raw: bytes) -> list[Line | Unparsed]:
    """The lines of a whole output."""
    splitter = Splitter()
    return [*splitter.feed(raw), *splitter.end()]


def line(value: dict[str, Any], offset: int = 0) -> Line:
    """A line made by a test."""
    return Line(offset, json.dumps(value).encode(), value)


def same(text: str) -> str:
    """Nothing is secret."""
    return text


def allowed(tool: str) -> str:
    """Every tool is."""
    return "allow"


def fold() -> Fold:
    """A fold that redacts nothing and allows all."""
    return Fold("run", same, allowed)


def folded(name: str, by: Fold | None = None) -> list[Event]:
    """All events of a recording."""
    by = by or fold()
    return [event for item in items(recorded(name)) for event in by.take(item)] + by.close()


def mapped(*values: dict[str, Any]) -> list[Event]:
    """The events of lines made by a test."""
    by = fold()
    return [event for number, value in enumerate(values) for event in by.take(line(value, number))]


def validated(event: Event) -> Any:
    """The event as the SDK's own model. Raise ValidationError when it is none, or one of an unknown type."""
    kind, data = event
    return EVENT.validate_python({**data, "type": kind, "processed_at": datetime.now(UTC)})


def of(events: list[Event], kind: str) -> list[dict[str, Any]]:
    """The data of the events of one type."""
    return [data for found, data in events if found == kind]


def texts(events: list[Event]) -> list[str]:
    """What the agent said."""
    return [block["text"] for data in of(events, "agent.message") for block in data["content"]]


def assistant(*content: Any, id: str = "msg_1", **extra: Any) -> dict[str, Any]:
    """An assistant's line."""
    message = {"id": id, "role": "assistant", "model": "claude-sonnet-5", "content": list(content), "usage": {}}
    return {"type": "assistant", "message": message, "parent_tool_use_id": None, **extra}


def tool_result(content: Any, id: str = "toolu_1", **extra: Any) -> dict[str, Any]:
    """A user's line with one result."""
    block = {"type": "tool_result", "tool_use_id": id, "content": content, **extra}
    return {"type": "user", "message": {"role": "user", "content": [block]}, "parent_tool_use_id": None}


def tool_use(name: str, id: str = "toolu_1", **input: Any) -> dict[str, Any]:
    """A block of an assistant's line."""
    return {"type": "tool_use", "id": id, "name": name, "input": input}

"""Schemas of structured output, refused where the real APIs refuse them.

Each takes a part of JSON Schema: objects are closed, OpenAI wants every property required, and words beyond those
below are errors. Anthropic's are the ones that its SDK's `transform_schema` leaves in a schema; OpenAI's are from its
guide to structured outputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.models.errors import ModelError

COMMON = frozenset(
    ["$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "format", "items", "minItems",
     "properties", "required", "title", "type"]
)  # fmt: skip
OF_ANTHROPIC = COMMON | {"allOf"}
OF_OPENAI = COMMON | {
    "exclusiveMaximum", "exclusiveMinimum", "maxItems", "maximum", "minimum", "multipleOf", "pattern",
}  # fmt: skip

Schema = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """What one API takes."""

    words: frozenset[str]
    needs_all: bool

    def check(self, schema: object) -> None:
        """Raises ModelError 400 with the first place that is wrong."""
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise ModelError(400, "Invalid schema: its root must be of the type 'object'")
        for place, part in parts(schema, "schema"):
            self._check_part(place, part)

    def _check_part(self, place: str, part: Schema) -> None:
        if unknown := sorted(part.keys() - self.words):
            raise ModelError(400, f"Invalid schema: {place}: '{unknown[0]}' is not permitted")
        if part.get("type") != "object":
            return
        if part.get("additionalProperties") is not False:
            raise ModelError(400, f"Invalid schema: {place}: 'additionalProperties' is required to be false")
        left = part.get("properties", {}).keys() - set(part.get("required", []))
        if self.needs_all and left:
            raise ModelError(400, f"Invalid schema: {place}: 'required' must have every property, also {min(left)!r}")


ANTHROPIC = Rules(frozenset(OF_ANTHROPIC), needs_all=False)
OPENAI = Rules(frozenset(OF_OPENAI), needs_all=True)


def parts(schema: Schema, place: str) -> Iterator[tuple[str, Schema]]:
    """The schema and all that are within it, each with its place."""
    yield place, schema
    named = [(word, name, each) for word in ("properties", "$defs") for name, each in schema.get(word, {}).items()]
    listed = [(word, str(n), each) for word in ("anyOf", "allOf") for n, each in enumerate(schema.get(word, []))]
    items = [("items", "", schema["items"])] if "items" in schema else []
    for word, name, each in [*named, *listed, *items]:
        yield from parts(each, f"{place}.{word}{'.' if name else ''}{name}")

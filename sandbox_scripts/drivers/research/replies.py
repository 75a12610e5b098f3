"""Replies as pydantic models: parsed once, and what is wrong said in words that the model can be asked again with.

As structured output wants it, the schemas allow nothing beside their fields and require them all; a reply that brings
more is taken all the same, and one that leaves out what has a default. Bounds are not in the schemas, because not every
maker takes them there.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .failures import Unusable

ERRORS_TOLD = 3
# An event holds 256 KiB, as bytes of JSON.
LONGEST_REPLY_BYTES = 150_000


def _close(schema: dict[str, Any]) -> None:
    schema.update(additionalProperties=False, required=list(schema["properties"]))


class Said(BaseModel):
    """A part of a reply."""

    model_config = ConfigDict(json_schema_extra=_close, coerce_numbers_to_str=True, allow_inf_nan=False, frozen=True)


S = TypeVar("S", bound=Said)


def schema_of(kind: type[Said]) -> dict[str, Any]:
    """The JSON schema that a reply has to keep to."""
    return kind.model_json_schema()


def parsed(kind: type[S], text: str) -> S:
    """The reply. Raise Unusable."""
    if len(text.encode("utf-8", "replace")) > LONGEST_REPLY_BYTES:
        raise Unusable(f"it is longer than {LONGEST_REPLY_BYTES} bytes")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc'])) or 'reply'}: {one['msg']}" for one in error.errors()[:ERRORS_TOLD]]
        raise Unusable("; ".join(told)) from error


def short(text: str, characters: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= characters else text[: characters - 1] + "…"

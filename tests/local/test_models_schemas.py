"""Schemas of structured output: what each API takes."""

from typing import Any

import pytest
from anthropic import transform_schema
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field

from local.models import schemas
from local.models.errors import ModelError
from local.models.schemas import Rules


class Leaf(BaseModel):
    """Deep inside."""

    figure: float = Field(ge=0)
    name: str | None


class Root(BaseModel):
    """Outside."""

    leaves: list[Leaf] = Field(min_length=1)
    kind: str


def closed(**properties: Any) -> dict[str, Any]:
    """An object as both like it."""
    return {
        "type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False,
    }  # fmt: skip


def refusal(rules: Rules, schema: object) -> str:
    """What is said about it; empty when it is taken."""
    try:
        rules.check(schema)
    except ModelError as error:
        return f"{error.status} {error.message}"
    return ""


def test_what_the_sdks_make_of_a_model_is_taken() -> None:
    """Each by its own API: they leave out what that one refuses."""
    schemas.OPENAI.check(to_strict_json_schema(Root))
    schemas.ANTHROPIC.check(transform_schema(Root))


def test_what_pydantic_makes_by_itself_is_not() -> None:
    """Objects are open in it."""
    for rules in (schemas.OPENAI, schemas.ANTHROPIC):
        said = refusal(rules, Root.model_json_schema())
        assert said.startswith("400 ")
        assert "additionalProperties" in said


@pytest.mark.parametrize("word", ["minimum", "maximum", "exclusiveMinimum", "pattern", "maxItems"])
def test_anthropic_takes_no_limits(word: str) -> None:
    """Wherever they are, named with their place; OpenAI takes them."""
    schema = closed(list={"type": "array", "items": {"anyOf": [{"type": "number", word: 1}]}})
    assert f"schema.properties.list.items.anyOf.0: '{word}'" in refusal(schemas.ANTHROPIC, schema)
    assert refusal(schemas.OPENAI, schema) == ""


@pytest.mark.parametrize("word", ["minLength", "default", "oneOf", "not", "patternProperties", "allOf"])
def test_openai_takes_only_some_words(word: str) -> None:
    """Also in definitions."""
    schema = {**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"type": "string", word: 1}}}
    assert f"schema.$defs.A: '{word}'" in refusal(schemas.OPENAI, schema)


def test_openai_wants_every_property_required() -> None:
    """Anthropic does not."""
    schema = {**closed(a={"type": "string"}, b={"type": "string"}), "required": ["b"]}
    assert "also 'a'" in refusal(schemas.OPENAI, schema)
    assert refusal(schemas.ANTHROPIC, schema) == ""


@pytest.mark.parametrize("schema", [None, {"type": "array", "items": {"type": "string"}}, {"anyOf": [closed()]}])
def test_the_root_is_an_object(schema: object) -> None:
    """And nothing else."""
    assert "root" in refusal(schemas.OPENAI, schema)

"""Agents: what a request becomes, what an update makes of it, what a session pins."""

from typing import Any

import pytest
from anthropic.types.beta import BetaManagedAgentsAgent, BetaManagedAgentsSessionAgent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from functions.agents import AgentRequest, AgentUpdate, as_agent, patched, snapshot
from functions.errors import InvalidRequest, NotBuilt

Json = dict[str, Any]
TOOLSET = {"type": "agent_toolset_20260401"}
WHEN = "2026-01-01T00:00:00+00:00"


def config(**more: Any) -> Json:
    """What is kept of a request."""
    return AgentRequest.model_validate({"name": "Helper", "model": "claude-sonnet-5", **more}).config(())


def updated(kept: Json, **changes: Any) -> Json:
    """What is kept after an update."""
    return AgentUpdate.model_validate(changes).config(kept, ())


def row(kept: Json) -> Json:
    """An agent's row."""
    return {"id": "agent_1", "version": 3, "config": kept, "created_at": WHEN, "updated_at": WHEN, "archived_at": None}


def test_a_request_of_two_fields_is_an_agent() -> None:
    """All else has a value that says «none»."""
    assert config() == {
        "name": "Helper",
        "description": None,
        "model": {"id": "claude-sonnet-5", "effort": None, "speed": "standard", "inference_geo": None},
        "system": None,
        "tools": [],
        "mcp_servers": [],
        "skills": [],
        "metadata": {},
        "multiagent": None,
    }


@pytest.mark.parametrize("effort", ["high", {"type": "high"}])
def test_effort_is_said_in_two_ways(effort: Any) -> None:
    """The short form and the long one are kept alike."""
    assert config(model={"id": "m", "effort": effort})["model"]["effort"] == {"type": "high"}


@pytest.mark.parametrize(
    "model", ["claude-opus-5-5", "claude-haiku-4-5-20251001", "us.anthropic/claude:1@x", "opus[1m]"]
)
def test_models_that_providers_name(model: str) -> None:
    """Names as gateways have them, too."""
    assert config(model=model)["model"]["id"] == model


@pytest.mark.parametrize("model", ["", "-p", "--model", "a b", "a\nb", "$(id)", "a;b", "é", "x" * 201, 7, None, ["m"]])
def test_what_is_no_models_name_is_refused(model: Any) -> None:
    """It becomes an argument of the CLI: neither an option nor two words."""
    with pytest.raises(ValidationError):
        config(model=model)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"skills": [{}]}, "skills"),
        ({"multiagent": {"type": "coordinator"}}, "multiagent"),
        ({"execution_identity": {"type": "aws_role", "role_arn": "x"}}, "aws_role"),
        ({"model": {"id": "m", "speed": "fast"}}, "fast"),
        ({"model": {"id": "m", "inference_geo": "eu"}}, "inference_geo"),
    ],
)
def test_what_is_not_built_is_refused_by_its_name(more: Json, name: str) -> None:
    """In a new agent and in a change alike."""
    with pytest.raises(NotBuilt, match=name):
        config(**more)
    with pytest.raises(NotBuilt, match=name):
        updated(config(), **more)


def test_what_is_not_built_may_be_empty() -> None:
    """The defaults of the API, said aloud, are the defaults."""
    identity = {"type": "service_account"}
    model = {"id": "claude-sonnet-5", "speed": "standard", "inference_geo": None}
    assert config(skills=[], multiagent=None, execution_identity=identity, model=model, tools=None) == config()


def test_an_answer_sent_back_changes_nothing() -> None:
    """Every field of an answer that a request may have, sent as an update, keeps the configuration as it is."""
    kept = config(system="s", tools=[TOOLSET], metadata={"a": "1"}, model={"id": "m", "effort": "max"})
    answer = as_agent(row(kept)).model_dump(mode="json")
    fields = {name: value for name, value in answer.items() if name in AgentUpdate.model_fields}
    assert len(fields) >= 10
    assert updated(kept, **fields) == kept


def test_an_update_names_what_it_changes() -> None:
    """Field by field, the rest stays."""
    kept = config(system="s", description="d", tools=[TOOLSET], metadata={"a": "1"})
    changes: list[tuple[Json, Json]] = [
        ({}, {}),
        ({"name": "Other"}, {"name": "Other"}),
        ({"system": None}, {"system": None}),
        ({"system": ""}, {"system": None}),
        ({"description": "e"}, {"description": "e"}),
        ({"tools": None}, {"tools": []}),
        ({"tools": []}, {"tools": []}),
        ({"metadata": None}, {}),
        ({"metadata": {"a": None, "b": "2"}}, {"metadata": {"b": "2"}}),
        ({"version": 4}, {}),
    ]
    for asked, outcome in changes:
        assert updated(kept, **asked) == {**kept, **outcome}, asked


def test_effort_stays_until_another_is_named() -> None:
    """A model that is replaced takes the effort along, as the API has it; null takes it away."""
    kept = config(model={"id": "m", "effort": "high"})
    assert updated(kept, model="n")["model"] == {**kept["model"], "id": "n"}
    assert updated(kept, model={"id": "n", "effort": "low"})["model"]["effort"] == {"type": "low"}
    assert updated(kept, model={"id": "n", "effort": None})["model"]["effort"] is None


@pytest.mark.parametrize("name", ["name", "model"])
def test_what_an_agent_must_have_cannot_be_cleared(name: str) -> None:
    """A null is not taken for «leave it»."""
    with pytest.raises(InvalidRequest) as refused:
        updated(config(), **{name: None})
    assert refused.value.param == name


def test_an_update_is_checked_as_a_whole() -> None:
    """A server that the new tools do not use any more must go with them."""
    servers = [{"type": "url", "name": "docs", "url": "https://mcp.example.com"}]
    kept = config(mcp_servers=servers, tools=[{"type": "mcp_toolset", "mcp_server_name": "docs"}])
    with pytest.raises(InvalidRequest) as refused:
        updated(kept, tools=[])
    assert refused.value.param == "mcp_servers"
    assert updated(kept, tools=[], mcp_servers=None)["mcp_servers"] == []


names = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=2)


@given(kept=st.dictionaries(names, names, max_size=8), patch=st.dictionaries(names, names | st.none(), max_size=8))
def test_a_patch_sets_and_takes_away(kept: dict[str, str], patch: dict[str, str | None]) -> None:
    """What the patch names is as it says, the rest as it was; twice is the same as once."""
    after = patched(kept, patch)
    for name in {**kept, **patch}:
        assert after.get(name) == patch.get(name, kept.get(name)) or name in patch
        assert after.get(name) == (patch[name] if name in patch else kept[name])
    assert patched(after, patch) == after


def test_metadata_stays_within_its_bounds() -> None:
    """A patch cannot grow what a request could not have said."""
    sixteen = {str(n): "x" for n in range(16)}
    assert patched(sixteen, {"0": None, "16": "x"}).keys() == {str(n) for n in range(1, 17)}
    with pytest.raises(InvalidRequest):
        patched(sixteen, {"16": "x"})
    with pytest.raises(InvalidRequest):
        patched({}, {f"{n}": '"é' * 256 for n in range(16)})


def test_what_is_answered_is_of_the_sdks_type() -> None:
    """An agent, and the snapshot of it that a session has: with every field, also from a row that lacks some."""
    minimal = {"name": "Claude", "model": {"id": "claude-sonnet-5"}}
    for kept in (minimal, config(tools=[TOOLSET], system="s")):
        agent = as_agent(row(kept)).model_dump_json()
        TypeAdapter(BetaManagedAgentsAgent).validate_json(agent, strict=True)
        pinned = snapshot("agent_1", 3, kept)
        TypeAdapter(BetaManagedAgentsSessionAgent).validate_python(pinned, strict=True)
        assert set(BetaManagedAgentsSessionAgent.model_fields) == set(pinned)

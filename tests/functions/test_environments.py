"""Environments: what may be opened, what is closed by default, what an update keeps."""

from typing import Any

import pytest
from anthropic.types.beta import BetaEnvironment
from pydantic import TypeAdapter, ValidationError

from functions.environments import EnvironmentRequest, EnvironmentUpdate, as_environment, snapshot
from functions.errors import InvalidRequest, NotBuilt
from functions.settings import Settings

Json = dict[str, Any]
WHEN = "2026-01-01T00:00:00+00:00"
CLOSED = {"type": "limited", "allowed_hosts": [], "allow_mcp_servers": False, "allow_package_managers": False}
NO_PACKAGES = {"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []}


def cloud(**networking: Any) -> Json:
    """A configuration with this networking."""
    return {"type": "cloud", "networking": {"type": "limited", **networking}}


def kept(settings: Settings, **more: Any) -> Json:
    """What is kept of a request."""
    return EnvironmentRequest.model_validate({"name": "E", **more}).kept(settings)


def updated(before: Json, settings: Settings, **changes: Any) -> Json:
    """What is kept after an update."""
    return EnvironmentUpdate.model_validate(changes).over(before, settings)


def row(config: Json) -> Json:
    """An environment's row."""
    return {"id": "env_1", "config": config, "created_at": WHEN, "updated_at": WHEN, "archived_at": None}


@pytest.mark.parametrize("config", [None, {"type": "cloud"}, {"type": "cloud", "networking": None}, cloud()])
def test_nothing_said_is_closed(config: Json | None, settings: Settings) -> None:
    """However a request leaves the networking out, nothing is open."""
    assert kept(settings, config=config)["config"] == {"type": "cloud", "networking": CLOSED, "packages": NO_PACKAGES}


def test_hosts_are_kept_as_egress_has_them(settings: Settings) -> None:
    """Lowercase, with their ports, wildcards as they are."""
    hosts = ["Example.com", "*.example.org", "8.8.8.8:53"]
    found = kept(settings, config=cloud(allowed_hosts=hosts))["config"]["networking"]
    assert found["allowed_hosts"] == ["example.com", "*.example.org", "8.8.8.8:53"]


def test_the_operator_opens_what_is_not_public(settings: Settings) -> None:
    """A host of EGRESS_ALLOW may be named, and only as it stands there."""
    opened = settings.model_copy(update={"egress_allow": ("10.0.0.7:8080",)})
    assert kept(opened, config=cloud(allowed_hosts=["10.0.0.7:8080"]))["config"]["networking"]["allowed_hosts"]
    for entry in ("10.0.0.7", "10.0.0.7:8081", "10.0.0.8:8080"):
        with pytest.raises(InvalidRequest) as refused:
            kept(opened, config=cloud(allowed_hosts=["a.example", entry]))
        assert refused.value.param == "config.networking.allowed_hosts.1"


def test_package_managers_need_the_operators_list(settings: Settings) -> None:
    """Without PACKAGE_HOSTS nobody knows what to open, and saying yes would be a lie."""
    with pytest.raises(NotBuilt, match="allow_package_managers"):
        kept(settings, config=cloud(allow_package_managers=True))
    with_hosts = settings.model_copy(update={"package_hosts": ("packages.test",)})
    assert kept(with_hosts, config=cloud(allow_package_managers=True))["config"]["networking"]["allow_package_managers"]
    assert kept(settings, config=cloud(allow_package_managers=False))["config"]["networking"] == CLOSED


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"config": {"type": "cloud", "networking": {"type": "unrestricted"}}}, "unrestricted"),
        ({"config": {"type": "self_hosted"}}, "self_hosted"),
        ({"config": {"type": "cloud", "packages": {"type": "packages", "npm": ["left-pad"]}}}, "packages"),
        ({"scope": "organization"}, "organization"),
    ],
)
def test_what_is_not_built_is_refused_by_its_name(more: Json, name: str, settings: Settings) -> None:
    """In a new environment and in a change alike."""
    with pytest.raises(NotBuilt, match=name):
        kept(settings, **more)
    with pytest.raises(NotBuilt, match=name):
        updated(kept(settings), settings, **more)


def test_an_update_names_what_it_changes(settings: Settings) -> None:
    """Field by field, in the networking too, the rest stays."""
    before = kept(
        settings,
        description="d",
        metadata={"a": "1"},
        config=cloud(allowed_hosts=["a.example"], allow_mcp_servers=True),
    )
    hostless = {**before["config"], "networking": {**before["config"]["networking"], "allowed_hosts": []}}
    changes: list[tuple[Json, Json]] = [
        ({}, {}),
        ({"name": None}, {}),
        ({"name": "F"}, {"name": "F"}),
        ({"description": None}, {"description": None}),
        ({"description": ""}, {"description": ""}),
        ({"metadata": {"a": None}}, {"metadata": {}}),
        ({"metadata": {"a": "", "b": "2"}}, {"metadata": {"b": "2"}}),
        ({"config": None}, {}),
        ({"config": {"type": "cloud"}}, {}),
        ({"config": cloud()}, {}),
        ({"config": cloud(allowed_hosts=[])}, {"config": hostless}),
        ({"scope": "account"}, {}),
    ]
    for asked, outcome in changes:
        assert updated(before, settings, **asked) == {**before, **outcome}, asked


def test_an_answer_sent_back_changes_nothing(settings: Settings) -> None:
    """Every field of an answer that a request may have keeps the environment as it is."""
    before = kept(settings, description="d", metadata={"a": "1"}, config=cloud(allowed_hosts=["a.example"]))
    answer = as_environment(row(before)).model_dump(mode="json")
    fields = {name: value for name, value in answer.items() if name in EnvironmentUpdate.model_fields}
    assert set(fields) == {"name", "config", "description", "metadata", "scope"}
    assert updated(before, settings, **fields) == before


def test_what_is_answered_is_of_the_sdks_type(settings: Settings) -> None:
    """With every field, also from a row that lacks some; and a session keeps the whole of it."""
    for config in ({"name": "default"}, kept(settings)):
        answer = as_environment(row(config))
        sent = answer.model_dump(mode="json")
        TypeAdapter(BetaEnvironment).validate_json(answer.model_dump_json(), strict=True)
        assert set(BetaEnvironment.model_fields) == set(sent)
        assert snapshot(row(config))["config"] == sent["config"]


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""},
        {"config": {}},
        {"config": {"type": "vm"}},
        {"config": cloud(allowed_hosts="a.example")},
        {"config": cloud(allowed_hosts=["a.example"] * 51)},
        {"config": cloud(allow_mcp_servers="yes")},
        {"config": {**cloud(), "region": "eu"}},
        {"scope": "mine"},
        {"metadata": {"": "x"}},
    ],
)
def test_what_is_no_environment_is_refused(more: Json, settings: Settings) -> None:
    """Nothing unknown and nothing coerced."""
    with pytest.raises(ValidationError):
        kept(settings, **more)

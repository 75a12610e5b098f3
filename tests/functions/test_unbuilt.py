"""What the official SDK can call, and what answers it: everything, or a refusal by name."""

import re
from pathlib import Path

import anthropic
from fastapi.routing import APIRoute

from functions.routes import agents, environments, events, sessions, unbuilt

RESOURCES = Path(anthropic.__file__).parent / "resources/beta"
# What is no part of Managed Agents: the model API, and the administration of an organisation but for its webhooks.
ELSEWHERE = ("/v1/messages", "/v1/models", "/v1/organizations")
CALL = re.compile(r"_(get|post|delete|put|patch|get_api_list)\(\s*(?:path_template\(\s*)?\"(/v1/[^\"]*)\"")
MADE = (agents.router, environments.router, sessions.router, events.router)


def shape(path: str) -> str:
    """A path with its parameters blotted out."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def called() -> set[tuple[str, str]]:
    """Each method and path that the SDK's beta resources send, read from its source."""
    found = set()
    for path in RESOURCES.rglob("*.py"):
        for method, url in CALL.findall(path.read_text()):
            found.add(("GET" if method == "get_api_list" else method.upper(), shape(url)))
    return found


def answered(*routers: object) -> set[tuple[str, str]]:
    """Each method and path that these routers have."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]  # type: ignore[attr-defined]
    return {(method, shape(route.path)) for route in routes for method in route.methods}


def test_every_call_of_the_sdk_is_answered() -> None:
    """Built, or refused by its name: no call of Managed Agents meets «there is no such path»."""
    wanted = {call for call in called() if not call[1].startswith(ELSEWHERE)}
    assert len(wanted) > 80
    assert wanted - answered(*MADE, unbuilt.router) == set()


def test_nothing_is_refused_that_is_built_or_that_nobody_calls() -> None:
    """The table of what is not built is no longer than it must be."""
    assert answered(unbuilt.router) & answered(*MADE) == set()
    assert answered(unbuilt.router) <= called()


def test_the_document_names_every_resource_that_is_not_built() -> None:
    """docs/managed-agents.md says so, row by row."""
    document = (Path(__file__).parents[2] / "docs/managed-agents.md").read_text()
    for resource in unbuilt.UNBUILT:
        assert f"`{resource}`" in document, resource


def test_the_document_names_every_path_that_is_built() -> None:
    """Method and path, as the SDK sends them."""
    document = (Path(__file__).parents[2] / "docs/managed-agents.md").read_text()
    named = {(method, shape(path)) for method, path in re.findall(r"`(GET|POST|DELETE) (/v1/[^` ]+)`", document)}
    assert answered(*MADE) <= named

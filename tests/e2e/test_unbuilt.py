"""What the Managed Agents API has and this server has not, asked for over HTTP and by the official SDK."""

import re

import httpx
import pytest
from anthropic import APIStatusError

from functions.routes.unbuilt import UNBUILT
from local.stack import Stack
from tests.conftest import Person
from tests.e2e import official
from tests.e2e.official import sdk

CALLS = [
    (resource, method, f"/v1{re.sub(r'{[^}]*}', 'id_1', path)}")
    for resource, paths in UNBUILT.items()
    for path, methods in paths.items()
    for method in methods.split()
]


async def test_each_path_is_501_with_its_name(owner: Person) -> None:
    """Whatever is sent along; and the SDK is told not to ask again."""
    async with owner.endpoints() as http:
        for resource, method, path in CALLS:
            answer = await http.request(method, path, content=b"anything" if method == "POST" else None)
            told = official.plain(answer, 501)
            assert told == {"type": "not_implemented", "message": f"beta.{resource} is not built here"}, path
            assert answer.headers["x-should-retry"] == "false"


async def test_nobody_is_told_what_is_not_built(stack: Stack) -> None:
    """Who has not signed in is asked to, here as everywhere."""
    async with httpx.AsyncClient(base_url=stack.api.url) as http:
        for _, method, path in CALLS:
            assert official.plain(await http.request(method, path), 401)["type"] == "authentication_error", path


async def test_they_are_in_no_description(stack: Stack) -> None:
    """OpenAPI describes what is there."""
    async with httpx.AsyncClient(base_url=stack.api.url) as http:
        described = (await http.get("/openapi.json")).json()["paths"]
    assert not {f"/v1{path}" for paths in UNBUILT.values() for path in paths} & set(described)


async def test_the_sdk_meets_them(owner: Person) -> None:
    """As an error that names what is missing, not as an unknown path."""
    async with sdk(owner) as client:
        session = await client.beta.sessions.create(agent="default", environment_id="default")
        calls = {
            "sessions.resources": client.beta.sessions.resources.list(session.id),
            "sessions.threads": client.beta.sessions.threads.list(session.id),
            "vaults": client.beta.vaults.list(),
            "files": client.beta.files.list(),
            "memory_stores": client.beta.memory_stores.list(),
        }
        for name, call in calls.items():
            with pytest.raises(APIStatusError) as refused:
                await call
            assert refused.value.status_code == 501
            assert f"beta.{name} " in official.error(refused.value)["message"]

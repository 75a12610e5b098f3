"""An operator of a stack: a user like others, whom the deployment's secret key gave the role."""

from typing import Any

import httpx

from local.stack import Stack
from tests.conftest import Person, sign_up

Json = dict[str, Any]


async def operator(stack: Stack) -> Person:
    """A fresh user who may say what others may."""
    person = await sign_up(stack)
    key = stack.keys.secret_key
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.put(
            f"{stack.supabase.url}/auth/v1/admin/users/{person.id}",
            json={"app_metadata": {"sandstream_role": "admin"}},
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
        )
    assert answer.status_code == 200, answer.text
    return person


async def put(person: Person, owner: Person, **limits: Any) -> httpx.Response:
    """What the person is answered who says what the owner may."""
    async with person.endpoints() as http:
        return await http.put("/v1/limits", json={"owner": str(owner.id), **limits})


async def allow(owner: Person, **limits: Any) -> Json:
    """The owner's exceptions, by a new operator; what holds for the owner then."""
    answer = await put(await operator(owner.stack), owner, **limits)
    assert answer.status_code == 200, answer.text
    told: Json = answer.json()
    return told

"""`/v1/keys`: made, listed and revoked by their owner, or by a key that may administer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from functions.agents import AgentId
from functions.keys import PREFIX_CHARACTERS, Key, KeyRequest, NewKey, hashed, new_secret
from functions.models import Page, claim
from functions.pages import Filter, Part, part
from functions.requests import idempotency_key
from functions.wiring import Admin, Served

router = APIRouter(prefix="/v1/keys", tags=["keys"])
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
Id = Annotated[AgentId, Path()]


@router.post("", status_code=201)
async def create_key(body: KeyRequest, key: IdempotencyKey, caller: Admin, served: Served) -> NewKey:
    """A new key, with its secret in `key`: shown this once. The same request again is 409 `secret_not_shown_again`.

    A key makes keys with scopes of its own only.
    """
    secret = new_secret()
    wanted = body.model_dump(mode="json")
    kept = {"prefix": secret[:PREFIX_CHARACTERS], "hash": hashed(secret)}
    arguments = {**wanted, **kept, **claim("POST /v1/keys", wanted, key)}
    row = await served.store.as_user(caller.token).create_key(arguments)
    return NewKey.model_validate({**row, "key": secret})


@router.get("")
async def list_keys(caller: Admin, served: Served, part: Annotated[Part, Depends(part)]) -> Page[Key]:
    """The caller's keys, revoked ones too, newest first."""
    rows = await served.store.as_user(caller.token).keys(Filter(part, include_archived=True))
    return part.page(rows, [Key.model_validate(row) for row in rows])


@router.delete("/{key_id}")
async def revoke_key(key_id: Id, caller: Admin, served: Served) -> Key:
    """Ends the key within a second, and every stream that it opened. Revoked again, nothing changes."""
    return Key.model_validate(await served.store.as_user(caller.token).revoke_key(key_id))

"""API keys and watch tokens, as the endpoints answer them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from pydantic import Field

from sandstream.endpoints import Endpoints
from sandstream.wire import Answer, Page

MARK = "sst_"


class Key(Answer):
    """An API key without its secret, of which `prefix` is the beginning."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    created_at: datetime


class NewKey(Key):
    """A key that was just made; `key` is its secret, which is shown this once."""

    key: str = Field(repr=False)


class WatchToken(Answer):
    """A token for one session, and where to take it."""

    token: str = Field(repr=False)
    expires_at: datetime
    session_id: UUID
    supabase_url: str
    publishable_key: str


class Keys:
    """The caller's API keys. Every method raises as those of Sandstream; a key that calls needs the scope `admin`."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def create(
        self,
        name: str,
        scopes: Sequence[str] = ("run", "read"),
        *,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> NewKey:
        """A new key, with scopes of `run`, `read` and `admin`.

        Raises ConflictError when the first answer to this request was lost: the secret is lost with it.
        """
        body = {"name": name, "scopes": list(scopes), "expires_at": expires_at.isoformat() if expires_at else None}
        key = idempotency_key or uuid.uuid4().hex
        answer = await self._endpoints.call("POST", "/v1/keys", body=body, key=key)
        return NewKey.model_validate_json(answer.content)

    async def list(self, limit: int = 20, after: str | None = None) -> Page[Key]:
        """The caller's keys, newest first, revoked ones too; `after` is the page before's `next_cursor`."""
        params = {"limit": limit} | ({"after": after} if after else {})
        answer = await self._endpoints.call("GET", "/v1/keys", params=params)
        return Page[Key].model_validate_json(answer.content)

    async def revoke(self, id: str) -> Key:
        """Ends a key within a second; again changes nothing. Raises NotFoundError."""
        answer = await self._endpoints.call("DELETE", f"/v1/keys/{id}")
        return Key.model_validate_json(answer.content)


def is_key(credential: str) -> bool:
    """Whether it is an API key; Supabase itself takes none."""
    return credential.startswith(MARK)

"""All sandboxes of the local E2B server: made once for each request, found, listed, ended."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, unquote

from local.e2b.boot import StartError
from local.e2b.sandbox import House, IllegalMoveError, Order, Sandbox, State

LIVE = (State.RUNNING, State.PAUSED)


class NotFoundError(LookupError):
    """No such sandbox, or it has ended."""


class KeyReusedError(Exception):
    """An idempotency key came again with another body."""


class TooManyError(Exception):
    """The server holds as many sandboxes as it may."""


@dataclass
class Query:
    """What a listing is asked for. `metadata` is k=v&…, names and values quoted once more, as the SDK sends it."""

    metadata: str = ""
    states: tuple[str, ...] = (State.RUNNING, State.PAUSED)
    started_after: datetime | None = None
    template: str | None = None
    ascending: bool = False
    limit: int = 100
    token: str | None = None

    def matches(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox belongs into the listing."""
        wanted = {unquote(k): unquote(v) for k, v in parse_qsl(self.metadata, keep_blank_values=True)}
        return (
            sandbox.state in self.states
            and wanted.items() <= sandbox.order.metadata.items()
            and (self.started_after is None or sandbox.started_at > self.started_after)
            and (self.template is None or sandbox.order.template == self.template)
        )


class Sandboxes:
    """The register. One for each server."""

    def __init__(self, house: House, limit: int) -> None:
        self.house = house
        self._limit = limit
        self._all: dict[str, Sandbox] = {}
        self._keys: dict[str, tuple[bytes, asyncio.Task[Sandbox]]] = {}

    async def create(self, order: Order, key: str | None = None, body: bytes = b"") -> Sandbox:
        """A running sandbox; the same `key` with the same body gives the same one, also while it is being made.

        Raises StartError, TooManyError and KeyReusedError.
        """
        if key is None:
            # A caller that leaves must not stop it half-way: what is made is registered, and ends at its time.
            return await asyncio.shield(asyncio.create_task(self._create(order)))
        digest = hashlib.sha256(body).digest()
        claim = self._keys.get(key)
        if claim is None:
            claim = (digest, asyncio.create_task(self._create_for(key, order)))
            self._keys[key] = claim
        if claim[0] != digest:
            raise KeyReusedError("the idempotency key was used with another body")
        return await asyncio.shield(claim[1])

    def find(self, sandbox_id: str) -> Sandbox:
        """A running or paused one. Raises NotFoundError."""
        sandbox = self._all.get(sandbox_id)
        if sandbox is None or sandbox.state not in LIVE:
            raise NotFoundError(f"sandbox {sandbox_id} not found")
        return sandbox

    async def wake(self, sandbox_id: str, seconds: float) -> bool:
        """Resume a paused one: True; leave a running one at least as long to live: False.

        Raises NotFoundError.
        """
        try:
            return await self.find(sandbox_id).wake(seconds)
        except IllegalMoveError as error:
            raise NotFoundError(f"sandbox {sandbox_id} not found") from error

    async def awake(self, sandbox_id: str) -> Sandbox:
        """A running one, for traffic to it: resumed if it may be. Raises NotFoundError."""
        sandbox = self.find(sandbox_id)
        if sandbox.state is State.PAUSED and sandbox.order.resume_on_traffic:
            await self.wake(sandbox_id, sandbox.order.timeout)
        if sandbox.state is not State.RUNNING:
            raise NotFoundError(f"sandbox {sandbox_id} is paused")
        return sandbox

    def living(self) -> list[Sandbox]:
        """Running and paused ones."""
        return [sandbox for sandbox in self._all.values() if sandbox.state in LIVE]

    def page(self, query: Query) -> tuple[list[Sandbox], str | None]:
        """One page, newest first unless asked otherwise, and the next one's token. Raises ValueError for a bad one."""
        found = [sandbox for sandbox in self._all.values() if query.matches(sandbox)]
        found.sort(key=_position, reverse=not query.ascending)
        if query.token is not None:
            started, _, name = query.token.rpartition(".")
            last = (float.fromhex(started), name)
            found = [s for s in found if (_position(s) > last if query.ascending else _position(s) < last)]
        page = found[: query.limit]
        more = len(found) > len(page)
        return page, f"{_position(page[-1])[0].hex()}.{page[-1].id}" if more and page else None

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*(sandbox.kill() for sandbox in list(self._all.values())))

    async def _create_for(self, key: str, order: Order) -> Sandbox:
        made = None
        try:
            made = await self._create(order)
        finally:
            if made is None:
                del self._keys[key]
        return made

    async def _create(self, order: Order) -> Sandbox:
        if len(self._all) >= self._limit:
            raise TooManyError(f"{self._limit} sandboxes are alive already")
        sandbox = Sandbox(self.house, order)
        self._all[sandbox.id] = sandbox
        try:
            await sandbox.start()
        except StartError:
            del self._all[sandbox.id]
            raise
        sandbox.on_end(self._forget)
        return sandbox

    def _forget(self, sandbox: Sandbox) -> None:
        self._all.pop(sandbox.id, None)
        for key in [k for k, (_, task) in self._keys.items() if task.done() and task.result() is sandbox]:
            del self._keys[key]


def _position(sandbox: Sandbox) -> tuple[float, str]:
    return sandbox.started_at.timestamp(), sandbox.id

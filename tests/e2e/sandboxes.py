"""Looking into a run's sandbox from a test, with E2B's own SDK."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import httpx
from e2b import AsyncSandbox, SandboxQuery

from local.stack import Stack

T = TypeVar("T")

DEADLINE_SECONDS = 60
POLL_SECONDS, POLL_CAP_SECONDS = 0.05, 0.4


async def until(what: Callable[[], Awaitable[T | None]], why: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Asks until there is an answer. Raises AssertionError, saying what was waited for, when it takes too long."""
    deadline, pause = time.monotonic() + seconds, POLL_SECONDS
    while time.monotonic() < deadline:
        if found := await what():
            return found
        await asyncio.sleep(pause)
        # Each question costs what is waited for some of its processor.
        pause = min(pause * 1.5, POLL_CAP_SECONDS)
    raise AssertionError(f"waited for {why}")


async def row(service: httpx.AsyncClient, run_id: UUID) -> dict[str, object]:
    """The run's row, with what only the control plane sees."""
    answer = await service.get("/agent_runs", params={"id": f"eq.{run_id}"})
    found: dict[str, object] = answer.json()[0]
    return found


async def sandbox_of(stack: Stack, service: httpx.AsyncClient, run_id: UUID) -> AsyncSandbox:
    """The sandbox that the run was given, once its id is stored."""

    async def stored() -> str | None:
        found = (await row(service, run_id))["sandbox_id"]
        return str(found) if found else None

    return await connect(stack, await until(stored, "a sandbox id"))


async def connect(stack: Stack, sandbox_id: str) -> AsyncSandbox:
    """A sandbox by its id."""
    return await AsyncSandbox.connect(
        sandbox_id, timeout=1, api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url, sandbox_url=stack.e2b.url
    )


async def sandbox_of_session(stack: Stack, session_id: str) -> AsyncSandbox:
    """The one sandbox of a conversation, running or paused; woken by this."""

    async def listed() -> str | None:
        query = SandboxQuery(metadata={"sandstream_session": session_id})
        pages = AsyncSandbox.list(query, api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url)
        found = [sandbox.sandbox_id for sandbox in await pages.next_items()]
        return found[0] if found else None

    return await connect(stack, await until(listed, "the conversation's sandbox"))


async def living(stack: Stack) -> list[str]:
    """The ids of the sandboxes that there are."""
    pages = AsyncSandbox.list(api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url)
    found: list[str] = []
    while pages.has_next:
        found += [sandbox.sandbox_id for sandbox in await pages.next_items()]
    return found


async def is_gone(stack: Stack, sandbox_id: str) -> bool | None:
    """True once there is no such sandbox."""
    return sandbox_id not in await living(stack) or None

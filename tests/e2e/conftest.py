"""A stack to oneself, for tests that look at everything in it."""

from collections.abc import AsyncIterator

import pytest
from e2b import AsyncSandbox

from local.stack import Stack
from tests.e2e.sandboxes import living
from tests.e2e.sweeping import execute


@pytest.fixture
async def alone(stack: Stack) -> AsyncIterator[None]:
    """Neither sandboxes nor sessions of an earlier test, and none of this one's for a later."""
    await clear(stack)
    yield
    await clear(stack)


async def clear(stack: Stack) -> None:
    """Nothing lives, and nothing is known of what lived."""
    for sandbox_id in await living(stack):
        await AsyncSandbox.kill(sandbox_id, api_key=stack.keys.e2b_api_key, api_url=stack.e2b.url)
    execute(stack, "delete from public.agent_sessions")

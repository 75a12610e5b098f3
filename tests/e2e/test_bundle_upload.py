"""The runner is uploaded where the template lacks it, and only there."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from e2b import AsyncSandbox

from functions.bundle import build
from functions.egress import Egress
from functions.job import HOME, Job
from functions.sandboxes import BAKED, Sandboxes
from functions.settings import Settings
from local.stack import Stack
from tests.e2e.sandboxes import until

BUNDLE = build()


@pytest.fixture
def sandboxes(stack: Stack) -> Sandboxes:
    """As the endpoints make it, in a process that has launched nothing yet."""
    settings = Settings(
        sandstream_url=stack.api.url,
        supabase_url=stack.supabase.url,
        supabase_publishable_key=stack.keys.publishable_key,
        supabase_secret_key=stack.keys.secret_key,
        run_token_key=stack.keys.signing_key,
        e2b_api_key=stack.keys.e2b_api_key,
        e2b_api_url=stack.e2b.url,
        e2b_sandbox_url=stack.e2b.url,
    )
    return Sandboxes(settings, BUNDLE)


@pytest.fixture
async def sandbox(sandboxes: Sandboxes) -> AsyncIterator[AsyncSandbox]:
    """One that nothing was put into."""
    run = {"id": str(uuid4()), "session_id": str(uuid4()), "limit_seconds": 60}
    made = await sandboxes.create(run, Egress((), {}))
    yield made
    await sandboxes.kill(made.sandbox_id)


async def started(sandbox: AsyncSandbox, job: Job) -> str:
    """What the runner said of a job that is none: it ran."""

    async def said() -> str | None:
        log = f"{job.folder}/runner.log"
        return await sandbox.files.read(log) if await sandbox.files.exists(log) else None

    return await until(said, "the runner's word")


async def test_a_bare_template_gets_the_runner(sandboxes: Sandboxes, sandbox: AsyncSandbox) -> None:
    """It is looked for, uploaded, and started; the process remembers, and does not look again."""
    for _ in range(2):
        job = Job(str(uuid4()), {}, {})
        await sandboxes.start(sandbox, job)
        assert "job file" in await started(sandbox, job)
    assert await sandbox.files.exists(f"{HOME}/{BUNDLE.name}")


async def test_a_template_with_the_runner_is_left_as_it_is(sandboxes: Sandboxes, sandbox: AsyncSandbox) -> None:
    """With the same hash baked in, only the job is uploaded."""
    await sandbox.files.write(f"{BAKED}/{BUNDLE.name}", BUNDLE.content)
    job = Job(str(uuid4()), {}, {})
    await sandboxes.start(sandbox, job)
    assert "job file" in await started(sandbox, job)
    assert not await sandbox.files.exists(f"{HOME}/{BUNDLE.name}")

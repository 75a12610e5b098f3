"""E2B: sandboxes created closed, filled with the runner and its job, started in the background, and ended for sure."""

import json
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any

import structlog
from e2b import AsyncSandbox, SandboxInfo, SandboxQuery
from e2b.exceptions import (
    NotFoundException,
    RateLimitException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    ServiceBusyException,
)
from e2b.sandbox.commands.command_handle import CommandExitException
from e2b.sandbox.filesystem.filesystem import WriteEntry

from functions.bundle import START, Bundle
from functions.egress import Egress
from functions.errors import SandboxGone, SandboxUnavailable
from functions.job import HOME, Job, folder
from functions.settings import Settings

BAKED = "/opt/sandstream"
# What the start command says when the template does not have this runner baked in.
RUNNER_ABSENT = 44
START_TIMEOUT_SECONDS = 20
RING_TIMEOUT_SECONDS = 10
KILL_TRIES = 3
# What the ring command says when the runner holds its lock no more.
RUNNER_DEAD = 45
# And without a lock file: the runner has not begun, and reads the log when it does.
RUNNER_UNBORN = 46
RING = (
    f"cd {{folder}} 2>/dev/null || exit {RUNNER_UNBORN}; touch doorbell; test -e lock || exit {RUNNER_UNBORN}; "
    f"! flock -n lock true || exit {RUNNER_DEAD}"
)
# Metadata by which our sandboxes are found again.
PROJECT, RUN, SESSION = "sandstream_project", "sandstream_run", "sandstream_session"
PAGE = 100

Row = dict[str, Any]

log = structlog.get_logger(__name__)


class Pulse(Enum):
    """What a ring found."""

    ALIVE = 0
    DEAD = RUNNER_DEAD
    UNBORN = RUNNER_UNBORN


class Sandboxes:
    """The one place that talks to E2B. Every method raises SandboxUnavailable when E2B refuses or fails."""

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        self._settings = settings
        self._bundle = bundle
        # Templates found without this runner: for them the upload comes first, with no probe before it.
        self._bare_templates: set[str] = set()

    async def create(self, run: Row, egress: Egress, *, is_kept: bool = False) -> AsyncSandbox:
        """A sandbox that outlives the run's limit by the margin. The run's id is its idempotency key at E2B.

        One that `is_kept` is paused at the end of its time, any other is killed.
        """
        with failures("create"):
            return await AsyncSandbox.create(
                template=self._settings.e2b_template,
                timeout=self._lifetime(run),
                metadata={PROJECT: self._settings.project, RUN: run["id"], SESSION: run["session_id"]},
                network=egress.as_network(),  # type: ignore[arg-type] # a TypedDict of callables
                lifecycle={"on_timeout": "pause", "auto_resume": False} if is_kept else None,
                idempotency_key=run["id"],
                **self._settings.e2b,
            )

    async def wake(self, sandbox_id: str, run: Row, egress: Egress) -> AsyncSandbox:
        """An older sandbox for this run, awake for as long, with this run's network. Raises SandboxGone."""
        with failures("wake"):
            sandbox = await AsyncSandbox.connect(sandbox_id, timeout=self._lifetime(run), **self._settings.e2b)
            await sandbox.update_network(egress.as_network())  # type: ignore[arg-type] # a TypedDict of callables
            return sandbox

    async def rest(self, sandbox_id: str, seconds: int) -> None:
        """Leaves a kept sandbox so long until it is paused. One that is paused or gone stays so."""
        with failures("rest"), suppress(NotFoundException):
            await AsyncSandbox.set_timeout(sandbox_id, seconds, **self._settings.e2b)

    async def start(self, sandbox: AsyncSandbox, job: Job) -> None:
        """Uploads the job, and the runner where the template lacks it, and starts the runner detached from us."""
        template = self._settings.e2b_template
        if template not in self._bare_templates:
            await self._write(sandbox, [self._job_file(job)])
            if await self._run(sandbox, f"{BAKED}/{self._bundle.name}", job):
                return
            self._bare_templates.add(template)
        await self._write(sandbox, [self._runner_file(), self._job_file(job)])
        if not await self._run(sandbox, f"{HOME}/{self._bundle.name}", job):
            raise SandboxUnavailable("the sandbox does not have the runner that was uploaded to it")

    async def ring(self, sandbox_id: str, run_id: str) -> Pulse:
        """Touches the run's doorbell, so that its runner asks for news at once. Raises SandboxGone.

        The runner holds a lock for as long as it lives, which tells whether there is anyone to hear it.
        """
        try:
            with failures("ring"):
                sandbox = await AsyncSandbox.connect(sandbox_id, timeout=1, **self._settings.e2b)
                await sandbox.commands.run(RING.format(folder=folder(run_id)), timeout=RING_TIMEOUT_SECONDS)
        except CommandExitException as answer:
            if answer.exit_code in (RUNNER_DEAD, RUNNER_UNBORN):
                return Pulse(answer.exit_code)
            log.warning("not_rung", exit_code=answer.exit_code, stderr=answer.stderr[-500:])
        return Pulse.ALIVE

    async def job(self, sandbox: AsyncSandbox, run_id: str) -> Row:
        """What the run's job file says. Raises SandboxGone."""
        with failures("read"):
            content: Row = json.loads(await sandbox.files.read(f"{folder(run_id)}/job.json"))
            return content

    async def kill(self, sandbox_id: str) -> bool:
        """Kills a sandbox and asks whether it is gone: E2B has been seen to answer a kill that did not happen.

        False when there was nothing to kill any more.
        """
        was_there = False
        with failures("kill"):
            for _ in range(KILL_TRIES):
                was_there |= await AsyncSandbox.kill(sandbox_id, **self._settings.e2b)
                if not await self._exists(sandbox_id):
                    return was_there
        raise SandboxUnavailable("the sandbox does not end")

    async def ours(self) -> AsyncIterator[list[SandboxInfo]]:
        """All sandboxes of this project, running and paused, page by page."""
        query = SandboxQuery(metadata={PROJECT: self._settings.project})
        pages = AsyncSandbox.list(query, limit=PAGE, **self._settings.e2b)
        while pages.has_next:
            with failures("list"):
                page = await pages.next_items()
            yield page

    async def pause(self, sandbox_id: str) -> None:
        """Pauses a kept sandbox now. One that is paused or gone stays so."""
        with failures("pause"), suppress(NotFoundException):
            await AsyncSandbox.pause(sandbox_id, **self._settings.e2b)

    async def resume(self, sandbox_id: str, seconds: int) -> None:
        """Wakes a sandbox, its network as it was. Raises SandboxGone."""
        with failures("resume"):
            await AsyncSandbox.connect(sandbox_id, timeout=seconds, **self._settings.e2b)

    def _lifetime(self, run: Row) -> int:
        return int(run["limit_seconds"]) + self._settings.sandbox_margin_seconds

    async def _exists(self, sandbox_id: str) -> bool:
        try:
            await AsyncSandbox.get_info(sandbox_id, **self._settings.e2b)
        except NotFoundException:
            return False
        return True

    async def _write(self, sandbox: AsyncSandbox, entries: list[WriteEntry]) -> None:
        with failures("upload"):
            await sandbox.files.write_files(entries)

    async def _run(self, sandbox: AsyncSandbox, runner: str, job: Job) -> bool:
        """True when the runner was started, False when its file is not there.

        `setsid --fork` leaves nothing of it attached to envd: neither the stream nor the pid of a long command can be
        relied on there (E2B issues 1074, 1031, 1587).
        """
        python = shlex.join(["python3", *START, runner, f"{job.folder}/job.json"])
        command = (
            f"test -f {runner} || exit {RUNNER_ABSENT}; cd {job.folder} && "
            f"exec setsid --fork {python} >>runner.log 2>&1 </dev/null"
        )
        try:
            with failures("start"):
                await sandbox.commands.run(command, envs=job.environment, timeout=START_TIMEOUT_SECONDS)
        except CommandExitException as refused:
            if refused.exit_code == RUNNER_ABSENT:
                return False
            log.warning("runner_not_started", exit_code=refused.exit_code, stderr=refused.stderr[-500:])
            raise SandboxUnavailable("the runner could not be started") from refused
        return True

    def _job_file(self, job: Job) -> WriteEntry:
        content = json.dumps(job.content, ensure_ascii=False, separators=(",", ":"))
        return WriteEntry(path=f"{job.folder}/job.json", data=content)

    def _runner_file(self) -> WriteEntry:
        return WriteEntry(path=f"{HOME}/{self._bundle.name}", data=self._bundle.content)


@contextmanager
def failures(step: str) -> Iterator[None]:
    """Turns what E2B's SDK raises into SandboxUnavailable; 503 where waiting helps, 502 otherwise."""
    try:
        yield
    except CommandExitException:
        raise
    except (SandboxNotFoundException, SandboxNotRunningException) as error:
        log.info("e2b_gone", step=step, error=str(error))
        raise SandboxGone(f"E2B has no such sandbox at this step: {step}") from error
    except (RateLimitException, ServiceBusyException) as error:
        log.warning("e2b_busy", step=step, error=str(error))
        raise SandboxUnavailable("E2B is busy", status=503) from error
    except Exception as error:
        # Not only its own: an answer that it does not expect, such as a gateway's, makes the SDK raise KeyError,
        # ValueError or a bare Exception. Whatever it is, E2B did not do what it was asked.
        log.warning("e2b_failed", step=step, error=f"{type(error).__name__}: {error}")
        raise SandboxUnavailable(f"E2B failed at this step: {step}") from error

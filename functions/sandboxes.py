"""E2B: sandboxes created closed, filled with the runner and its job, started in the background, and ended for sure."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from e2b import AsyncSandbox
from e2b.exceptions import NotFoundException, RateLimitException, ServiceBusyException
from e2b.sandbox.commands.command_handle import CommandExitException
from e2b.sandbox.filesystem.filesystem import WriteEntry

from functions.bundle import Bundle
from functions.errors import SandboxUnavailable
from functions.settings import Settings

HOME = "/home/user/.sandstream"
BAKED = "/opt/sandstream"
# What the start command says when the template does not have this runner baked in.
RUNNER_ABSENT = 44
START_TIMEOUT_SECONDS = 20
KILL_TRIES = 3

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """What a sandbox is told to do: `content` becomes the job file, `environment` is the runner's alone."""

    run_id: str
    content: dict[str, Any]
    environment: dict[str, str]

    @property
    def folder(self) -> str:
        """Where the job, the spool and the doorbell lie."""
        return f"{HOME}/{self.run_id}"


@dataclass(frozen=True)
class Egress:
    """What a sandbox may reach, as host or host:port, and the headers that are added outside it, per entry."""

    allow: tuple[str, ...]
    headers: dict[str, dict[str, str]]

    def as_network(self) -> dict[str, Any]:
        """E2B's network option: everything denied but what is listed."""
        return {
            "allow_out": list(self.allow),
            "deny_out": lambda context: [context.all_traffic],
            "rules": {host: [{"transform": {"headers": headers}}] for host, headers in self.headers.items()},
        }


class Sandboxes:
    """The one place that talks to E2B. Every method raises SandboxUnavailable when E2B refuses or fails."""

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        self._settings = settings
        self._bundle = bundle
        # Templates found without this runner: for them the upload comes first, with no probe before it.
        self._bare_templates: set[str] = set()

    async def create(self, run_id: str, session_id: str, limit_seconds: int, egress: Egress) -> AsyncSandbox:
        """A sandbox that outlives the run's limit by the margin. The run's id is its idempotency key at E2B."""
        with failures("create"):
            return await AsyncSandbox.create(
                template=self._settings.e2b_template,
                timeout=limit_seconds + self._settings.sandbox_margin_seconds,
                metadata={"sandstream_run": run_id, "sandstream_session": session_id},
                network=egress.as_network(),  # type: ignore[arg-type] # a TypedDict of callables
                idempotency_key=run_id,
                **self._settings.e2b,
            )

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

    async def ring(self, sandbox_id: str, run_id: str) -> None:
        """Touches the run's doorbell, so that its runner asks for news at once."""
        with failures("ring"):
            sandbox = await AsyncSandbox.connect(sandbox_id, timeout=1, **self._settings.e2b)
            await sandbox.files.write(f"{HOME}/{run_id}/doorbell", b"")

    async def kill(self, sandbox_id: str) -> None:
        """Kills a sandbox and asks whether it is gone: E2B has been seen to answer a kill that did not happen."""
        with failures("kill"):
            for _ in range(KILL_TRIES):
                await AsyncSandbox.kill(sandbox_id, **self._settings.e2b)
                if not await self._exists(sandbox_id):
                    return
        raise SandboxUnavailable("the sandbox does not end")

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
        command = (
            f"test -f {runner} || exit {RUNNER_ABSENT}; cd {job.folder} && "
            f"exec setsid --fork python3 -I {runner} {job.folder}/job.json >>runner.log 2>&1 </dev/null"
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
    except (RateLimitException, ServiceBusyException) as error:
        log.warning("e2b_busy", step=step, error=str(error))
        raise SandboxUnavailable("E2B is busy", status=503) from error
    except Exception as error:
        # Not only its own: an answer that it does not expect, such as a gateway's, makes the SDK raise KeyError,
        # ValueError or a bare Exception. Whatever it is, E2B did not do what it was asked.
        log.warning("e2b_failed", step=step, error=f"{type(error).__name__}: {error}")
        raise SandboxUnavailable(f"E2B failed at this step: {step}") from error

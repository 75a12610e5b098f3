"""The one use case that all runs share: admit, create the sandbox, store its id, upload, start.

The order is the promise: the admission is the first durable write, the sandbox's id is stored before anything runs in
it, and a launch that fails ends the run as `failed` and its sandbox with it.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import structlog
from e2b import AsyncSandbox

from functions.errors import ApiError, SandboxUnavailable, StoreUnavailable
from functions.identity import Caller, RunGrant, RunTokens
from functions.sandboxes import Egress, Job, Sandboxes
from functions.settings import Settings, netloc
from functions.store import Row, Store
from functions.timing import Timings
from sandbox_scripts.job import VERSION

OUTPUT_LIMIT_BYTES = 1_048_576
WORKING_DIRECTORY = "~"  # of the user that the template runs commands as
FAIL_TRIES = 5
FAIL_DELAY_SECONDS = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Order:
    """What a client asked for, in the words of admission."""

    kind: str
    input: Row
    limit_seconds: int
    egress: tuple[str, ...]
    request_hash: str
    idempotency_key: str | None
    session_id: UUID | None
    title: str | None
    metadata: dict[str, str]

    def as_arguments(self) -> Row:
        """The arguments of `admit_run_v1`."""
        return {
            "kind": self.kind,
            "input": self.input,
            "limit_seconds": self.limit_seconds,
            "request_hash": self.request_hash,
            "idempotency_key": self.idempotency_key,
            "session_id": str(self.session_id) if self.session_id else None,
            "title": self.title,
            "metadata": self.metadata,
        }


class Launcher:
    """Starts runs. One per process; holds no state of a run."""

    def __init__(self, settings: Settings, store: Store, sandboxes: Sandboxes, tokens: RunTokens) -> None:
        self._settings = settings
        self._store = store
        self._sandboxes = sandboxes
        self._tokens = tokens

    async def submit(self, order: Order, caller: Caller, timings: Timings) -> Row:
        """The admitted run; launched, unless this request was admitted before: then nothing is done twice.

        Raises NotFound, Conflict, StoreUnavailable, SandboxUnavailable. Once admitted, a launch that cannot be
        completed ends the run as `failed` and gives the key back: sent again, the request is admitted anew.
        """
        with timings.step("admit"):
            admission = await self._store.as_user(caller.token).admit_run(order.as_arguments())
        run: Row = admission["run"]
        with structlog.contextvars.bound_contextvars(run_id=run["id"], session_id=run["session_id"]):
            if admission["replayed"]:
                return run
            await self._launch_or_fail(run, order, timings)
            log.info("launched", **{f"{name}_ms": round(duration) for name, duration in timings.steps.items()})
            return run

    async def _launch_or_fail(self, run: Row, order: Order, timings: Timings) -> None:
        try:
            await self._launch(run, order, timings)
        except BaseException as error:  # whatever stops a launch, its run must not stay `launching`
            log.warning("launch_failed", error=f"{type(error).__name__}: {error}")
            await asyncio.shield(self._fail(UUID(run["id"]), as_run_error(error)))
            raise

    async def _launch(self, run: Row, order: Order, timings: Timings) -> None:
        grant = RunGrant(UUID(run["id"]), UUID(run["session_id"]), run["epoch"])
        lifetime = run["limit_seconds"] + self._settings.sandbox_margin_seconds
        token = self._tokens.mint(grant, lifetime)
        egress = self._egress(order, token)
        with timings.step("create"):
            sandbox = await self._sandboxes.create(run["id"], run["session_id"], run["limit_seconds"], egress)
        try:
            with timings.step("record"):
                await self._record(sandbox, run)
            with timings.step("start"):
                await self._sandboxes.start(sandbox, self._job(run, order, token))
        except BaseException:  # whatever went wrong, nobody will use this sandbox any more
            await asyncio.shield(self._discard(sandbox.sandbox_id))
            raise

    async def _record(self, sandbox: AsyncSandbox, run: Row) -> None:
        service = self._store.as_service()
        current = await service.record_sandbox(UUID(run["id"]), sandbox.sandbox_id, self._settings.e2b_template)
        if current["status"] != "launching":
            raise SandboxUnavailable("the run ended before it was launched")

    def _egress(self, order: Order, token: str) -> Egress:
        ours = (netloc(self._settings.supabase_url), netloc(self._settings.sandstream_url))
        allow = tuple(dict.fromkeys((*ours, *self._settings.egress_allow, *order.egress)))
        if self._settings.credentials == "env":
            return Egress(allow, {})
        return Egress(allow, {host: {"Authorization": f"Bearer {token}"} for host in ours})

    def _job(self, run: Row, order: Order, token: str) -> Job:
        in_environment = self._settings.credentials == "env"
        content = {
            "version": VERSION,
            "run_id": run["id"],
            "session_id": run["session_id"],
            "epoch": run["epoch"],
            "kind": order.kind,
            "limit_seconds": run["limit_seconds"],
            "supabase_url": self._settings.supabase_url,
            "publishable_key": self._settings.supabase_publishable_key,
            "ended_url": f"{self._settings.sandstream_url}/v1/runs/{run['id']}/ended",
            "credentials": self._settings.credentials,
            "output_limit_bytes": OUTPUT_LIMIT_BYTES,
            "working_directory": WORKING_DIRECTORY,
            "redact": [],
            "input": order.input,
        }
        environment = {"SANDSTREAM_RUN_TOKEN": token} if in_environment else {}
        return Job(run["id"], content, environment)

    async def _fail(self, run_id: UUID, error: Row) -> None:
        """Ends the run, trying again while Supabase is away; what is left after that is the sweep's."""
        for attempt in range(FAIL_TRIES):
            try:
                await self._store.as_service().fail_launch(run_id, error)
            except StoreUnavailable:
                await asyncio.sleep(FAIL_DELAY_SECONDS * 2**attempt)
            else:
                return
        log.error("launch_left_behind", run_id=str(run_id))

    async def _discard(self, sandbox_id: str) -> None:
        try:
            await self._sandboxes.kill(sandbox_id)
            await self._store.as_service().close_sandbox(sandbox_id, "launch_failed")
        except ApiError as error:
            log.warning("sandbox_left_behind", sandbox_id=sandbox_id, error=str(error))


async def cancel(store: Store, sandboxes: Sandboxes, caller: Caller, run_id: UUID, hash: str, key: str | None) -> Row:
    """Asks a run to stop, and rings its doorbell. Raises NotFound, Conflict, StoreUnavailable."""
    run = await store.as_user(caller.token).request_cancel(run_id, hash, key)
    if run["sandbox_id"] is not None and run["ended_at"] is None:
        # The runner learns of it with its next heartbeat all the same.
        with suppress(SandboxUnavailable):
            await sandboxes.ring(run["sandbox_id"], run["id"])
    return run


async def end(store: Store, sandboxes: Sandboxes, grant: RunGrant) -> Row:
    """The runner's last call: kills the sandbox of a run whose row is terminal; leaves a living run alone.

    Raises NotFound, StoreUnavailable, SandboxUnavailable.
    """
    service = store.as_service()
    run = await service.run(grant.run_id)
    if run["ended_at"] is not None and run["sandbox_id"] is not None:
        await sandboxes.kill(run["sandbox_id"])
        await service.close_sandbox(run["sandbox_id"], run["status"])
    return run


def as_run_error(error: BaseException) -> Row:
    """What the run's row says of a failed launch: a word and a sentence, never a trace."""
    if isinstance(error, ApiError):
        return {"type": error.type, "message": error.message}
    return {"type": "launch_failed", "message": "the launch failed"}

"""The one use case that all runs share: admit, create or wake the sandbox, store its id, upload, start.

The order is the promise: the admission is the first durable write, the sandbox's id is stored before anything runs in
it, and a launch that fails ends the run as `failed`, and with it the sandbox that was made for it.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog
from e2b import AsyncSandbox

from functions import egress
from functions import job as jobs
from functions.egress import Egress
from functions.errors import ApiError, SandboxGone, SandboxUnavailable, StoreUnavailable
from functions.identity import Caller, RunGrant, RunTokens
from functions.job import Job
from functions.rest import Row
from functions.sandboxes import Sandboxes
from functions.settings import Settings
from functions.store import ServiceStore, Store
from functions.timing import Timings

CLAUDE, RESEARCH = "claude", "research"
FAIL_TRIES = 5
FAIL_DELAY_SECONDS = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Order:
    """What a client asked for, in the words of admission."""

    kind: str
    input: Row
    limit_seconds: int
    is_cut: bool
    egress: tuple[str, ...]
    request_hash: str
    idempotency_key: str | None
    session_id: UUID | None
    title: str | None
    metadata: dict[str, str]
    budget_microusd: int | None

    def as_arguments(self) -> Row:
        """The arguments of `admit_run_v1`."""
        return {
            "kind": self.kind,
            "input": self.input,
            "limit_seconds": self.limit_seconds,
            "is_cut": self.is_cut,
            "request_hash": self.request_hash,
            "idempotency_key": self.idempotency_key,
            "session_id": str(self.session_id) if self.session_id else None,
            "title": self.title,
            "metadata": self.metadata,
            "budget_microusd": self.budget_microusd,
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

        Raises NotFound, Conflict, InvalidRequest, TooManySandboxes, RateLimited, BudgetExceeded, StoreUnavailable,
        SandboxUnavailable.
        Once admitted, a launch that cannot be completed ends the run as `failed` and gives the key back: sent again,
        the request is admitted anew.
        """
        with timings.step("admit"):
            admission = await self._store.as_user(caller.token).admit_run(order.as_arguments())
        run: Row = admission["run"]
        if not admission["replayed"]:
            await self._launch_or_fail(run, self._plan(run, order, timings), timings)
        return run

    async def converse(self, run: Row, session: Row, timings: Timings) -> None:
        """Launches an admitted run of a conversation: in its sandbox, woken where it is paused, or in a new one.

        `session` is the row with its facts, as the call that admitted the run answered. Raises as `submit`; the
        user's message is in the log already, and the next run takes it.
        """
        await self._launch_or_fail(run, self._turn(run, session, timings), timings)

    async def research(self, run: Row, input: Row, timings: Timings) -> None:
        """Launches an admitted run for a question. Raises as `submit`."""
        await self._launch_or_fail(run, self._question(run, input, timings), timings)

    async def _launch_or_fail(self, run: Row, launching: Coroutine[None, None, None], timings: Timings) -> None:
        with structlog.contextvars.bound_contextvars(run_id=run["id"], session_id=run["session_id"]):
            try:
                await launching
            except BaseException as error:  # whatever stops a launch, its run must not stay `launching`
                log.warning("launch_failed", error=f"{type(error).__name__}: {error}")
                await asyncio.shield(self._fail(UUID(run["id"]), as_run_error(error)))
                raise
            log.info("launched", **{f"{name}_ms": round(duration) for name, duration in timings.steps.items()})

    async def _plan(self, run: Row, order: Order, timings: Timings) -> None:
        token = self._tokens.mint(grant(run), lifetime(self._settings, run))
        job = jobs.of_plan(self._settings, run, token, order.input)
        await self._in_new(run, egress.of_plan(self._settings, token, order.egress), job, timings, is_kept=False)

    async def _question(self, run: Row, input: Row, timings: Timings) -> None:
        token = self._tokens.mint(grant(run), lifetime(self._settings, run))
        job = jobs.of_research(self._settings, run, token, input)
        await self._in_new(run, egress.of_research(self._settings, token, input), job, timings, is_kept=False)

    async def _turn(self, run: Row, session: Row, timings: Timings) -> None:
        secrets: Row = {}
        if session["resources"]:
            with timings.step("secrets"):
                secrets = await self._store.as_service().session_secrets(UUID(session["id"]))
        token = self._tokens.mint(grant(run), lifetime(self._settings, run))
        network = egress.of_conversation(self._settings, token, session, secrets)
        make = partial(jobs.of_conversation, self._settings, run, token, session)
        sandbox_id = session["sandbox_id"]
        if sandbox_id is not None and await self._in_old(sandbox_id, run, network, make(is_fresh=False), timings):
            return
        await self._in_new(run, network, make(is_fresh=session["had_sandbox"]), timings, is_kept=True)

    async def _in_new(self, run: Row, network: Egress, job: Job, timings: Timings, *, is_kept: bool) -> None:
        with timings.step("create"):
            sandbox = await self._sandboxes.create(run, network, is_kept=is_kept)
        try:
            with timings.step("record"):
                await self._record(sandbox, run)
            with timings.step("start"):
                await self._sandboxes.start(sandbox, job)
        except BaseException:  # whatever went wrong, nobody will use this sandbox any more
            await asyncio.shield(self._discard(sandbox.sandbox_id))
            raise

    async def _in_old(self, sandbox_id: str, run: Row, network: Egress, job: Job, timings: Timings) -> bool:
        """False when E2B does not have it any more. It keeps the session's files, so a failure leaves it be."""
        try:
            with timings.step("wake"):
                sandbox = await self._sandboxes.wake(sandbox_id, run, network)
            with timings.step("record"):
                await self._record(sandbox, run)
            with timings.step("start"):
                await self._sandboxes.start(sandbox, job)
        except SandboxGone:
            await self._store.as_service().close_sandbox(sandbox_id, "vanished")
            return False
        except BaseException:  # whatever went wrong, a sandbox that was woken for nothing must not stay awake
            await asyncio.shield(self._lay_down(sandbox_id))
            raise
        return True

    async def _record(self, sandbox: AsyncSandbox, run: Row) -> None:
        service = self._store.as_service()
        current = await service.record_sandbox(UUID(run["id"]), sandbox.sandbox_id, self._settings.e2b_template)
        if current["status"] != "launching":
            raise SandboxUnavailable("the run ended before it was launched")

    async def _fail(self, run_id: UUID, error: Row) -> None:
        """Ends the run, trying again while Supabase is away; what is left after that is the sweep's.

        A start that E2B reported as failed may have happened all the same. Then the run is lost: its sandbox is killed
        or laid down, and its runner is told so by the log.
        """
        service = self._store.as_service()
        for attempt in range(FAIL_TRIES):
            try:
                if (await service.fail_launch(run_id, error))["ended_at"] is None:
                    await service.lose_run(run_id, error)
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

    async def _lay_down(self, sandbox_id: str) -> None:
        try:
            await self._sandboxes.rest(sandbox_id, self._settings.idle_sandbox_seconds)
        except SandboxUnavailable as error:
            log.warning("sandbox_left_awake", sandbox_id=sandbox_id, error=str(error))


def grant(run: Row) -> RunGrant:
    """What the run's token stands for."""
    return RunGrant(UUID(run["id"]), UUID(run["session_id"]), run["epoch"])


def lifetime(settings: Settings, run: Row) -> int:
    """How long a run's token and its sandbox last, in seconds."""
    return int(run["limit_seconds"]) + settings.sandbox_margin_seconds


async def end(settings: Settings, store: Store, sandboxes: Sandboxes, grant: RunGrant) -> Row:
    """The runner's last call. The sandbox of a finished plan is killed; that of a conversation waits to be paused.

    Leaves a living run alone. Raises NotFound, StoreUnavailable, SandboxUnavailable.
    """
    service = store.as_service()
    run = await service.run(grant.run_id)
    if run["ended_at"] is None or run["sandbox_id"] is None:
        return run
    session = await service.session(grant.session_id) if run["kind"] == CLAUDE else None
    if session is not None and session["status"] != "terminated":
        await lay_down(settings, service, sandboxes, run)
    else:
        await sandboxes.kill(run["sandbox_id"])
        await service.close_sandbox(run["sandbox_id"], run["status"])
    return run


async def lay_down(settings: Settings, service: ServiceStore, sandboxes: Sandboxes, run: Row) -> None:
    """Leaves the sandbox some time for the next message, after which E2B pauses it.

    The next run may have been admitted meanwhile, in the same sandbox: then its time is given back. One that is
    admitted later than we look takes its time itself.
    """
    if await service.live_run(UUID(run["session_id"])) is not None:
        return
    await sandboxes.rest(run["sandbox_id"], settings.idle_sandbox_seconds)
    following = await service.live_run(UUID(run["session_id"]))
    if following is not None:
        await sandboxes.rest(run["sandbox_id"], lifetime(settings, following))


def as_run_error(error: BaseException) -> Row:
    """What the run's row says of a failed launch: a word and a sentence, never a trace."""
    if isinstance(error, ApiError):
        return {"type": error.type, "message": error.message}
    return {"type": "launch_failed", "message": "the launch failed"}

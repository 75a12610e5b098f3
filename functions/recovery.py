"""A conversation's live run is rung; found dead, it is brought back to life, or declared lost and followed by another.

A runner that dies leaves its spool, its child's output and often its child: the next epoch goes on from there, in the
same folder. A sandbox that is gone takes the run with it; what waits in the log then gets a run of its own.
"""

import asyncio
from uuid import UUID

import structlog

from functions import egress, job
from functions.errors import SandboxGone, SandboxUnavailable, StoreUnavailable
from functions.identity import Caller, RunGrant, RunTokens
from functions.launch import CLAUDE, Launcher, lifetime
from functions.sandboxes import Pulse, Sandboxes
from functions.settings import Settings
from functions.store import Row, Store
from functions.timing import Timings

# What a ring and a restart may take together; a message is in the log before, so that nothing is lost by giving up.
RING_SECONDS = 60
GONE = {
    "type": "sandbox_gone",
    "message": "the sandbox is gone, and the run with it",
    "retry_status": {"type": "exhausted"},
}

log = structlog.get_logger(__name__)


class Recovery:
    """Rings runs. One per process; holds no state of a run."""

    def __init__(
        self, settings: Settings, store: Store, sandboxes: Sandboxes, tokens: RunTokens, launcher: Launcher
    ) -> None:
        self._settings = settings
        self._store = store
        self._sandboxes = sandboxes
        self._tokens = tokens
        self._launcher = launcher

    async def ring(self, run: Row, session: Row, caller: Caller, timings: Timings) -> None:
        """Tells the runner that there is news; makes sure that somebody hears it.

        A runner that cannot be reached just now learns of it with its next heartbeat. Raises StoreUnavailable and
        SandboxUnavailable only when a run that follows a lost one could not be launched.
        """
        if run["sandbox_id"] is None:
            return  # it is being launched, and reads the log when it begins
        with structlog.contextvars.bound_contextvars(run_id=run["id"], session_id=run["session_id"]):
            if await self._is_heard(run, session, timings):
                return
            await self._follow(session, caller, timings)

    async def cancel(self, caller: Caller, run_id: UUID, request_hash: str, idempotency_key: str | None) -> Row:
        """Asks a run to stop, and rings; it learns of it with its next heartbeat all the same.

        Raises NotFound, Conflict, StoreUnavailable.
        """
        run = await self._store.as_user(caller.token).request_cancel(run_id, request_hash, idempotency_key)
        if run["sandbox_id"] is None or run["ended_at"] is not None:
            return run
        if run["kind"] == CLAUDE:
            facts = await self._store.as_service().launch_facts(run_id)
            await self._is_heard(facts["run"], facts["session"], Timings())
        else:
            try:
                await self._sandboxes.ring(run["sandbox_id"], run["id"])
            except SandboxGone:
                await self._lose(run)
            except SandboxUnavailable as error:
                log.warning("not_rung", error=str(error))
        return run

    async def _is_heard(self, run: Row, session: Row, timings: Timings) -> bool:
        """False when the run has ended: by itself meanwhile, or lost here."""
        try:
            async with asyncio.timeout(RING_SECONDS):
                try:
                    return await self._rung(run, session, timings)
                except SandboxGone:
                    await self._lose(run)
                    return False
        except (SandboxUnavailable, StoreUnavailable, TimeoutError) as error:
            log.warning("not_rung", error=f"{type(error).__name__}: {error}")
            return True

    async def _rung(self, run: Row, session: Row, timings: Timings) -> bool:
        with timings.step("ring"):
            pulse = await self._sandboxes.ring(run["sandbox_id"], run["id"])
        if pulse is Pulse.ALIVE:
            return True
        with timings.step("restart"):
            return await self._restart(run, session)

    async def _restart(self, run: Row, session: Row) -> bool:
        """A new runner under the next epoch. False when there was nothing left to restart."""
        service = self._store.as_service()
        epoch = await service.next_epoch(UUID(run["id"]), run["epoch"])
        if epoch is None:
            return False
        log.info("restarting", epoch=epoch)
        secrets = await service.session_secrets(UUID(session["id"])) if session["resources"] else {}
        grant = RunGrant(UUID(run["id"]), UUID(run["session_id"]), epoch)
        token = self._tokens.mint(grant, lifetime(self._settings, run))
        network = egress.of_conversation(self._settings, token, session, secrets)
        sandbox = await self._sandboxes.wake(run["sandbox_id"], run, network)
        before = await self._sandboxes.job(sandbox, run["id"])
        await self._sandboxes.start(sandbox, job.again(self._settings, before, epoch, token))
        return True

    async def _lose(self, run: Row) -> None:
        service = self._store.as_service()
        await service.lose_run(UUID(run["id"]), GONE)
        await service.close_sandbox(run["sandbox_id"], "vanished")
        log.warning("run_lost", sandbox_id=run["sandbox_id"])

    async def _follow(self, session: Row, caller: Caller, timings: Timings) -> None:
        """A run for the messages that the ended one has not taken, if there are any."""
        limit_seconds = self._settings.conversation_limit_seconds
        with timings.step("admit"):
            answer = await self._store.as_user(caller.token).admit_waiting(UUID(session["id"]), limit_seconds)
        if answer["admitted"]:
            await self._launcher.converse(answer["run"], answer["session"], timings)

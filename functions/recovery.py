"""A live run is asked for a sign of life; found dead, it is brought back, or declared lost.

A runner that dies leaves its spool, its child's output and often its child: the next epoch goes on from there, in the
same folder. A sandbox that is gone takes the run with it; what waits in a conversation's log then gets another run.
A message to a conversation, a cancellation and the sweep all come here.
"""

import asyncio
from enum import Enum
from uuid import UUID

import structlog

from functions import egress, job
from functions.egress import Egress
from functions.errors import SandboxGone, SandboxUnavailable, StoreUnavailable
from functions.identity import Caller, RunGrant, RunTokens
from functions.launch import CLAUDE, RESEARCH, Launcher, lifetime
from functions.rest import Row
from functions.sandboxes import Pulse, Sandboxes
from functions.settings import Settings
from functions.store import Store
from functions.timing import Timings

# What a ring and a restart may take together; a message is in the log before, so that nothing is lost by giving up.
RING_SECONDS = 60
GONE: Row = {
    "type": "sandbox_gone",
    "message": "the sandbox is gone, and the run with it",
    "retry_status": {"type": "exhausted"},
}
DIED: Row = {
    "type": "runner_died",
    "message": "the runner died, and could not be brought back",
    "retry_status": {"type": "exhausted"},
}

log = structlog.get_logger(__name__)


class Fate(Enum):
    """What became of a run that was asked for a sign of life. The last three have ended."""

    HEARD = "heard"
    UNBORN = "unborn"  # its runner has not begun
    RESTARTED = "restarted"
    GONE = "sandbox_gone"
    DIED = "runner_died"
    OVER = "over"  # it had ended by itself, or somebody else brings it back


LIVE = (Fate.HEARD, Fate.UNBORN, Fate.RESTARTED)


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
        if run["sandbox_id"] is not None and run["ended_at"] is None:
            facts = await self._store.as_service().launch_facts(run_id)
            await self._is_heard(facts["run"], facts["session"], Timings())
        return run

    async def examine(self, run: Row, session: Row, timings: Timings) -> Fate:
        """Asks the sandbox after its runner, and starts another where that is dead; at most a minute.

        `run` has its sandbox's id, and its input's `egress`. Raises SandboxUnavailable, StoreUnavailable: then nothing
        is known, and nothing has ended.
        """
        try:
            async with asyncio.timeout(RING_SECONDS):
                with timings.step("ring"):
                    pulse = await self._sandboxes.ring(run["sandbox_id"], run["id"])
                if pulse is Pulse.DEAD:
                    with timings.step("restart"):
                        return await self._restart(run, session)
        except SandboxGone:
            await self.lose(run, GONE)
            await self._store.as_service().close_sandbox(run["sandbox_id"], "vanished")
            return Fate.GONE
        except TimeoutError as error:
            raise SandboxUnavailable("the sandbox did not answer in time", status=503) from error
        return Fate.UNBORN if pulse is Pulse.UNBORN else Fate.HEARD

    async def lose(self, run: Row, error: Row) -> None:
        """Ends a run that nobody drives any more. Raises StoreUnavailable."""
        await self._store.as_service().lose_run(UUID(run["id"]), error)
        log.warning("run_lost", run_id=run["id"], sandbox_id=run["sandbox_id"], reason=error["type"])

    async def _is_heard(self, run: Row, session: Row, timings: Timings) -> bool:
        """False when the run has ended: by itself meanwhile, or lost here."""
        try:
            return await self.examine(run, session, timings) in LIVE
        except (SandboxUnavailable, StoreUnavailable) as error:
            log.warning("not_rung", error=f"{type(error).__name__}: {error}")
            return True

    async def _restart(self, run: Row, session: Row) -> Fate:
        """A new runner under the next epoch, which is taken once the sandbox is ready: a failure before costs none."""
        epoch = run["epoch"] + 1
        grant = RunGrant(UUID(run["id"]), UUID(run["session_id"]), epoch)
        token = self._tokens.mint(grant, lifetime(self._settings, run))
        sandbox = await self._sandboxes.wake(run["sandbox_id"], run, await self._network(run, session, token))
        before = await self._sandboxes.job(sandbox, run["id"])
        taken = await self._store.as_service().restart_run(grant.run_id, run["epoch"])
        if taken["is_spent"]:
            await self.lose(run, DIED)
            return Fate.DIED
        if taken["epoch"] != epoch:
            return Fate.OVER
        log.info("restarting", run_id=run["id"], epoch=epoch)
        await self._sandboxes.start(sandbox, job.again(self._settings, before, epoch, token))
        return Fate.RESTARTED

    async def _network(self, run: Row, session: Row, token: str) -> Egress:
        if run["kind"] == RESEARCH:
            return egress.of_research(self._settings, token, run["input"])
        if run["kind"] != CLAUDE:
            return egress.of_plan(self._settings, token, run["input"].get("egress", ()))
        secrets: Row = {}
        if session["resources"]:
            secrets = await self._store.as_service().session_secrets(UUID(session["id"]))
        return egress.of_conversation(self._settings, token, session, secrets)

    async def _follow(self, session: Row, caller: Caller, timings: Timings) -> None:
        """A run for the messages that the ended one has not taken, if there are any."""
        limit_seconds = self._settings.conversation_limit_seconds
        with timings.step("admit"):
            answer = await self._store.as_user(caller.token).admit_waiting(UUID(session["id"]), limit_seconds)
        if answer["admitted"]:
            await self._launcher.converse(answer["run"], answer["session"], timings)

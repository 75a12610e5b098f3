"""The sweep: ends what a crash left behind. The only thing that works outside the path of a run.

It may run twice at once, and beside living runners: a run is claimed in the database before it is looked at, every end
is written by compare-and-set, and E2B is asked before a run is called lost. What fails is left for the next sweep.
`python -m functions.sweep` does one pass and prints a line of JSON for each thing that it did.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from uuid import UUID

import structlog
from e2b import SandboxInfo, SandboxState

from functions.errors import SandboxUnavailable
from functions.launch import end, grant, lifetime
from functions.logs import configure
from functions.recovery import DIED, Fate
from functions.rest import Row
from functions.sandboxes import RUN, SESSION
from functions.settings import Settings
from functions.store import ServiceStore
from functions.timing import Timings
from functions.wiring import Services, opened

# So many runs or sandboxes are looked at side by side, and so many runs are claimed at a time.
ABREAST = 8
BATCH = 100
LAUNCH_LOST: Row = {"type": "launch_lost", "message": "the launch was cut off before anything ran"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Deed:
    """One thing that a sweep did, or `skipped` because something failed; and what it was about."""

    did: str
    run_id: str | None = None
    session_id: str | None = None
    sandbox_id: str | None = None
    reason: str | None = None

    def line(self) -> str:
        """As JSON, without what it is not about."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})


async def sweep(services: Services) -> list[Deed]:
    """One pass over runs, messages, sandboxes, money and what has expired. Whatever fails in it is skipped."""
    sweeping = Sweep(services)
    steps: tuple[Callable[[], Awaitable[None]], ...] = (
        sweeping.runs,
        sweeping.waiting,
        sweeping.left,
        sweeping.seen,
        sweeping.settled,
        sweeping.expired,
    )
    for step in steps:
        await sweeping.guarded(step(), Deed("skipped", reason=step.__name__))
    return sweeping.deeds


async def look(services: Services, sandbox_id: str) -> list[Deed]:
    """The same for the live run in one sandbox, whether it has fallen silent or not."""
    sweeping = Sweep(services)
    await sweeping.guarded(sweeping.runs(sandbox_id), Deed("skipped", sandbox_id=sandbox_id))
    await sweeping.guarded(sweeping.waiting(), Deed("skipped", reason="waiting"))
    return sweeping.deeds


class Sweep:
    """One pass, and what it has done so far."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._store = services.store
        self._sandboxes = services.sandboxes
        self._launcher = services.launcher
        self._recovery = services.recovery
        self.deeds: list[Deed] = []

    @property
    def _service(self) -> ServiceStore:
        return self._store.as_service()

    async def runs(self, of_sandbox: str | None = None) -> None:
        """Live runs that are silent or overdue. Each is this sweep's until all are looked at."""
        claimed: set[str] = set()
        try:
            while batch := await self._service.claim_stale_runs(BATCH, of_sandbox):
                # A claim lapses, and while E2B is silent one look takes long: the same run again is the next sweep's.
                fresh = [facts for facts in batch if facts["run"]["id"] not in claimed]
                if not fresh:
                    return
                claimed |= {facts["run"]["id"] for facts in fresh}
                await self._each((self._run(facts), about(facts["run"])) for facts in fresh)
        finally:
            if claimed:
                await self._service.release_runs(sorted(claimed))

    async def waiting(self) -> None:
        """Messages whose run went down with its sandbox get another, where there is still a model to answer them."""
        if self._settings.anthropic_api_key is not None:
            found = await self._service.waiting_sessions()
            await self._each((self._follow(id), Deed("skipped", session_id=id)) for id in found)

    async def left(self) -> None:
        """Sandboxes of plans that have ended, and of sessions that have, are killed."""
        found = await self._service.left_sandboxes()
        await self._each((self._kill_left(row), Deed("skipped", sandbox_id=row["sandbox_id"])) for row in found)

    async def seen(self) -> None:
        """What E2B has of ours is compared with what the database knows: strays are killed, the idle are paused."""
        async for page in self._sandboxes.ours():
            seen = {info.sandbox_id: info for info in page if is_marked(info)}
            rows = [
                {"sandbox_id": id, "run_id": info.metadata[RUN], "session_id": info.metadata[SESSION]}
                for id, info in seen.items()
            ]
            judged = await self._service.judge_sandboxes(rows, self._settings.idle_sandbox_seconds)
            acts = ((self._act(row, seen[row["sandbox_id"]]), row["sandbox_id"]) for row in judged)
            await self._each((act, Deed("skipped", sandbox_id=id)) for act, id in acts)

    async def settled(self) -> None:
        """Money that a crash left reserved, and sandboxes that nobody has paid for yet."""
        for kind, count in (await self._service.settle()).items():
            if count:
                self._note(Deed("settled", reason=f"{count} {kind}"))

    async def expired(self) -> None:
        """Idempotency keys, deliveries and previews that have had their time."""
        for kind, count in (await self._service.delete_expired()).items():
            if count:
                self._note(Deed("deleted", reason=f"{count} {kind}"))

    async def guarded(self, work: Awaitable[None], otherwise: Deed) -> None:
        """Whatever goes wrong with one thing, the others get their turn; the next sweep tries it again."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 the edge of one thing: a defect in it must not keep the others
            told = {name: value for name, value in asdict(otherwise).items() if value is not None and name != "did"}
            log.warning("not_swept", error=f"{type(error).__name__}: {error}", **told)
            self.deeds.append(otherwise)

    async def _each(self, works: Iterable[tuple[Awaitable[None], Deed]]) -> None:
        places = asyncio.Semaphore(ABREAST)

        async def one(work: Awaitable[None], otherwise: Deed) -> None:
            async with places:
                await self.guarded(work, otherwise)

        await asyncio.gather(*(one(work, otherwise) for work, otherwise in works))

    async def _run(self, facts: Row) -> None:
        run = facts["run"]
        with structlog.contextvars.bound_contextvars(run_id=run["id"], session_id=run["session_id"]):
            if facts["is_overdue"]:
                await self._end_overdue(run)
            elif run["sandbox_id"] is not None:
                await self._examine(facts)
            elif facts["is_launch_lost"]:
                await self._fail(run)

    async def _examine(self, facts: Row) -> None:
        run = facts["run"]
        fate = await self._recovery.examine(run, facts["session"], Timings())
        if fate is Fate.UNBORN:
            await self._bury(facts)
        elif fate is Fate.RESTARTED:
            self._note(about(run, "restarted"))
        elif fate in (Fate.GONE, Fate.DIED):
            self._note(about(run, "lost", fate.value))
        elif fate is Fate.HEARD:
            log.info("runner_silent")

    async def _bury(self, facts: Row) -> None:
        """A sandbox in which there is no sign of the run: it was never started, or everything of it was deleted."""
        run = facts["run"]
        if run["status"] != "launching":
            await self._recovery.lose(run, DIED)
            self._note(about(run, "lost", DIED["type"]))
        elif facts["is_launch_lost"]:
            await self._fail(run)
            if facts["has_own_sandbox"]:
                await self._kill(run["sandbox_id"], "launch_failed")

    async def _fail(self, run: Row) -> None:
        """Gives the request's key back: sent again, it is admitted anew."""
        ended = await self._service.fail_launch(UUID(run["id"]), LAUNCH_LOST)
        if ended["status"] == "failed":
            self._note(about(run, "failed", LAUNCH_LOST["type"]))

    async def _end_overdue(self, run: Row) -> None:
        """Once the end is written, the ring tells the runner of it, so that it ends its commands itself."""
        ended = await self._service.end_overdue(UUID(run["id"]))
        if ended["status"] != "timed_out":
            return
        self._note(about(run, "timed_out"))
        if run["sandbox_id"] is not None:
            with suppress(SandboxUnavailable):
                await self._sandboxes.ring(run["sandbox_id"], run["id"])
            await end(self._settings, self._store, self._sandboxes, grant(run))

    async def _follow(self, session_id: str) -> None:
        limit_seconds = self._settings.conversation_limit_seconds
        answer = await self._service.admit_waiting_for(UUID(session_id), limit_seconds)
        if answer["admitted"]:
            self._note(about(answer["run"], "followed"))
            await self._launcher.converse(answer["run"], answer["session"], Timings())

    async def _kill_left(self, row: Row) -> None:
        await self._kill(row["sandbox_id"], row["reason"])

    async def _act(self, row: Row, info: SandboxInfo) -> None:
        if row["verdict"] == "stray":
            await self._kill(info.sandbox_id, "stray")
        elif info.state == SandboxState.RUNNING:
            await self._pause(row)

    async def _kill(self, sandbox_id: str, reason: str) -> None:
        was_there = await self._sandboxes.kill(sandbox_id)
        await self._service.close_sandbox(sandbox_id, reason)
        if was_there:  # otherwise it ended between being listed and now
            self._note(Deed("killed", sandbox_id=sandbox_id, reason=reason))

    async def _pause(self, row: Row) -> None:
        """E2B should have done it. A turn that was admitted meanwhile gets its sandbox back."""
        await self._sandboxes.pause(row["sandbox_id"])
        self._note(Deed("paused", session_id=row["session_id"], sandbox_id=row["sandbox_id"]))
        following = await self._service.live_run(UUID(row["session_id"]))
        if following is not None:
            await self._sandboxes.resume(row["sandbox_id"], lifetime(self._settings, following))

    def _note(self, deed: Deed) -> None:
        self.deeds.append(deed)
        log.info("swept", **{name: value for name, value in asdict(deed).items() if value is not None})


def about(run: Row, did: str = "skipped", reason: str | None = None) -> Deed:
    """A deed about a run."""
    return Deed(did, run["id"], run["session_id"], run["sandbox_id"], reason)


def is_marked(info: SandboxInfo) -> bool:
    """Whether its metadata names a run and a session, as a launch writes them; anything else is not ours to touch."""
    try:
        return bool(UUID(info.metadata[RUN]) and UUID(info.metadata[SESSION]))
    except (KeyError, ValueError):
        return False


async def once(settings: Settings) -> list[Deed]:
    """One sweep with services of its own."""
    async with opened(settings) as services:
        return await sweep(services)


async def repeatedly(settings: Settings) -> None:
    """One sweep after the other, SWEEP_SECONDS apart, until it is cancelled: where there is no schedule of Modal's."""
    async with opened(settings) as services:
        while True:
            await asyncio.sleep(settings.sweep_seconds)
            await sweep(services)


@asynccontextmanager
async def in_background(settings: Settings) -> AsyncIterator[None]:
    """Sweeps while inside, unless SWEEP_SECONDS is 0."""
    task = asyncio.create_task(repeatedly(settings)) if settings.sweep_seconds else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def main() -> None:
    """One sweep for an operator: what it did on stdout, the log on stderr. Raises MissingSetting."""
    settings = Settings.read()
    configure(settings.log_level, sys.stderr)
    for deed in asyncio.run(once(settings)):
        sys.stdout.write(deed.line() + "\n")


if __name__ == "__main__":
    main()

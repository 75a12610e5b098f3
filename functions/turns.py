"""Conversations: what people do with one, each as a single call of SQL and then what has to follow in the sandbox."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from functions.errors import ModelNotConfigured, SandboxUnavailable, StoreUnavailable, Unavailable
from functions.events import Posted
from functions.identity import Caller
from functions.launch import Launcher
from functions.recovery import Recovery
from functions.rest import Row
from functions.sandboxes import Sandboxes
from functions.settings import Settings
from functions.store import Store
from functions.timing import Timings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NewSession:
    """A session that a client asked for, its agent and environment resolved.

    `secrets` are kept apart from what anyone may read: `{"repositories": {url: token}}`.
    """

    agent: Row
    environment_id: str
    environment: Row
    title: str | None
    metadata: Row
    resources: list[Row]
    secrets: Row
    budget_microusd: int | None
    posted: Posted
    request_hash: str
    idempotency_key: str | None

    def as_arguments(self, limit_seconds: int) -> Row:
        """The arguments of `create_session_v1`."""
        return {
            "agent": self.agent,
            "environment_id": self.environment_id,
            "environment": self.environment,
            "title": self.title,
            "metadata": self.metadata,
            "resources": self.resources,
            "secrets": self.secrets,
            "budget_microusd": self.budget_microusd,
            "events": self.posted.events,
            "attachments": self.posted.attachments,
            "limit_seconds": limit_seconds,
            "request_hash": self.request_hash,
            "idempotency_key": self.idempotency_key,
        }


@dataclass(frozen=True)
class Message:
    """Events for a session, and what becomes of a user.message while a turn is on: queue, interrupt or reject."""

    session_id: UUID
    posted: Posted
    on_busy: str
    request_hash: str
    idempotency_key: str | None

    def as_arguments(self, limit_seconds: int) -> Row:
        """The arguments of `send_events_v1`."""
        return {
            "session_id": str(self.session_id),
            "events": self.posted.events,
            "attachments": self.posted.attachments,
            "on_busy": self.on_busy,
            "limit_seconds": limit_seconds,
            "request_hash": self.request_hash,
            "idempotency_key": self.idempotency_key,
        }


class Turns:
    """What people do with conversations. One per process; holds no state of a session."""

    def __init__(
        self, settings: Settings, store: Store, sandboxes: Sandboxes, launcher: Launcher, recovery: Recovery
    ) -> None:
        self._settings = settings
        self._store = store
        self._sandboxes = sandboxes
        self._launcher = launcher
        self._recovery = recovery

    async def create(self, order: NewSession, caller: Caller, timings: Timings) -> Row:
        """A session; with events its first run is admitted with it, and launched. Answers as `create_session_v1`.

        Raises NotFound, Conflict, InvalidRequest, TooManySandboxes, RateLimited, StoreUnavailable, SandboxUnavailable,
        and ModelNotConfigured before anything is written. A launch that fails ends the run as `failed`; session and
        message stay.
        """
        self._require_model(order.posted)
        arguments = order.as_arguments(self._settings.conversation_limit_seconds)
        with timings.step("admit"):
            answer = await self._store.as_user(caller.token).create_session(arguments)
        if answer["admitted"]:
            with written(order.idempotency_key):
                await self._launcher.converse(answer["run"], answer["session"], timings)
        return answer

    async def send(self, message: Message, caller: Caller, timings: Timings) -> Row:
        """The events in the log; a run that they start is launched, one that is on is told. As `send_events_v1`.

        Raises NotFound, Conflict, InvalidRequest, TooManySandboxes, RateLimited, StoreUnavailable, SandboxUnavailable,
        and ModelNotConfigured before anything is written. What is in the log stays there when the launch fails: the
        next run takes it.
        """
        self._require_model(message.posted)
        arguments = message.as_arguments(self._settings.conversation_limit_seconds)
        with timings.step("admit"):
            answer = await self._store.as_user(caller.token).send_events(arguments)
        with written(message.idempotency_key):
            if answer["admitted"]:
                await self._launcher.converse(answer["run"], answer["session"], timings)
            elif answer["run"] is not None and answer["run"]["ended_at"] is None:
                # A repeat too: the first request may not have got so far.
                await self._recovery.ring(answer["run"], answer["session"], caller, timings)
        return answer

    async def archive(self, caller: Caller, session_id: UUID, request_hash: str, idempotency_key: str | None) -> Row:
        """The session, ended for good, its sandboxes killed. Raises NotFound, Conflict, StoreUnavailable."""
        answer = await self._store.as_user(caller.token).archive_session(session_id, request_hash, idempotency_key)
        await self._kill(answer.get("sandbox_ids", ()), "archived")
        return answer

    async def delete(self, caller: Caller, session_id: UUID, request_hash: str, idempotency_key: str | None) -> None:
        """The session and all that belongs to it is gone. Raises NotFound, Conflict, StoreUnavailable."""
        answer = await self._store.as_user(caller.token).delete_session(session_id, request_hash, idempotency_key)
        await self._kill(answer.get("sandbox_ids", ()), "deleted")

    async def _kill(self, sandbox_ids: list[str] | tuple[str, ...], reason: str) -> None:
        """What does not end now is the sweep's."""
        for sandbox_id in sandbox_ids:
            try:
                await self._sandboxes.kill(sandbox_id)
                await self._store.as_service().close_sandbox(sandbox_id, reason)
            except (SandboxUnavailable, StoreUnavailable) as error:
                log.warning("sandbox_left_behind", sandbox_id=sandbox_id, error=str(error))

    def _require_model(self, posted: Posted) -> None:
        """An interrupt or an answer needs no new run; a message may."""
        speaks = any(event["type"] == "user.message" for event in posted.events)
        if speaks and self._settings.anthropic_api_key is None:
            raise ModelNotConfigured("this deployment has no ANTHROPIC_API_KEY")


@contextmanager
def written(idempotency_key: str | None) -> Iterator[None]:
    """What fails in here fails after the log was written: without a key the same request must not come by itself."""
    try:
        yield
    except Unavailable as error:
        error.is_done_in_part = idempotency_key is None
        raise

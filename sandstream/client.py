"""The client: submit work over HTTPS, watch it over Supabase."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import Any, Literal, Self, overload
from uuid import UUID

import httpx

from sandstream import conversation
from sandstream.access import SupabaseAccess, Tokens
from sandstream.conversation import Block, Content, OnBusy
from sandstream.endpoints import Endpoints
from sandstream.events import Event, Preview
from sandstream.keys import Keys, WatchToken, is_key
from sandstream.live import Heard, with_previews
from sandstream.log import http_client
from sandstream.research import Research
from sandstream.signin import Anonymous, Password, SignedIn
from sandstream.usage import AccountUsage
from sandstream.watch import WatchSettings, watch
from sandstream.wire import Command, Config, Page, Run, Session, timings

REQUEST_SECONDS = 60.0

Credentials = str | Callable[[], Awaitable[str]] | Password | Anonymous


class Sandstream:
    """A deployment, as one caller. An async context manager.

    `credentials` is an API key or a Supabase access token, an async function that gives the current one, or who is to
    sign in.
    Every method raises RefusedError (see errors.py for its kinds) when the answer is no, and UnavailableError when
    there was none after several attempts. `timeout` is for one attempt, in seconds.
    """

    def __init__(self, url: str, credentials: Credentials, *, timeout: float = REQUEST_SECONDS) -> None:
        self._credentials = credentials
        self._config: Config | None = None
        self._signed_in: SignedIn | None = None
        self._endpoints = Endpoints(url, Tokens(self.token), timeout=timeout)
        self.keys = Keys(self._endpoints)
        self.research = Research(self._endpoints)
        # Made by the first watch: a client's TLS context costs tens of milliseconds.
        self._supabase: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._signed_in is not None:
            await self._signed_in.close()
        if self._supabase is not None:
            await self._supabase.aclose()
        await self._endpoints.close()

    async def config(self) -> Config:
        """Where the deployment's Supabase is."""
        if self._config is None:
            self._config = Config.model_validate_json((await self._endpoints.open("/v1/config")).content)
        return self._config

    async def token(self) -> str:
        """The caller's current access token or API key; signs in when that is still to be done."""
        if isinstance(self._credentials, str):
            return self._credentials
        if not isinstance(self._credentials, Password | Anonymous):
            return await self._credentials()
        if self._signed_in is None:
            config = await self.config()
            self._signed_in = self._signed_in or SignedIn(config, self._credentials)
        return await self._signed_in.token()

    async def submit(
        self,
        commands: Sequence[Command | str],
        *,
        session_id: UUID | str | None = None,
        title: str | None = None,
        metadata: Mapping[str, str] | None = None,
        egress: Sequence[str] | None = None,
        timeout: int | None = None,
        budget_cents: int | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a plan of commands, in a new session or in an idle one. `timeout` is the whole run's, in seconds.

        However often the request must be repeated, one run comes of it. A run that reaches its budget is stopped.
        Raises ConflictError for a busy session and for an idempotency key that was used for something else,
        BudgetExceededError when the month has less left than the run may cost.
        """
        plan = [Command(command=command) if isinstance(command, str) else command for command in commands]
        body = {
            "commands": [command.model_dump(exclude_none=True) for command in plan],
            "session_id": str(session_id) if session_id else None,
            "title": title,
            "metadata": dict(metadata) if metadata is not None else None,
            "egress": list(egress) if egress is not None else None,
            "timeout": timeout,
            "budget": conversation.budget(budget_cents) if budget_cents is not None else None,
        }
        given = {name: value for name, value in body.items() if value is not None}
        answer = await self._endpoints.call("POST", "/v1/runs", body=given, key=idempotency_key or _new_key())
        return Run.model_validate({**answer.json(), "timings_ms": timings(answer.headers.get("Server-Timing", ""))})

    async def run(self, run_id: UUID | str) -> Run:
        """The run as it stands. Raises NotFoundError."""
        answer = await self._endpoints.call("GET", f"/v1/runs/{run_id}")
        return Run.model_validate_json(answer.content)

    async def cancel(self, run_id: UUID | str, *, idempotency_key: str | None = None) -> Run:
        """Ask a run to stop; it has stopped when its log says so. Raises NotFoundError, ConflictError once it ended."""
        key = idempotency_key or _new_key()
        answer = await self._endpoints.call("POST", f"/v1/runs/{run_id}/cancel", key=key)
        return Run.model_validate_json(answer.content)

    async def sessions(self, limit: int = 20, after: str | None = None) -> Page[Session]:
        """The caller's sessions, newest first; `after` is the page before's `next_cursor`."""
        params = {"limit": limit} | ({"after": after} if after else {})
        answer = await self._endpoints.call("GET", "/v1/sessions", params=params)
        return Page[Session].model_validate_json(answer.content)

    async def session(self, session_id: UUID | str) -> Session:
        """One session. Raises NotFoundError."""
        answer = await self._endpoints.call("GET", f"/v1/sessions/{session_id}")
        return Session.model_validate_json(answer.content)

    async def create_session(
        self,
        message: Content | None = None,
        *,
        agent: str | Block = "default",
        environment: str = "default",
        title: str | None = None,
        metadata: Mapping[str, str] | None = None,
        resources: Sequence[Block] | None = None,
        budget_cents: int | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """A conversation with an agent; with a first message its turn starts at once.

        `agent` and `environment` are ids; `agent` may also pin a version or override fields, as the Managed Agents API
        has it. However often the request must be repeated, one session comes of it. Raises NotFoundError for an agent
        or an environment that is not there.
        """
        body = conversation.new_session(
            agent=agent, environment=environment, first=message, title=title, metadata=metadata, resources=resources,
            budget_cents=budget_cents,
        )  # fmt: skip
        answer = await self._endpoints.call("POST", "/v1/sessions", body=body, key=idempotency_key or _new_key())
        return Session.model_validate_json(answer.content)

    async def send(
        self,
        session_id: UUID | str,
        message: Content,
        *,
        on_busy: OnBusy = "queue",
        idempotency_key: str | None = None,
    ) -> Event:
        """Say something; the event that it became. Its answer is what `watch` yields after that event's `seq`.

        Raises ConflictError for a session that has ended, and with `on_busy="reject"` for one that works.
        """
        said = conversation.message(message)
        return await self._say(session_id, said, idempotency_key, on_busy=on_busy)

    async def allow(self, session_id: UUID | str, tool_use_id: str, *, idempotency_key: str | None = None) -> Event:
        """Let a tool that asked do what it wants. `tool_use_id` is the id of the event that asks.

        Raises InvalidRequestError when there is no such event, ConflictError when it has its answer or nobody waits.
        """
        return await self._say(session_id, conversation.confirmation(tool_use_id, allow=True), idempotency_key)

    async def deny(
        self,
        session_id: UUID | str,
        tool_use_id: str,
        reason: str | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Event:
        """Refuse what a tool asked for; Claude is told the reason and goes on. Raises as `allow`."""
        refusal = conversation.confirmation(tool_use_id, allow=False, reason=reason)
        return await self._say(session_id, refusal, idempotency_key)

    async def answer(
        self,
        session_id: UUID | str,
        custom_tool_use_id: str,
        content: Content,
        *,
        is_error: bool = False,
        idempotency_key: str | None = None,
    ) -> Event:
        """What a custom tool, which the caller runs, came to. Raises as `allow`."""
        result = conversation.tool_result(custom_tool_use_id, content, is_error=is_error)
        return await self._say(session_id, result, idempotency_key)

    async def interrupt(self, session_id: UUID | str, *, idempotency_key: str | None = None) -> Event:
        """Stop the turn; it has stopped when the log says that the session is idle. Without a turn nothing happens."""
        return await self._say(session_id, conversation.interrupt(), idempotency_key)

    async def archive(self, session_id: UUID | str, *, idempotency_key: str | None = None) -> Session:
        """End a conversation: its sandbox goes, its log stays. Raises NotFoundError, ConflictError while it works."""
        path = f"/v1/sessions/{session_id}/archive"
        answer = await self._endpoints.call("POST", path, key=idempotency_key or _new_key())
        return Session.model_validate_json(answer.content)

    async def events(self, session_id: UUID | str, after: int = 0, limit: int = 500) -> Page[Event]:
        """A page of the log: the first events past `after`. Raises NotFoundError."""
        params = {"after": after, "limit": limit}
        answer = await self._endpoints.call("GET", f"/v1/sessions/{session_id}/events", params=params)
        page = Page[dict[str, Any]].model_validate_json(answer.content)
        return Page[Event](
            data=[Event.from_flat(event) for event in page.data], has_more=page.has_more, next_cursor=page.next_cursor
        )

    @overload
    def watch(
        self,
        session_id: UUID | str,
        after: int = 0,
        *,
        follow: bool = False,
        previews: Literal[False] = False,
        deadline: float | None = None,
        settings: WatchSettings | None = None,
    ) -> AsyncGenerator[Event, None]: ...

    @overload
    def watch(
        self,
        session_id: UUID | str,
        after: int = 0,
        *,
        follow: bool = False,
        previews: Literal[True],
        deadline: float | None = None,
        settings: WatchSettings | None = None,
    ) -> AsyncGenerator[Event | Preview, None]: ...

    async def watch(
        self, session_id: UUID | str, after: int = 0, *, previews: bool = False, **how: Any
    ) -> AsyncGenerator[Any, None]:
        """Each event past `after` exactly once, in order, live, until the session is at rest; see `watch.watch`.

        With `previews` also the pieces of what Claude is writing, as they come: each is a Preview, and the event with
        the same id follows, whole.
        """
        config = await self.config()
        self._supabase = self._supabase or http_client(config.supabase_url)
        token = await self._token_for(session_id)
        access = SupabaseAccess(config.supabase_url, config.publishable_key, token, self._supabase)

        def watching(heard: Heard | None = None) -> AsyncGenerator[Event, None]:
            return watch(access, session_id, after, on_previews=heard, **how)

        async with contextlib.aclosing(with_previews(watching) if previews else watching()) as found:
            async for each in found:
                yield each

    async def result(self, run: Run | UUID | str) -> Run:
        """The run once it has ended, however it ended. Raises NotFoundError."""
        current = await self.run(run.id if isinstance(run, Run) else run)
        while not current.has_ended:
            # The length of the log is read before the status: an end that comes in between is seen in one of them.
            seq = (await self.session(current.session_id)).last_seq
            current = await self.run(current.id)
            if not current.has_ended:
                await self._until_end(current, seq)
        return current

    async def usage(self, first: date | None = None, last: date | None = None) -> AccountUsage:
        """What each day from the first to the last cost, in UTC; this month's unless others are named."""
        days = {"from": first, "to": last}
        params = {name: day.isoformat() for name, day in days.items() if day is not None}
        answer = await self._endpoints.call("GET", "/v1/usage", params=params)
        return AccountUsage.model_validate_json(answer.content)

    async def watch_token(self, session_id: UUID | str, expires_in: int = 3600) -> WatchToken:
        """A token that can follow this one session and do nothing else, for so many seconds. Raises NotFoundError."""
        body = {"expires_in_seconds": expires_in}
        answer = await self._endpoints.call("POST", f"/v1/sessions/{session_id}/token", body=body)
        return WatchToken.model_validate_json(answer.content)

    async def _token_for(self, session_id: UUID | str) -> Callable[[], Awaitable[str]]:
        """What Supabase is shown: the caller's own token; for a key, which Supabase does not know, watch tokens."""
        if not is_key(await self.token()):
            return self.token

        async def another() -> str:
            return (await self.watch_token(session_id)).token

        return another

    async def _say(self, session_id: UUID | str, event: dict[str, Any], key: str | None, **more: str) -> Event:
        """Sends one user event; an interrupt that the endpoint puts before it is not what is answered here."""
        path, body = f"/v1/sessions/{session_id}/events", {"events": [event], **more}
        answer = await self._endpoints.call("POST", path, body=body, key=key or _new_key())
        return Event.from_flat(Page[dict[str, Any]].model_validate_json(answer.content).data[-1])

    async def _until_end(self, run: Run, after: int) -> None:
        async with contextlib.aclosing(self.watch(run.session_id, after)) as events:
            async for event in events:
                if event.run_id == run.id and event.type in _ENDS:
                    return


_ENDS = frozenset(f"run.{status}" for status in ("succeeded", "failed", "cancelled", "timed_out", "lost"))


def _new_key() -> str:
    return uuid.uuid4().hex

"""Supabase, by name: each method is one call of a SQL function or one read under the caller's RLS."""

import asyncio
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import httpx
from postgrest import AsyncPostgrestClient

from functions.errors import NotFound
from functions.pages import Filter
from functions.rest import Row, call, called, one, refusals, rows
from functions.settings import Settings

# `request_hash` and `idempotency_key` of a POST, as every SQL function takes them.
Claim = dict[str, str | None]

# All but `input`, which may have megabytes and is the runner's alone.
RUN_COLUMNS = (
    "id,session_id,kind,status,epoch,limit_seconds,result,error,sandbox_id,"
    "cancel_requested_at,created_at,started_at,ended_at"
)
# Agents and environments alike.
CONFIG_COLUMNS = "id,config,archived_at,created_at,updated_at"
# All but the embedding, which is for the database to compare.
TASK_COLUMNS = (
    "id,session_id,run_id,status,query,context,options,answer,similarity,source_task_id,source_age_seconds,error,"
    "created_at,completed_at"
)
# All but the hash, which nobody reads.
KEY_COLUMNS = "id,name,prefix,scopes,expires_at,last_used_at,revoked_at,created_at"


class Store:
    """The database as one role sees it. `as_user` sees a user's rows; `as_service` may call the service's functions."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http

    def as_user(self, token: str) -> "UserStore":
        """The caller's own view: their JWT goes through, so RLS decides."""
        return UserStore(self._client(self._settings.supabase_publishable_key, token))

    def as_service(self) -> "ServiceStore":
        """The control plane's view. For the few functions that no user may call."""
        key = self._settings.supabase_secret_key.get_secret_value()
        return ServiceStore(self._client(key, key))

    def _client(self, apikey: str, bearer: str) -> AsyncPostgrestClient:
        return AsyncPostgrestClient(
            f"{self._settings.supabase_url}/rest/v1",
            headers={"apikey": apikey, "Authorization": f"Bearer {bearer}"},
            http_client=self._http,
        )


class UserStore:
    """What a signed-in user may do. Every method raises StoreUnavailable when Supabase fails.

    What may admit a run raises TooManySandboxes and BudgetExceeded, what changes anything RateLimited.
    """

    def __init__(self, client: AsyncPostgrestClient) -> None:
        self._client = client

    async def admit_run(self, arguments: Row) -> Row:
        """`admit_run_v1`: `{"run", "replayed"}`. Raises NotFound, Conflict."""
        return await call(self._client, "admit_run_v1", arguments)

    async def admit_research(self, arguments: Row) -> Row:
        """`admit_research_v1`: `{"task", "run", "replayed", "joined", …}`. Raises NotFound, Conflict."""
        return await call(self._client, "admit_research_v1", arguments)

    async def similar_tasks(self, arguments: Row) -> list[Row]:
        """`search_similar_tasks`: the caller's answers to the nearest questions, the nearest first."""
        return await called(self._client, "search_similar_tasks", arguments)

    async def research_task(self, id: UUID) -> Row:
        """One task. Raises NotFound."""
        return await one(self._client, "research_tasks", TASK_COLUMNS, id)

    async def research_tasks(self, wanted: Filter) -> list[Row]:
        """The tasks that fit, one more than the page shows."""
        return await self._listed("research_tasks", TASK_COLUMNS, wanted)

    async def request_cancel(self, run_id: UUID, request_hash: str, idempotency_key: str | None) -> Row:
        """`request_cancel_v1`: the run. Raises NotFound, Conflict."""
        arguments = {"run_id": str(run_id), "request_hash": request_hash, "idempotency_key": idempotency_key}
        return await call(self._client, "request_cancel_v1", arguments)

    async def create_session(self, arguments: Row) -> Row:
        """`create_session_v1`: `{"session", "run", "events", "admitted", "replayed"}`. Raises NotFound, Conflict."""
        return await call(self._client, "create_session_v1", arguments)

    async def send_events(self, arguments: Row) -> Row:
        """`send_events_v1`: `{"session", "run", "events", "admitted", "replayed"}`. Raises NotFound, Conflict."""
        return await call(self._client, "send_events_v1", arguments)

    async def admit_waiting(self, session_id: UUID, limit_seconds: int) -> Row:
        """`admit_waiting_v1`: as `send_events`; a run for messages that no run has taken. Raises NotFound."""
        arguments = {"session_id": str(session_id), "limit_seconds": limit_seconds}
        return await call(self._client, "admit_waiting_v1", arguments)

    async def archive_session(self, session_id: UUID, request_hash: str, idempotency_key: str | None) -> Row:
        """`archive_session_v1`: the session, with `sandbox_ids`. Raises NotFound, Conflict."""
        arguments = {"session_id": str(session_id), "request_hash": request_hash, "idempotency_key": idempotency_key}
        return await call(self._client, "archive_session_v1", arguments)

    async def delete_session(self, session_id: UUID, request_hash: str, idempotency_key: str | None) -> Row:
        """`delete_session_v1`: `{"sandbox_ids"}`. Raises NotFound, Conflict."""
        arguments = {"session_id": str(session_id), "request_hash": request_hash, "idempotency_key": idempotency_key}
        return await call(self._client, "delete_session_v1", arguments)

    async def limits(self) -> Row:
        """`read_limits_v1`: what the caller may, and how many of their sandboxes are live."""
        return await call(self._client, "read_limits_v1", {})

    async def set_account_limits(self, arguments: Row) -> Row:
        """`set_account_limits_v1`: what holds for an owner from now on. Raises NotPermitted, NotFound."""
        return await call(self._client, "set_account_limits_v1", arguments)

    async def usage(self, from_day: date | None, to_day: date | None) -> Row:
        """`read_usage_v1`: what the caller's days and their month cost. Raises InvalidRequest."""
        days = {"from_day": from_day, "to_day": to_day}
        return await call(self._client, "read_usage_v1", {name: day and day.isoformat() for name, day in days.items()})

    async def run(self, run_id: UUID) -> Row:
        """One run. Raises NotFound."""
        return await one(self._client, "agent_runs", RUN_COLUMNS, run_id)

    async def session(self, session_id: UUID) -> Row:
        """One session. Raises NotFound."""
        return await one(self._client, "agent_sessions", "*", session_id)

    async def sessions(self, wanted: Filter) -> list[Row]:
        """The sessions that fit, one more than the page shows."""
        return await self._listed("agent_sessions", "*", wanted)

    async def update_session(self, session_id: UUID, changes: Row, claim: Claim) -> Row:
        """`update_session_v1`: the session. Raises NotFound, Conflict, InvalidRequest."""
        arguments = {"session_id": str(session_id), "changes": changes, **claim}
        return await call(self._client, "update_session_v1", arguments)

    async def agent(self, id: str, version: int | None = None) -> Row:
        """An agent at its latest version, or at the given one. Raises NotFound."""
        if version is None:
            return await one(self._client, "agents", CONFIG_COLUMNS + ",version", id)
        latest, versions = await asyncio.gather(self.agent(id), self.agent_versions(id, 1, version + 1))
        if not versions or versions[0]["version"] != version:
            raise NotFound("no such version of the agent")
        return {**latest, "version": version, "config": versions[0]["config"], "updated_at": versions[0]["created_at"]}

    async def agent_versions(self, id: str, limit: int, before: int | None) -> list[Row]:
        """The newest versions of an agent first; `before` is the last one seen."""
        query = self._client.from_("agent_versions").select("version,config,created_at").eq("agent_id", id)
        if before is not None:
            query = query.lt("version", before)
        with refusals():
            answer = await query.order("version", desc=True).limit(limit).execute()
        return rows(answer.data)

    async def agents(self, wanted: Filter) -> list[Row]:
        """The agents that fit, at their latest versions, one more than the page shows."""
        return await self._listed("agents", CONFIG_COLUMNS + ",version", wanted)

    async def create_agent(self, config: Row, claim: Claim) -> Row:
        """`create_agent_v1`: the agent. Raises Conflict."""
        return await call(self._client, "create_agent_v1", {"config": config, **claim})

    async def update_agent(self, id: str, config: Row, expected_version: int | None, claim: Claim) -> Row:
        """`update_agent_v1`: the agent. Raises NotFound, NotPermitted, Conflict."""
        arguments = {"agent_id": id, "config": config, "expected_version": expected_version, **claim}
        return await call(self._client, "update_agent_v1", arguments)

    async def archive_agent(self, id: str, claim: Claim) -> Row:
        """`archive_agent_v1`: the agent. Raises NotFound, NotPermitted, Conflict."""
        return await call(self._client, "archive_agent_v1", {"agent_id": id, **claim})

    async def environment(self, id: str) -> Row:
        """One environment. Raises NotFound."""
        return await one(self._client, "environments", CONFIG_COLUMNS, id)

    async def environments(self, wanted: Filter) -> list[Row]:
        """The environments that fit, one more than the page shows."""
        return await self._listed("environments", CONFIG_COLUMNS, wanted)

    async def create_environment(self, config: Row, claim: Claim) -> Row:
        """`create_environment_v1`: the environment. Raises Conflict."""
        return await call(self._client, "create_environment_v1", {"config": config, **claim})

    async def update_environment(self, id: str, config: Row, claim: Claim) -> Row:
        """`update_environment_v1`: the environment. Raises NotFound, NotPermitted, Conflict."""
        arguments = {"environment_id": id, "config": config, **claim}
        return await call(self._client, "update_environment_v1", arguments)

    async def archive_environment(self, id: str, claim: Claim) -> Row:
        """`archive_environment_v1`: the environment. Raises NotFound, NotPermitted, Conflict."""
        return await call(self._client, "archive_environment_v1", {"environment_id": id, **claim})

    async def delete_environment(self, id: str) -> Row:
        """`delete_environment_v1`: its id. Raises NotFound, NotPermitted."""
        return await call(self._client, "delete_environment_v1", {"environment_id": id})

    async def create_key(self, arguments: Row) -> Row:
        """`create_key_v1`: the key, without its secret. Raises NotPermitted, Conflict."""
        return await call(self._client, "create_key_v1", arguments)

    async def keys(self, wanted: Filter) -> list[Row]:
        """The caller's keys that fit, one more than the page shows."""
        return await self._listed("api_keys", KEY_COLUMNS, wanted)

    async def revoke_key(self, id: str) -> Row:
        """`revoke_key_v1`: the key. Raises NotFound, NotPermitted."""
        return await call(self._client, "revoke_key_v1", {"key_id": id})

    async def _listed(self, table: str, columns: str, wanted: Filter) -> list[Row]:
        query = self._client.from_(table).select(columns)
        for column, values in wanted.among:
            query = query.in_(column, values) if values else query
        for operator, moment in wanted.created.bounds:
            query = query.filter("created_at", operator, moment)
        if not wanted.include_archived:
            query = query.is_("archived_at", "null")
        if wanted.part.after is not None:
            query = query.or_(wanted.part.after.beyond(wanted.order))
        newest_first = wanted.order == "desc"
        ordered = query.order("created_at", desc=newest_first).order("id", desc=newest_first)
        with refusals():
            answer = await ordered.limit(wanted.part.limit + 1).execute()
        return rows(answer.data)

    async def events(self, session_id: UUID, after: int, limit: int) -> list[Row]:
        """The session's events with `seq > after`, in order; nothing for a session that is not the caller's."""
        return await self.chosen_events(session_id, limit, Choice(after=after))

    async def chosen_events(self, session_id: UUID, limit: int, choice: "Choice") -> list[Row]:
        """The first of the session's events that fit."""
        query = self._client.from_("agent_events").select("*").eq("session_id", str(session_id))
        query = query.gt("seq", choice.after)
        if choice.before is not None:
            query = query.lt("seq", choice.before)
        if choice.types:
            query = query.in_("type", list(choice.types))
        for operator, moment in choice.created_at:
            query = query.filter("created_at", operator, moment)
        with refusals():
            answer = await query.order("seq", desc=choice.newest_first).limit(limit).execute()
        return rows(answer.data)


@dataclass(frozen=True)
class Choice:
    """Which events of a log, by their seq, their type, and by PostgREST's operators their time."""

    after: int = 0
    before: int | None = None
    newest_first: bool = False
    types: tuple[str, ...] = ()
    created_at: tuple[tuple[str, str], ...] = ()


class ServiceStore:
    """What only the control plane may do. Every method raises StoreUnavailable when Supabase fails."""

    def __init__(self, client: AsyncPostgrestClient) -> None:
        self._client = client

    async def run(self, run_id: UUID) -> Row:
        """Any run. Raises NotFound."""
        return await one(self._client, "agent_runs", RUN_COLUMNS, run_id)

    async def session(self, session_id: UUID) -> Row | None:
        """Any session; None once it is deleted."""
        try:
            return await one(self._client, "agent_sessions", "*", session_id)
        except NotFound:
            return None

    async def live_run(self, session_id: UUID) -> Row | None:
        """The session's run that has not ended."""
        query = self._client.from_("agent_runs").select(RUN_COLUMNS).eq("session_id", str(session_id))
        with refusals():
            answer = await query.is_("ended_at", "null").limit(1).execute()
        return next(iter(rows(answer.data)), None)

    async def use_key(self, hash: str) -> Row:
        """`use_key_v1`: `{"id", "owner", "scopes", "expires_at"}`. Raises NotAuthenticated."""
        return await call(self._client, "use_key_v1", {"hash": hash})

    async def launch_facts(self, run_id: UUID) -> Row:
        """`launch_facts_v1`: `{"run", "session"}`. Raises NotFound."""
        return await call(self._client, "launch_facts_v1", {"run_id": str(run_id)})

    async def session_secrets(self, session_id: UUID) -> Row:
        """`session_secrets_v1`: what the session's resources need and no sandbox may hold."""
        return await call(self._client, "session_secrets_v1", {"session_id": str(session_id)})

    async def restart_run(self, run_id: UUID, expected: int) -> Row:
        """`restart_run_v1`: `{"epoch", "is_spent"}`; no epoch for one that is not to be restarted. Raises NotFound."""
        return await call(self._client, "restart_run_v1", {"run_id": str(run_id), "expected": expected})

    async def end_overdue(self, run_id: UUID) -> Row:
        """`end_overdue_v1`: the run, `timed_out` unless it had ended or has time left. Raises NotFound."""
        return await call(self._client, "end_overdue_v1", {"run_id": str(run_id)})

    async def claim_stale_runs(self, at_most: int, of_sandbox: str | None = None) -> list[Row]:
        """`claim_stale_runs_v1`: runs for this sweep alone, with what looking at them takes."""
        return await called(self._client, "claim_stale_runs_v1", {"at_most": at_most, "of_sandbox": of_sandbox})

    async def release_runs(self, run_ids: list[str]) -> None:
        """`release_runs_v1`: the next sweep may have them."""
        arguments: Row = {"run_ids": run_ids}
        with refusals():
            await self._client.rpc("release_runs_v1", arguments).execute()

    async def waiting_sessions(self) -> list[str]:
        """`waiting_sessions_v1`: conversations whose message went down with a sandbox."""
        return await called(self._client, "waiting_sessions_v1", {})

    async def admit_waiting_for(self, session_id: UUID, limit_seconds: int) -> Row:
        """`admit_waiting_for_v1`: as `send_events`, for the session's owner. Raises NotFound."""
        arguments = {"session_id": str(session_id), "limit_seconds": limit_seconds}
        return await call(self._client, "admit_waiting_for_v1", arguments)

    async def left_sandboxes(self) -> list[Row]:
        """`left_sandboxes_v1`: sandboxes that are open although what they were for has ended."""
        return await called(self._client, "left_sandboxes_v1", {})

    async def judge_sandboxes(self, seen: list[Row], idle_seconds: int) -> list[Row]:
        """`judge_sandboxes_v1`: of sandboxes that E2B has, those that nobody owns, or that should be paused."""
        return await called(self._client, "judge_sandboxes_v1", {"seen": seen, "idle_seconds": idle_seconds})

    async def delete_expired(self) -> dict[str, int]:
        """`delete_expired_v1`: how many rows of each kind were deleted."""
        return await call(self._client, "delete_expired_v1", {})

    async def take_delivery(self, id: str) -> bool:
        """`take_delivery_v1`: whether this delivery of E2B's is new."""
        with refusals():
            answer = await self._client.rpc("take_delivery_v1", {"id": id}).execute()
        return answer.data is True

    async def lose_run(self, run_id: UUID, error: Row) -> Row:
        """`lose_run_v1`: the run, `lost` unless it had ended. Raises NotFound."""
        return await call(self._client, "lose_run_v1", {"run_id": str(run_id), "error": error})

    async def record_sandbox(self, run_id: UUID, sandbox_id: str, template: str) -> Row:
        """`record_sandbox_v1`: the run as it stands now. Raises NotFound."""
        arguments = {"run_id": str(run_id), "sandbox_id": sandbox_id, "template": template}
        return await call(self._client, "record_sandbox_v1", arguments)

    async def fail_launch(self, run_id: UUID, error: Row) -> Row:
        """`fail_launch_v1`: the run; unchanged when it has started or ended meanwhile. Raises NotFound."""
        return await call(self._client, "fail_launch_v1", {"run_id": str(run_id), "error": error})

    async def set_limits(self, limits: Row) -> None:
        """`set_limits_v1`: what holds for every owner without exceptions."""
        with refusals():
            await self._client.rpc("set_limits_v1", limits).execute()

    async def set_prices(self, prices: Row) -> None:
        """`set_prices_v1`: what tokens and sandboxes cost from now on."""
        arguments: Row = {"prices": prices}
        with refusals():
            await self._client.rpc("set_prices_v1", arguments).execute()

    async def settle(self) -> dict[str, int]:
        """`settle_v1`: how many reservations and sandboxes were left open, and are settled now."""
        return await call(self._client, "settle_v1", {})

    async def close_sandbox(self, sandbox_id: str, reason: str) -> None:
        """`close_sandbox_v1`: the first reason stays."""
        with refusals():
            await self._client.rpc("close_sandbox_v1", {"sandbox_id": sandbox_id, "reason": reason}).execute()

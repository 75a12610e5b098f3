"""`/v1/sessions`: made, listed, changed, archived, deleted."""

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from functions import repositories, snapshots
from functions.agents import AgentId
from functions.conversations import DeletedSession, Session, SessionRequest, SessionUpdate, as_session
from functions.errors import NotBuilt
from functions.events import posted
from functions.models import Page, claim, request_hash
from functions.pages import Created, Filter, Order, Part, created, part
from functions.requests import idempotency_key
from functions.timing import Timings
from functions.turns import NewSession
from functions.wiring import Served, SignedIn

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
Key = Annotated[str | None, Depends(idempotency_key)]
Status = Literal["rescheduling", "running", "idle", "terminated"]
UNBUILT_FILTERS = {"deployment_id", "memory_store_id"}


def wanted(
    request: Request,
    part: Annotated[Part, Depends(part)],
    created: Annotated[Created, Depends(created)],
    order: Order = "desc",
    include_archived: bool = False,
    agent_id: Annotated[AgentId | None, Query()] = None,
    agent_version: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    statuses: Annotated[list[Status], Query(alias="statuses[]")] = [],  # noqa: B006 FastAPI copies it
    statuses_too: Annotated[list[Status], Query(alias="statuses")] = [],  # noqa: B006 FastAPI copies it
) -> Filter:
    """Which sessions a request's parameters name; the official SDK writes lists as `statuses[]`. Raises NotBuilt."""
    for name in UNBUILT_FILTERS & request.query_params.keys():
        raise NotBuilt(f"the filter {name} is not built here")
    version = (str(agent_version),) if agent_version and agent_id else ()
    among = (
        ("agent_id", (agent_id,) if agent_id else ()),
        ("agent->>version", version),
        ("status", (*statuses, *statuses_too)),
    )
    return Filter(part, created, order, include_archived, among)


@router.post("")
async def create_session(
    body: SessionRequest, key: Key, caller: SignedIn, served: Served, response: Response
) -> Session:
    """A new session; with `initial_events` its first turn starts at once."""
    timings = Timings()
    order = await ordered(body, key, caller, served, timings)
    created = await served.turns.create(order, caller, timings)
    response.headers["Server-Timing"] = timings.header()
    return as_session(created["session"])


@router.get("")
async def list_sessions(caller: SignedIn, served: Served, wanted: Annotated[Filter, Depends(wanted)]) -> Page[Session]:
    """The caller's sessions, newest first unless `order` says otherwise."""
    rows = await served.store.as_user(caller.token).sessions(wanted)
    return wanted.part.page(rows, [as_session(row) for row in rows])


@router.get("/{session_id}")
async def get_session(session_id: UUID, caller: SignedIn, served: Served) -> Session:
    """The session as it stands."""
    return as_session(await served.store.as_user(caller.token).session(session_id))


@router.post("/{session_id}")
async def update_session(session_id: UUID, body: SessionUpdate, key: Key, caller: SignedIn, served: Served) -> Session:
    """The session with what the body names. Its agent's tools change between turns only."""
    store = served.store.as_user(caller.token)
    changes = body.changes()
    if body.agent is not None:
        session = await store.session(session_id)
        changes["agent"] = body.agent.applied(session["agent"], served.settings.egress_allow)
    asked = claim(f"POST /v1/sessions/{session_id}", body.model_dump(mode="json", exclude_unset=True), key)
    return as_session(await store.update_session(session_id, changes, asked))


@router.delete("/{session_id}")
async def delete_session(session_id: UUID, key: Key, caller: SignedIn, served: Served) -> DeletedSession:
    """Removes the session, its log and its sandbox. 409 while a turn runs."""
    await served.turns.delete(caller, session_id, request_hash(f"DELETE /v1/sessions/{session_id}", None), key)
    return DeletedSession(id=session_id)


@router.post("/{session_id}/archive")
async def archive_session(session_id: UUID, key: Key, caller: SignedIn, served: Served) -> Session:
    """Ends the session and its sandbox, and keeps its log. 409 while a turn runs."""
    asked = request_hash(f"POST /v1/sessions/{session_id}/archive", None)
    return as_session(await served.turns.archive(caller, session_id, asked, key))


async def ordered(
    body: SessionRequest, key: str | None, caller: SignedIn, served: Served, timings: Timings
) -> NewSession:
    """The request in the words of the use case, its agent and environment resolved."""
    store, opened = served.store.as_user(caller.token), served.settings.egress_allow
    resources = body.resources or ()
    kept, secrets = repositories.kept(resources, opened), repositories.secrets(resources)
    events = posted(body.initial_events or (), param="initial_events", only_messages=True)
    with timings.step("resolve"):
        agent, environment = await asyncio.gather(
            snapshots.of_agent(store, body.agent, opened), snapshots.of_environment(store, body.environment_id)
        )
    return NewSession(
        agent=agent,
        environment_id=body.environment_id,
        environment=environment,
        title=body.title,
        metadata=body.metadata or {},
        resources=kept,
        secrets=secrets,
        budget_microusd=body.budget.microusd if body.budget else None,
        posted=events,
        request_hash=request_hash("POST /v1/sessions", body.model_dump(mode="json")),
        idempotency_key=key,
    )

"""`/v1/agents`: named configurations, each change a new version."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from functions.agents import Agent, AgentId, AgentRequest, AgentUpdate, as_agent
from functions.errors import Conflict, InvalidRequest
from functions.models import Page, claim
from functions.pages import Created, Filter, Part, created, part
from functions.requests import idempotency_key
from functions.wiring import Served, SignedIn

UPDATE_TRIES = 3
router = APIRouter(prefix="/v1/agents", tags=["agents"])
Key = Annotated[str | None, Depends(idempotency_key)]
Id = Annotated[AgentId, Path()]
Version = Annotated[int | None, Query(ge=1, lt=2**31)]


@router.post("")
async def create_agent(body: AgentRequest, key: Key, caller: SignedIn, served: Served) -> Agent:
    """A new agent, at version 1."""
    config = body.config(served.settings.egress_allow)
    asked = claim("POST /v1/agents", body.model_dump(mode="json"), key)
    return as_agent(await served.store.as_user(caller.token).create_agent(config, asked))


@router.get("")
async def list_agents(
    caller: SignedIn,
    served: Served,
    part: Annotated[Part, Depends(part)],
    created: Annotated[Created, Depends(created)],
    include_archived: bool = False,
) -> Page[Agent]:
    """The caller's agents and the ready-made one, newest first."""
    rows = await served.store.as_user(caller.token).agents(Filter(part, created, include_archived=include_archived))
    return part.page(rows, [as_agent(row) for row in rows])


@router.get("/{agent_id}")
async def get_agent(agent_id: Id, caller: SignedIn, served: Served, version: Version = None) -> Agent:
    """The agent, at its latest version or at the given one."""
    return as_agent(await served.store.as_user(caller.token).agent(agent_id, version))


@router.post("/{agent_id}")
async def update_agent(agent_id: Id, body: AgentUpdate, key: Key, caller: SignedIn, served: Served) -> Agent:
    """A new version with what the body names, unless it changes nothing. Sessions keep the version they have."""
    store = served.store.as_user(caller.token)
    asked = claim(f"POST /v1/agents/{agent_id}", body.model_dump(mode="json", exclude_unset=True), key)
    for _ in range(UPDATE_TRIES):
        kept = await store.agent(agent_id)
        config = body.config(kept["config"], served.settings.egress_allow)
        try:
            return as_agent(await store.update_agent(agent_id, config, body.version or kept["version"], asked))
        except Conflict as conflict:
            # Somebody was quicker. Who named no version wants the change made to what there is now.
            if body.version is not None or conflict.type != "version_conflict":
                raise
    raise Conflict("others change this agent all the time", type="version_conflict")


@router.post("/{agent_id}/archive")
async def archive_agent(agent_id: Id, key: Key, caller: SignedIn, served: Served) -> Agent:
    """No session starts with it any more; those that have it go on."""
    asked = claim(f"POST /v1/agents/{agent_id}/archive", None, key)
    return as_agent(await served.store.as_user(caller.token).archive_agent(agent_id, asked))


@router.get("/{agent_id}/versions")
async def list_versions(
    agent_id: Id, caller: SignedIn, served: Served, part: Annotated[Part, Depends(part)]
) -> Page[Agent]:
    """All versions of an agent, newest first."""
    store = served.store.as_user(caller.token)
    agent = await store.agent(agent_id)
    found = await store.agent_versions(agent_id, part.limit + 1, before(part))
    born = agent["created_at"]
    versions = [as_agent({**agent, **row, "created_at": born, "updated_at": row["created_at"]}) for row in found]
    return part.page([{**row, "id": str(row["version"])} for row in found], versions)


def before(part: Part) -> int | None:
    """The version that the page before ended with. Raises InvalidRequest for another list's cursor."""
    if part.after is None:
        return None
    if not part.after.id.isdecimal() or int(part.after.id) >= 2**31:
        raise InvalidRequest("not a cursor of this list", param="page")
    return int(part.after.id)

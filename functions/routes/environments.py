"""`/v1/environments`: what the sandboxes of sessions may reach."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from functions.agents import AgentId
from functions.environments import (
    DeletedEnvironment,
    Environment,
    EnvironmentRequest,
    EnvironmentUpdate,
    as_environment,
)
from functions.models import Page, claim
from functions.pages import Filter, Part, part
from functions.requests import idempotency_key
from functions.wiring import Served, SignedIn

router = APIRouter(prefix="/v1/environments", tags=["environments"])
Key = Annotated[str | None, Depends(idempotency_key)]
Id = Annotated[AgentId, Path()]


@router.post("")
async def create_environment(body: EnvironmentRequest, key: Key, caller: SignedIn, served: Served) -> Environment:
    """A new environment; closed, but for what the body opens."""
    kept = body.kept(served.settings)
    asked = claim("POST /v1/environments", body.model_dump(mode="json"), key)
    return as_environment(await served.store.as_user(caller.token).create_environment(kept, asked))


@router.get("")
async def list_environments(
    caller: SignedIn, served: Served, part: Annotated[Part, Depends(part)], include_archived: bool = False
) -> Page[Environment]:
    """The caller's environments and the ready-made one, newest first."""
    wanted = Filter(part, include_archived=include_archived)
    rows = await served.store.as_user(caller.token).environments(wanted)
    return part.page(rows, [as_environment(row) for row in rows])


@router.get("/{environment_id}")
async def get_environment(environment_id: Id, caller: SignedIn, served: Served) -> Environment:
    """The environment as it stands."""
    return as_environment(await served.store.as_user(caller.token).environment(environment_id))


@router.post("/{environment_id}")
async def update_environment(
    environment_id: Id, body: EnvironmentUpdate, key: Key, caller: SignedIn, served: Served
) -> Environment:
    """The environment with what the body names. Sessions keep the environment as it was when they were made."""
    store = served.store.as_user(caller.token)
    row = await store.environment(environment_id)
    kept = body.over(row["config"], served.settings)
    asked = claim(f"POST /v1/environments/{environment_id}", body.model_dump(mode="json", exclude_unset=True), key)
    return as_environment(await store.update_environment(environment_id, kept, asked))


@router.delete("/{environment_id}")
async def delete_environment(environment_id: Id, caller: SignedIn, served: Served) -> DeletedEnvironment:
    """Removes the environment. Sessions that were made in it have their copy."""
    row = await served.store.as_user(caller.token).delete_environment(environment_id)
    return DeletedEnvironment.model_validate(row)


@router.post("/{environment_id}/archive")
async def archive_environment(environment_id: Id, key: Key, caller: SignedIn, served: Served) -> Environment:
    """No session starts in it any more; those that are in it go on."""
    asked = claim(f"POST /v1/environments/{environment_id}/archive", None, key)
    return as_environment(await served.store.as_user(caller.token).archive_environment(environment_id, asked))

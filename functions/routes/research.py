"""`/v1/research`: a question in words, its answer, and the way there."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from sse_starlette import EventSourceResponse

from functions.models import Page
from functions.pages import Created, Filter, Order, Part, created, part
from functions.requests import idempotency_key
from functions.research import AcceptedTask, CostedTask, RememberedTask, ResearchRequest, ResearchTask, as_told
from functions.routes.events import asked_place, previewed, stream_events
from functions.timing import Timings
from functions.wiring import Reader, Served, Speaker, Watcher

router = APIRouter(prefix="/v1/research", tags=["research"])
Key = Annotated[str | None, Depends(idempotency_key)]


@router.post("", status_code=202, responses={200: {"model": RememberedTask}})
async def ask(
    body: ResearchRequest, key: Key, caller: Speaker, served: Served, response: Response
) -> AcceptedTask | RememberedTask:
    """200 with the answer, where the same was asked before and that still holds; else 202, and the events follow."""
    timings = Timings()
    task = as_told(await served.research.ask(body, caller, key, timings))
    response.headers["Server-Timing"] = timings.header()
    if isinstance(task, RememberedTask):
        response.status_code = 200
    return task


@router.get("")
async def list_research(
    caller: Reader,
    served: Served,
    part: Annotated[Part, Depends(part)],
    created: Annotated[Created, Depends(created)],
    order: Order = "desc",
) -> Page[ResearchTask]:
    """The caller's questions, newest first unless `order` says otherwise."""
    wanted = Filter(part, created, order, include_archived=True)
    rows = await served.store.as_user(caller.token).research_tasks(wanted)
    return part.page(rows, [ResearchTask.model_validate(row) for row in rows])


@router.get("/{task_id}")
async def get_research(task_id: UUID, caller: Watcher, served: Served) -> CostedTask:
    """The task as it stands, and what it has cost."""
    store = served.store.as_user(caller.token)
    task = await store.research_task(task_id)
    session = await store.session(UUID(task["session_id"]))
    return CostedTask.model_validate({**task, "cost_microusd": session["cost_microusd"]})


@router.get("/{task_id}/stream", response_class=EventSourceResponse)
async def stream_research(
    task_id: UUID,
    caller: Watcher,
    served: Served,
    place: Annotated[int | None, Depends(asked_place)],
    kinds: Annotated[frozenset[str], Depends(previewed)],
) -> Response:
    """The events of the task's session, as `/v1/sessions/{id}/events/stream` streams them."""
    task = await served.store.as_user(caller.token).research_task(task_id)
    return await stream_events(UUID(task["session_id"]), caller, served, place, kinds)

"""`/v1/runs`: a plan of commands, no model."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from functions.errors import Conflict, InvalidRequest
from functions.launch import Order, end
from functions.models import AcceptedRun, Run, RunRequest, request_hash
from functions.requests import idempotency_key
from functions.timing import Timings
from functions.wiring import Reader, Runner, Served, Speaker

router = APIRouter(prefix="/v1/runs", tags=["runs"])
Key = Annotated[str | None, Depends(idempotency_key)]


@router.post("", status_code=202)
async def submit_run(body: RunRequest, key: Key, caller: Speaker, served: Served, response: Response) -> AcceptedRun:
    """Admits a plan, launches its runner in a sandbox and answers; the events follow by themselves."""
    longest = served.settings.max_limit_seconds
    if body.timeout is not None and body.timeout > longest:
        raise InvalidRequest(f"a run may last {longest} seconds here", param="timeout")
    order = Order(
        kind="commands",
        input=body.input(),
        limit_seconds=body.limit_seconds(served.settings.default_limit_seconds),
        is_cut=body.is_cut,
        egress=body.egress,
        request_hash=body.hash,
        idempotency_key=key,
        session_id=body.session_id,
        title=body.title,
        metadata=body.metadata,
        budget_microusd=body.budget.microusd if body.budget else None,
    )
    timings = Timings()
    run = await served.launcher.submit(order, caller, timings)
    response.headers["Server-Timing"] = timings.header()
    return AcceptedRun.model_validate({**run, "status": "launching"})


@router.get("/{run_id}")
async def get_run(run_id: UUID, caller: Reader, served: Served) -> Run:
    """The run as it stands."""
    return Run.model_validate(await served.store.as_user(caller.token).run(run_id))


@router.post("/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: UUID, key: Key, caller: Speaker, served: Served) -> Run:
    """Asks a live run to stop; its terminal event tells when it has."""
    asked = request_hash(f"POST /v1/runs/{run_id}/cancel", None)
    return Run.model_validate(await served.recovery.cancel(caller, run_id, asked, key))


@router.post("/{run_id}/ended")
async def run_ended(run_id: UUID, grant: Runner, served: Served, request: Request) -> Run:
    """The runner's last call, with its run token: a plan's sandbox is killed, a conversation's may rest."""
    idempotency_key(request)
    if grant.run_id != run_id:
        raise Conflict("the token is another run's", type="other_run")
    run = Run.model_validate(await end(served.settings, served.store, served.sandboxes, grant))
    if run.ended_at is None:
        raise Conflict("the run has not finished", type="run_not_finished")
    return run

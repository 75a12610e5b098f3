"""`/v1/hooks`: what the services behind us report by themselves."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Header, Request

from functions.errors import NotFound
from functions.hooks import Delivery
from functions.sweep import look
from functions.wiring import Served

router = APIRouter(prefix="/v1/hooks", tags=["hooks"])


@router.post("/e2b", status_code=202)
async def e2b_hook(
    request: Request, served: Served, later: BackgroundTasks, e2b_signature: Annotated[str | None, Header()] = None
) -> dict[str, str]:
    """E2B's lifecycle webhook: a sandbox that was killed or paused is looked at now, each delivery once.

    The look comes after the answer: E2B repeats what is not answered within seconds, and the sweep comes anyway.
    """
    secret = served.settings.e2b_webhook_secret
    if secret is None:
        raise NotFound("there is no such path")
    delivery = Delivery.read(await request.body(), e2b_signature, secret)
    if not delivery.is_telling or not await served.store.as_service().take_delivery(delivery.id):
        return {"status": "ignored"}
    later.add_task(look, served, delivery.sandbox_id)
    return {"status": "accepted"}

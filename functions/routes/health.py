"""`/healthz` and `/v1/config`: what anyone may ask."""

from fastapi import APIRouter

from functions.models import ClientConfig
from functions.wiring import Served

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. It asks nobody else, so that a restart is not caused by a neighbour."""
    return {"status": "ok"}


@router.get("/v1/config")
async def client_config(served: Served) -> ClientConfig:
    """Where a client subscribes: Supabase's URL and the publishable key."""
    settings = served.settings
    return ClientConfig(supabase_url=settings.supabase_url, publishable_key=settings.supabase_publishable_key)

"""`/v1/sessions`: what there is to watch, and the three ways to read a log."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from sse_starlette import EventSourceResponse

from functions.errors import InvalidRequest
from functions.models import Page, Session
from functions.wiring import Served, SignedIn
from sandstream.events import Event

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
# One less than Supabase gives at once, so that a page can tell whether there is another.
MAX_PAGE = 999
# Proxies cut a silent connection after a minute or less.
SSE_HEARTBEAT_SECONDS = 15
# A reader that takes nothing for so long has left, and keeps its place no longer.
SSE_SEND_SECONDS = 30


@router.get("")
async def list_sessions(
    caller: SignedIn,
    served: Served,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[Session]:
    """The caller's sessions, newest first."""
    rows = await served.store.as_user(caller.token).sessions(limit + 1, parse_cursor(after) if after else None)
    page = rows[:limit]
    has_more = len(rows) > limit
    return Page[Session].model_validate(
        {"data": page, "has_more": has_more, "next_cursor": session_cursor(page[-1]) if has_more else None}
    )


@router.get("/{session_id}")
async def get_session(session_id: UUID, caller: SignedIn, served: Served) -> Session:
    """The session as it stands."""
    return Session.model_validate(await served.store.as_user(caller.token).session(session_id))


@router.get("/{session_id}/events")
async def list_events(
    session_id: UUID,
    caller: SignedIn,
    served: Served,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 500,
) -> Page[Event]:
    """The events with `seq > after`, in order."""
    store = served.store.as_user(caller.token)
    rows = await store.events(session_id, after, limit + 1)
    if not rows:
        await store.session(session_id)
    page = rows[:limit]
    has_more = len(rows) > limit
    return Page[Event].model_validate(
        {"data": page, "has_more": has_more, "next_cursor": str(page[-1]["seq"]) if has_more else None}
    )


@router.get("/{session_id}/events/stream", response_class=EventSourceResponse)
async def stream_events(
    session_id: UUID,
    caller: SignedIn,
    served: Served,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63)] = None,
) -> Response:
    """Server-sent events from `after` or `Last-Event-ID` on: `id` is the seq, `data` the event.

    Ends after the terminal event. 204 when nothing is left to come, which tells an EventSource to stop reconnecting.
    """
    position = last_event_id if last_event_id is not None else after
    session = await served.store.as_user(caller.token).session(session_id)
    if session["status"] in ("idle", "terminated") and session["last_seq"] <= position:
        return Response(status_code=204)
    events = served.streams.follow(caller, session_id, position, session["last_seq"])
    return EventSourceResponse(
        events, ping=SSE_HEARTBEAT_SECONDS, send_timeout=SSE_SEND_SECONDS, headers={"Cache-Control": "no-store"}
    )


def session_cursor(row: dict[str, Any]) -> str:
    """Where the next page begins: opaque to clients."""
    return base64.urlsafe_b64encode(f"{row['created_at']} {row['id']}".encode()).decode()


def parse_cursor(cursor: str) -> tuple[str, str]:
    """(created_at, id). Raises InvalidRequest for what is not a cursor of ours."""
    try:
        created_at, id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().split(" ")
        return datetime.fromisoformat(created_at).isoformat(), str(UUID(id))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("not a cursor", param="after") from error

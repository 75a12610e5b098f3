"""`/v1/sessions/{id}/events`: what is said to a session, and two ways to read its log."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import Field
from sse_starlette import EventSourceResponse

from functions.events import SendRequest, as_wire, posted
from functions.models import Page, request_hash
from functions.pages import MAX_PAGE, Created, Order, created
from functions.requests import idempotency_key
from functions.store import Choice
from functions.timing import Timings
from functions.turns import Message
from functions.wiring import Served, SignedIn
from sandstream.events import Event

router = APIRouter(prefix="/v1/sessions/{session_id}/events", tags=["events"])
Key = Annotated[str | None, Depends(idempotency_key)]
Preview = Literal["agent.message", "agent.thinking"]
Kind = Annotated[str, Field(max_length=64)]
MANAGED_AGENTS = "managed-agents-"
# Proxies cut a silent connection after a minute or less.
SSE_HEARTBEAT_SECONDS = 15
# A reader that takes nothing for so long has left, and keeps its place no longer.
SSE_SEND_SECONDS = 30


def chosen(
    created: Annotated[Created, Depends(created)],
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    page: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    order: Order = "asc",
    types: Annotated[list[Kind], Query(max_length=100)] = [],  # noqa: B006 FastAPI copies it
    types_in_brackets: Annotated[list[Kind], Query(alias="types[]", max_length=100)] = [],  # noqa: B006 FastAPI copies it
) -> Choice:
    """Which events are asked for: by our `after`, and by all that the official SDK has.

    `page` is the seq of the last event of the page before.
    """
    newest_first = order == "desc"
    return Choice(
        after=after if newest_first else max(after, page or 0),
        before=page if newest_first else None,
        newest_first=newest_first,
        types=(*types, *types_in_brackets),
        created_at=created.bounds,
    )


def asked_place(
    after: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63)] = None,
    beta: bool = False,
    anthropic_beta: Annotated[str, Header()] = "",
) -> int | None:
    """The seq after which a stream begins; None for its end.

    An EventSource that reconnects sends both: its URL as it was, and the last id that it saw. The official SDK tells by
    a header that it speaks Managed Agents, older ones by `beta=true`, and expects what happens from now on.
    """
    if last_event_id is not None:
        return last_event_id
    from_now_on = beta or MANAGED_AGENTS in anthropic_beta
    return after if after is not None or from_now_on else 0


def previewed(
    event_deltas: Annotated[list[Preview], Query()] = [],  # noqa: B006 FastAPI copies it
    in_brackets: Annotated[list[Preview], Query(alias="event_deltas[]")] = [],  # noqa: B006 FastAPI copies it
) -> frozenset[str]:
    """The types of events of which previews are asked for."""
    return frozenset((*event_deltas, *in_brackets))


@router.post("")
async def send_events(
    session_id: UUID, body: SendRequest, key: Key, caller: SignedIn, served: Served, response: Response
) -> Page[dict[str, Any]]:
    """Puts what a person says into the log; a message starts a turn, or joins the one that is on, as `on_busy` says."""
    message = Message(
        session_id=session_id,
        posted=posted(body.events),
        on_busy=body.on_busy,
        request_hash=request_hash(f"POST /v1/sessions/{session_id}/events", body.model_dump(mode="json")),
        idempotency_key=key,
    )
    timings = Timings()
    answer = await served.turns.send(message, caller, timings)
    response.headers["Server-Timing"] = timings.header()
    return page_of(answer["events"])


@router.get("")
async def list_events(
    session_id: UUID,
    caller: SignedIn,
    served: Served,
    choice: Annotated[Choice, Depends(chosen)],
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 500,
) -> Page[dict[str, Any]]:
    """The events that fit, in order of their seq."""
    store = served.store.as_user(caller.token)
    rows = await store.chosen_events(session_id, limit + 1, choice)
    if not rows:
        await store.session(session_id)
    return page_of(rows[:limit], has_more=len(rows) > limit)


@router.get("/stream", response_class=EventSourceResponse)
async def stream_events(
    session_id: UUID,
    caller: SignedIn,
    served: Served,
    place: Annotated[int | None, Depends(asked_place)],
    kinds: Annotated[frozenset[str], Depends(previewed)],
) -> Response:
    """Server-sent events from `after` or `Last-Event-ID` on: `id` is the seq, `data` the event.

    Ends after the terminal event: of the run for a session of plans, of the session for a conversation. 204 when
    nothing is left to come, which tells an EventSource to stop reconnecting. Without a place it begins with the first
    event, for the official SDK with the next. `event_deltas[]` adds previews, which have no id.
    """
    session = await served.store.as_user(caller.token).session(session_id)
    position = session["last_seq"] if place is None else place
    at_rest = ("terminated",) if session["agent_id"] is not None else ("idle", "terminated")
    if session["status"] in at_rest and session["last_seq"] <= position:
        return Response(status_code=204)
    events = served.streams.follow(caller, session, position, kinds)
    return EventSourceResponse(
        events, ping=SSE_HEARTBEAT_SECONDS, send_timeout=SSE_SEND_SECONDS, headers={"Cache-Control": "no-store"}
    )


def page_of(rows: list[dict[str, Any]], *, has_more: bool = False) -> Page[dict[str, Any]]:
    """Rows of the log as a page."""
    events = [as_wire(Event.model_validate(row)) for row in rows]
    return Page[dict[str, Any]](data=events, has_more=has_more, next_cursor=str(rows[-1]["seq"]) if has_more else None)

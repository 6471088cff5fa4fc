from typing import Annotated, Any

from fastapi import Header, Query, Response
from fastapi.responses import StreamingResponse

from app.api.event_readers import IssuerOfTicket, ReaderOfStream, ReaderSeat
from app.api.problems import responses
from app.api.routing import api_router
from app.dependencies import ClientDeparture, EventTicketServiceDep, ReaderOfEvents, StateDep
from app.events.backlog import LogPosition
from app.events.filters import EventFilter
from app.events.types import EVENT_TYPES
from app.schemas.event import EventPage, EventPageQuery, EventQuery, EventStreamQuery, EventTicketResponse
from app.schemas.fields import Seq
from app.services.event_ticket_service import TICKET_LIFETIME
from app.websockets.readers import read_page, stream_messages, until_following

router = api_router("/events", tag="events")

# The second one tells nginx, which would otherwise keep events back until it has a buffer full.
UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, live", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.get("", responses=responses(401, 403, 410, 429), response_model=EventPage)
async def list_events(
    query: Annotated[EventPageQuery, Query()], signed_in: ReaderOfEvents, state: StateDep, departure: ClientDeparture
) -> Response:
    """The events that follow a position. With `wait`, an empty page waits for the next event."""
    wanted = EventFilter.of(query.types, query.task_id)
    page = await read_page(
        state.sockets,
        signed_in,
        after=_position(query.after, query),
        limit=query.limit,
        wanted=wanted,
        wait=query.wait,
        departure=departure,
    )
    return Response(page.to_json(), media_type="application/json")


@router.post("/ticket", responses=responses(401, 403))
async def create_event_ticket(
    signed_in: IssuerOfTicket, state: StateDep, tickets: EventTicketServiceDep, response: Response
) -> EventTicketResponse:
    """Return a ticket that opens one stream, for a browser's `EventSource`, which can't send a token in a header."""
    response.headers["Cache-Control"] = "no-store"
    lifetime = int(TICKET_LIFETIME.total_seconds())
    async with state.limits.tickets.of(str(signed_in.actor.id)):
        ticket = await tickets.issue(signed_in)
    return EventTicketResponse(ticket=ticket, expires_in=lifetime)


@router.get("/stream", responses=STREAM | responses(401, 403, 429), response_class=StreamingResponse)
async def stream_events(
    query: Annotated[EventStreamQuery, Query()],
    signed_in: ReaderOfStream,
    state: StateDep,
    _seat: ReaderSeat,
    last_event_id: Annotated[Seq | None, Header()] = None,
) -> StreamingResponse:
    """The events as they happen, as server-sent events. `Last-Event-ID` says where to go on."""
    after = _position(query.after if last_event_id is None else last_event_id, query)
    wanted = EventFilter.of(query.types, query.task_id)
    # While an error can still be answered: the stream begins after its headers are out.
    await until_following(state.sockets)
    messages = stream_messages(state.sockets, signed_in, after=after, wanted=wanted)
    return StreamingResponse(messages, media_type="text/event-stream", headers=UNBUFFERED)


def _position(seq: int | None, query: EventQuery) -> LogPosition | None:
    return None if seq is None else LogPosition(seq, query.epoch)


@router.get("/types", responses=responses(401, 403))
async def list_event_types(_reader: ReaderOfEvents) -> dict[str, dict[str, Any]]:
    """Every type of event with the JSON schema of its `data`."""
    return {event.type: event.model_json_schema() for event in EVENT_TYPES}

"""The readers of events, and what they sign in by: a token, or a ticket for a stream."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from app.api.limiting import caller_of, keep_pace
from app.core.auth import SignedIn
from app.core.logging import bind_user
from app.dependencies import BearerToken, StateDep, TransactionDep, bearer, get_token
from app.models import Scope
from app.services.event_ticket_service import EventTicketService
from app.websockets.readers import until_following

# The start of a stream costs a user's pace as much as ten requests: itself, and so many more.
STREAM_COST = 9


async def get_issuer_of_ticket(request: Request, state: StateDep, token: BearerToken) -> SignedIn:
    await keep_pace(request.scope, state, requests=STREAM_COST)
    async with state.limits.look_ups.of(caller_of(request.scope)):
        # Looked up, as for a socket: it's for hours, and the end of a sign-in a moment before would not be told.
        signed_in = await state.sign_ins.look_up(token)
    signed_in.require(Scope.EVENTS_READ)
    return signed_in


async def get_reader_of_stream(
    request: Request, state: StateDep, transaction: TransactionDep, token: Annotated[str | None, Depends(bearer)]
) -> SignedIn:
    ticket = request.query_params.get("ticket")
    if token is not None or ticket is None:
        return await get_issuer_of_ticket(request, state, await get_token(token))
    # Waited for while nothing is held. After a restart many come back before this process follows the log.
    await until_following(state.sockets)
    # The transaction ends where the stream begins, so a request that is refused for anything leaves the ticket unused.
    transaction.allow_changes()
    signed_in = await EventTicketService(transaction).redeem(ticket)
    signed_in.require(Scope.EVENTS_READ)
    bind_user(signed_in.actor.id)
    return signed_in


IssuerOfTicket = Annotated[SignedIn, Depends(get_issuer_of_ticket)]
ReaderOfStream = Annotated[SignedIn, Depends(get_reader_of_stream)]


async def get_reader_seat(signed_in: ReaderOfStream, state: StateDep) -> AsyncIterator[None]:
    with state.sockets.seats.taken_by(signed_in.actor.id):
        yield


# Of the default scope on purpose: a stream keeps its seat until it has ended, however that happens.
ReaderSeat = Annotated[None, Depends(get_reader_seat)]

"""Waiting for something to be had: trying now, and again with each event that may have changed the outcome."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.core.auth import SignedIn
from app.events.filters import EventFilter
from app.models import EventType
from app.websockets.connection import Connection, ReaderKind
from app.websockets.conversation import SocketServer
from app.websockets.readers import Departure, connected, ended_by, seconds_left, until_following

T = TypeVar("T")


async def try_until_had(
    server: SocketServer,
    signed_in: SignedIn,
    attempt: Callable[[], Awaitable[T | None]],
    *,
    news: frozenset[EventType],
    seconds: float,
    departure: Departure,
) -> T | None:
    """What the attempt gives, tried at once and with each of these events; None when the time is over.

    Nothing is held between two attempts. It ends when the client has gone or its sign-in has ended.
    """
    if not seconds:
        return await attempt()
    await until_following(server)
    actor = signed_in.actor
    listener = Connection(actor, sign_in_id=signed_in.id, wanted=EventFilter(news), kind=ReaderKind.PAGE)
    deadline = asyncio.get_running_loop().time() + min(seconds, seconds_left(signed_in))
    # Listening before looking, so that what comes in between is not missed.
    with server.seats.taken_by(actor.id), connected(server, listener), ended_by(departure, listener):
        # Nobody takes anything any more who has gone, or is signed in no longer.
        while not listener.is_ended:
            if (had := await attempt()) is not None:
                return had
            try:
                async with asyncio.timeout_at(deadline):
                    await listener.next_message()
            except TimeoutError:
                return None
            # One attempt is as good as many: whatever they were about, it sees the present.
            listener.skip_queued()
    return None

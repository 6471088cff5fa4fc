"""Reading events without a socket: pages that wait for the next event, and streams of server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from app.core.auth import SignedIn
from app.core.errors import ServiceUnavailable
from app.events.backlog import BacklogPage, LogPosition, PageSize
from app.events.filters import EventFilter
from app.websockets.connection import CloseCode, Connection, ReaderKind
from app.websockets.conversation import SocketServer
from app.websockets.message import RESYNC, Message
from app.websockets.parcel import PRESENCE
from app.websockets.replay import FOLLOWING_SECONDS, catch_up

# Returns when the client has gone.
Departure = Callable[[], Awaitable[None]]

KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = ": still here\n\n"


async def read_page(
    server: SocketServer,
    signed_in: SignedIn,
    *,
    after: LogPosition | None,
    limit: int,
    wanted: EventFilter,
    wait: float,
    departure: Departure,
) -> BacklogPage:
    """The page that follows `after`. If it's empty, wait for the next event, but no longer than `wait` seconds.

    No connection to the database is held meanwhile. It ends when the client has gone.

    Raises:
        Resync: the log can't be read on from there.
        TooManyReaders: this user has as many readers as one may have. A page that doesn't wait is none.
    """
    await until_following(server)
    position = after or LogPosition(server.connections.position)

    async def read(after: LogPosition) -> BacklogPage:
        return await server.read_backlog(signed_in.actor, after, wanted, PageSize(limit))

    if not wait:
        page = await read(position)
    else:
        # Presence is in no page, so it's nothing to wake up for.
        news = replace(wanted, types=wanted.types - PRESENCE)
        listener = Connection(signed_in.actor, sign_in_id=signed_in.id, wanted=news, kind=ReaderKind.PAGE)
        # Listening before looking, so that what comes in between is not missed.
        with server.seats.taken_by(signed_in.actor.id), connected(server, listener), ended_by(departure, listener):
            page = await _wait_for_page(listener, read, position, seconds=min(wait, seconds_left(signed_in)))
    server.connections.count_page(len(page.events))
    return page


async def _wait_for_page(
    listener: Connection,
    read: Callable[[LogPosition], Awaitable[BacklogPage]],
    position: LogPosition,
    *,
    seconds: float,
) -> BacklogPage:
    deadline = asyncio.get_running_loop().time() + seconds
    page = await read(position)
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while not page.events and await listener.next_message():
                page = await read(LogPosition(page.reached, page.epoch))
    return page


async def stream_messages(
    server: SocketServer, signed_in: SignedIn, *, after: LogPosition | None, wanted: EventFilter
) -> AsyncIterator[str]:
    """Server-sent events from `after` (or from now) on, until the token runs out or the account ends.

    Wait for `until_following` before, and have one of the user's seats.
    """
    connection = Connection(
        signed_in.actor, sign_in_id=signed_in.id, wanted=wanted, is_live=after is None, kind=ReaderKind.STREAM
    )
    with connected(server, connection):
        catching_up = asyncio.create_task(_catch_up(connection, server, after))
        try:
            while (left := seconds_left(signed_in)) > 0:
                try:
                    async with asyncio.timeout(min(KEEP_ALIVE_SECONDS, left)):
                        message = await connection.next_message()
                except TimeoutError:
                    yield KEEP_ALIVE
                    continue
                if message is None:
                    return
                yield _as_server_sent_event(message)
                connection.events_given += message.is_event
        finally:
            catching_up.cancel()


async def until_following(server: SocketServer) -> None:
    """Raises 503 when this process doesn't get to following the log."""
    try:
        async with asyncio.timeout(FOLLOWING_SECONDS):
            await server.connections.until_following()
    except TimeoutError:
        raise ServiceUnavailable("This server does not follow the log of events yet; try again shortly.") from None


async def _catch_up(connection: Connection, server: SocketServer, after: LogPosition | None) -> None:
    if after is not None:
        await catch_up(connection, server.connections, server.read_backlog, since=after)


def _as_server_sent_event(message: Message) -> str:
    place = "" if message.seq is None else f"id: {message.seq}\n"
    if message is RESYNC:
        # An empty id has a browser forget its position, or it would come back with the same one for ever.
        place = "id\n"
    return f"{place}data: {message.text}\n\n"


@contextmanager
def connected(server: SocketServer, connection: Connection) -> Iterator[None]:
    server.connections.add(connection)
    try:
        yield
    finally:
        server.connections.remove(connection)


@contextmanager
def ended_by(departure: Departure, connection: Connection) -> Iterator[None]:
    async def end_when_gone() -> None:
        await departure()
        connection.end(CloseCode.GOING_AWAY)

    watching = asyncio.create_task(end_when_gone())
    try:
        yield
    finally:
        watching.cancel()


def seconds_left(signed_in: SignedIn) -> float:
    return (signed_in.expires_at - datetime.now(UTC)).total_seconds()

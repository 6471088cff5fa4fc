"""Reading events without a socket: pages that wait for the next event, and streams of server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from app.core.auth import SignedIn
from app.events.backlog import BacklogPage
from app.events.filters import EventFilter
from app.websockets.connection import Connection, Message
from app.websockets.conversation import SocketServer
from app.websockets.replay import catch_up

KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = ": still here\n\n"


async def read_page(
    server: SocketServer, signed_in: SignedIn, *, after: int | None, limit: int, wanted: EventFilter, wait: float
) -> BacklogPage:
    """The page that follows `after`. If it's empty, wait for the next event, but no longer than `wait` seconds.

    No connection to the database is held meanwhile.

    Raises:
        Resync: the log can't be read on from there.
    """
    await server.connections.until_following()
    position = server.connections.position if after is None else after
    listener = Connection(signed_in.actor, wanted=wanted, is_socket=False)
    # Listening before looking, so that what comes in between is not missed.
    with _connected(server, listener):
        page = await server.read_backlog(signed_in.actor, position, wanted, limit)
        if page.events or not wait:
            return page
        with suppress(TimeoutError):
            async with asyncio.timeout(min(wait, _seconds_left(signed_in))):
                await listener.next_message()
        return await server.read_backlog(signed_in.actor, page.reached, wanted, limit)


async def stream_messages(
    server: SocketServer, signed_in: SignedIn, *, after: int | None, wanted: EventFilter
) -> AsyncIterator[str]:
    """Server-sent events from `after` (or from now) on, until the token runs out or the account ends."""
    connection = Connection(signed_in.actor, wanted=wanted, is_live=after is None, is_socket=False)
    with _connected(server, connection):
        catching_up = asyncio.create_task(_catch_up(connection, server, after))
        try:
            while (seconds_left := _seconds_left(signed_in)) > 0:
                try:
                    async with asyncio.timeout(min(KEEP_ALIVE_SECONDS, seconds_left)):
                        message = await connection.next_message()
                except TimeoutError:
                    yield KEEP_ALIVE
                    continue
                if message is None:
                    return
                yield _as_server_sent_event(message)
        finally:
            catching_up.cancel()


async def _catch_up(connection: Connection, server: SocketServer, after: int | None) -> None:
    if after is not None:
        await catch_up(connection, server.connections, server.read_backlog, since=after)


def _as_server_sent_event(message: Message) -> str:
    place = "" if message.seq is None else f"id: {message.seq}\n"
    return f"{place}data: {message.text}\n\n"


@contextmanager
def _connected(server: SocketServer, connection: Connection) -> Iterator[None]:
    server.connections.add(connection)
    try:
        yield
    finally:
        server.connections.remove(connection)


def _seconds_left(signed_in: SignedIn) -> float:
    return (signed_in.expires_at - datetime.now(UTC)).total_seconds()

"""Giving a reader what it missed: from the log in pages, and then live, without a gap and without a repeat."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.core.errors import HiveError
from app.core.permissions import Actor
from app.events.backlog import BacklogPage, LogPosition, PageSize, Resync
from app.events.filters import EventFilter
from app.websockets.connection import CloseCode, Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.message import Message

# (who asks, after which position, which events, how many at most)
ReadBacklog = Callable[[Actor, LogPosition, EventFilter, PageSize], Awaitable[BacklogPage]]
# Small enough to be written before the next one is read, large enough to make few queries. Each reader that catches up
# has one in memory.
PAGE = PageSize(100, 256 * 1024)
# How long a reader waits for its process to follow the log, which takes a moment after its start.
FOLLOWING_SECONDS = 10.0

log = structlog.stdlib.get_logger(__name__)


async def catch_up(
    connection: Connection, connections: ConnectionManager, read_backlog: ReadBacklog, *, since: LogPosition
) -> None:
    """Queue all that follows `since`, at the reader's own pace, and make the connection live.

    The connection is among `connections` already, and takes no live event yet. It goes live once it has read as far
    as the fan-out has come. Nothing is awaited between looking at that and going live, so the fan-out's next event is
    the first that the connection takes, and what it read is dropped should it come again.
    """
    position = since
    try:
        async with asyncio.timeout(FOLLOWING_SECONDS):
            await connections.until_following()
        while not connection.is_ended:
            page = await read_backlog(connection.actor, position, connection.wanted, PAGE)
            for event in page.events:
                await connection.offer_patiently(Message.of(event))
            position = LogPosition(page.reached, page.epoch)
            if position.seq >= connections.position:
                connection.go_live(position.seq)
                return
    except Resync:
        connection.start_over(CloseCode.RESYNC)
    except (HiveError, TimeoutError):
        connection.end(CloseCode.TRY_AGAIN_LATER)
    except Exception:
        log.exception("a reader could not be given what it missed")
        connection.end(CloseCode.INTERNAL_ERROR)

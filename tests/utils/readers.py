"""Readers without a network, and events to give them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from uuid import uuid4

from app.core.permissions import Actor, Audience
from app.events.published import PublishedEvent
from app.models import EventType
from app.websockets.connection import (
    Connection,
)
from app.websockets.connection_manager import ConnectionManager
from app.websockets.line import FrameLine

_seqs = count(1)
ADA, GRACE, ROOT = Actor(uuid4()), Actor(uuid4()), Actor(uuid4(), is_admin=True)


def event_of(
    event_type: EventType = EventType.TASK_UPDATED,
    *,
    actor: Actor = ADA,
    audience: Audience = None,
    text: str = '{"type":"task.updated"}',
) -> PublishedEvent:
    return PublishedEvent(next(_seqs), event_type, actor.id, None, audience, text)


async def connect(manager: ConnectionManager, actor: Actor) -> Connection:
    """A reader among those of the manager; nothing is written yet."""
    connection = Connection(actor)
    manager.add(connection)
    return connection


def queued(connection: Connection) -> list[str]:
    return [message.text for message in connection._queue]


class Pipe:
    """A server's end of a socket that takes frames while it has room."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.is_open = True
        self.frames: list[bytes] = []

    def write_frames(self, frames: bytes) -> bool:
        is_taken = self.is_open and self.room.is_set()
        self.frames += [frames] * is_taken
        return is_taken

    async def until_writable(self) -> bool:
        await self.room.wait()
        return self.is_open

    def signed_in(self) -> None:
        pass


@asynccontextmanager
async def piped(manager: ConnectionManager | None = None) -> AsyncIterator[tuple[Connection, Pipe]]:
    """A reader whose own task waits for something to write."""
    pipe = Pipe()
    connection = await connect(manager or ConnectionManager(), ADA)
    line = connection.line = FrameLine(pipe)

    async def write() -> None:
        while (message := await connection.next_message()) is not None:
            await line.write(message)

    writing = asyncio.create_task(write())
    await asyncio.sleep(0)
    yield connection, pipe
    connection.end(1000)
    pipe.room.set()
    await writing

"""Helpers of the tests. Nothing here is a test."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import httpx2
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocket

from app.database import Database
from app.events.due_jobs import QueueName
from app.models import Event, Task

T = TypeVar("T")

PAUSE = 0.02
# How long a test waits for what has to come, in seconds. A machine with busy neighbours takes ten times as long as a
# quiet one, and a test that passes never waits so long.
PATIENCE = 90.0
# As long as a test waits for an answer that has to come before a request's own `wait`, of thirty seconds, is over.
SHORTER_THAN_A_WAIT = 25.0


def wait_until(condition: Callable[[], T], *, timeout: float = PATIENCE, what: str) -> T:
    """The first true answer of `condition`; after `timeout` seconds, an error that says `what` is missing."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still waiting after {timeout} s for {what}"
        time.sleep(PAUSE)
    return answer


async def wait_until_async(condition: Callable[[], Awaitable[T]], *, timeout: float = PATIENCE, what: str) -> T:
    """`wait_until` for a condition that is asynchronous."""
    deadline = time.monotonic() + timeout
    while not (answer := await condition()):
        assert time.monotonic() < deadline, f"still waiting after {timeout} s for {what}"
        await asyncio.sleep(PAUSE)
    return answer


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The problem document of an error answer, which has to be a whole one of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(body)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


async def events_of(session: AsyncSession, task: Task) -> Sequence[Event]:
    """The events of a task in the order in which they were written, which is that of its versions."""
    return (await session.scalars(select(Event).where(Event.task_id == task.id).order_by(Event.position))).all()


async def wait_for_lock_waiter(session: AsyncSession) -> int:
    """The process id of a connection of this test that waits for a lock, once there is one. Ends the transaction."""
    waiters = text(
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND application_name LIKE 'hive tests%' AND datname = current_database()"
    )

    async def look() -> int | None:
        # Within one transaction PostgreSQL shows what it showed the first time.
        await session.commit()
        found: int | None = await session.scalar(waiters)
        return found

    pid = await wait_until_async(look, what="somebody who waits for a lock")
    assert pid is not None
    return pid


async def wait_for_free_lock(database: Database, lock: int) -> None:
    """Wait until an advisory lock can be had. Its last holder didn't wait until the server had seen that it left."""

    async def is_free() -> bool:
        async with database.exclusively(lock) as ours:
            return ours is not None

    await wait_until_async(is_free, what="the lock")


async def wait_for_two_lock_waiters(session: AsyncSession) -> None:
    """Wait until two connections of this test's database wait for a lock. Ends the transaction."""
    waiters = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    async def look() -> bool:
        # Within one transaction PostgreSQL shows what it showed the first time.
        await session.commit()
        return bool(await session.scalar(waiters) == 2)

    await wait_until_async(look, what="two who wait for a lock")


async def nothing_queued(_queue: QueueName) -> int:
    """What a carrier of jobs says whose queue is empty."""
    return 0


class FakeNetwork:
    """The network behind one socket: what its client sends, and what arrives there.

    While `is_reading` is cleared the client reads nothing, and its senders wait.
    """

    def __init__(self, path: str = "/ws", *, query: str = "", origin: str | None = None) -> None:
        headers = [(b"host", b"hive.test")] + ([(b"origin", origin.encode())] if origin else [])
        self.scope = {"type": "websocket", "path": path, "query_string": query.encode(), "headers": headers}
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self.arrived: list[Message] = []
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._said.put_nowait({"type": "websocket.connect"})

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.arrived if message["type"] == "websocket.send"]

    @property
    def websocket(self) -> WebSocket:
        """The server's end."""
        return WebSocket(self.scope, self._receive, self._send)

    @asynccontextmanager
    async def talk_to(self, app: ASGIApp) -> AsyncIterator[Self]:
        """Let the application serve the socket; afterwards its client is gone."""
        serving = asyncio.create_task(self._served_by(app))
        try:
            yield self
        finally:
            self.leave()
            async with asyncio.timeout(PATIENCE):
                await serving

    def say(self, text: str) -> None:
        self._said.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self._said.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def text(self, number: int = 0) -> str:
        """That text of those that arrive, once it has."""

        async def has_arrived() -> bool:
            return len(self.texts) > number

        await wait_until_async(has_arrived, what=f"text number {number} on a socket")
        return self.texts[number]

    async def closing_code(self) -> int:
        """With which code the server closes the socket."""

        async def is_closed() -> Sequence[Message]:
            return [message for message in self.arrived if message["type"] == "websocket.close"]

        [message] = await wait_until_async(is_closed, what="the end of a socket")
        code: int = message["code"]
        return code

    async def _served_by(self, app: ASGIApp) -> None:
        await app(self.scope, self._receive, self._send)

    async def _receive(self) -> Message:
        return await self._said.get()

    async def _send(self, message: Message) -> None:
        await self.is_reading.wait()
        self.arrived.append(dict(message))

"""One at a time for each name, in the order in which they come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.core.errors import ServiceUnavailable

MOST_WAITING = 128
# Longer than so many passwords take. Past that something else is slow, such as the database.
PATIENCE_SECONDS = 15.0


class TooBusy(ServiceUnavailable):
    def __init__(self, doing: str) -> None:
        super().__init__(f"Too many are {doing} at the moment; try again shortly.", code="too_busy")


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class Turns:
    def __init__(self, patience: float = PATIENCE_SECONDS, *, doing: str = "signing in") -> None:
        self._patience = patience
        self._doing = doing
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for as long as this lasts.

        Raises:
            TooBusy: so many wait already that it would take too long, or it did.
        """
        queue = self._queues.setdefault(name, _Queue())
        if queue.length > MOST_WAITING:
            raise TooBusy(self._doing)
        queue.length += 1
        try:
            await self._wait_for(queue.lock)
            try:
                yield
            finally:
                queue.lock.release()
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[name]

    async def _wait_for(self, lock: asyncio.Lock) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await lock.acquire()
        except TimeoutError:
            raise TooBusy(self._doing) from None

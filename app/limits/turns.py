"""One at a time for each name, in the order in which they come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.core.errors import ServiceUnavailable

MOST_WAITING = 128


class TooBusy(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Too many are signing in at the moment; try again shortly.", code="too_busy")


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class Turns:
    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for as long as this lasts.

        Raises:
            TooBusy: so many wait already that it would take too long.
        """
        queue = self._queues.setdefault(name, _Queue())
        if queue.length > MOST_WAITING:
            raise TooBusy
        queue.length += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[name]

"""So many at a time for each name, in the order in which they come."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from app.core.errors import HiveError, ServiceUnavailable

MOST_WAITING = 128
# Longer than so many passwords take. Past that something else is slow, such as the database.
PATIENCE_SECONDS = 15.0


class TooBusy(ServiceUnavailable):
    def __init__(self, doing: str) -> None:
        super().__init__(f"Too many are {doing} at the moment; try again shortly.", code="too_busy")


too_many_sign_ins = partial(TooBusy, "signing in")


@dataclass(slots=True)
class _Queue:
    places: asyncio.Semaphore
    length: int = 0


class Turns:
    """`at_once` have their turn at a time, `most_waiting` wait for theirs. `refusal` makes the error for all others."""

    def __init__(
        self,
        refusal: Callable[[], HiveError] = too_many_sign_ins,
        *,
        at_once: int = 1,
        most_waiting: int = MOST_WAITING,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._refusal = refusal
        self._at_once = at_once
        self._most = at_once + most_waiting
        self._patience = patience
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for as long as this lasts.

        Raises:
            HiveError: the refusal, when so many wait already that it would take too long, or it did.
        """
        queue = self._queues.setdefault(name, _Queue(asyncio.Semaphore(self._at_once)))
        if queue.length >= self._most:
            raise self._refusal()
        queue.length += 1
        try:
            await self._wait_for(queue.places)
            try:
                yield
            finally:
                queue.places.release()
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[name]

    async def _wait_for(self, places: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await places.acquire()
        except TimeoutError:
            raise self._refusal() from None

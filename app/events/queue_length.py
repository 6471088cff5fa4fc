"""How many jobs the carrier's queue has, without asking its broker on the way of each of them."""

from collections.abc import Awaitable, Callable
from time import monotonic

from app.events.due_jobs import QueueName

CountQueued = Callable[[QueueName], Awaitable[int]]


class QueueLength:
    """To count takes a thread and the broker. What was counted holds for a while, with all that was sent since.

    Workers take messages out meanwhile, so there may be fewer by now: room that is known of is there. That the queue
    is empty is known only from counting.
    """

    def __init__(self, queue: QueueName, count_queued: CountQueued, *, holds_seconds: float) -> None:
        self._queue = queue
        self._count_queued = count_queued
        self._holds_seconds = holds_seconds
        self._at_most = 0
        self._holds_until = 0.0

    async def count(self) -> int:
        """Raises what the carrier raises when it's away."""
        self._at_most = await self._count_queued(self._queue)
        self._holds_until = monotonic() + self._holds_seconds
        return self._at_most

    def at_most(self) -> int | None:
        """None when it was counted too long ago."""
        return self._at_most if monotonic() < self._holds_until else None

    def note_sent(self, number: int) -> None:
        self._at_most += number

    def forget(self) -> None:
        self._holds_until = 0.0

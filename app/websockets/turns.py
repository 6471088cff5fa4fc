"""A line in which readers wait for the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.core.errors import ServiceUnavailable

PATIENCE_SECONDS = 10.0


class TooManyWait(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Too many readers are coming back at the moment; try again shortly.", code="too_busy")


class Turns:
    """Lets only so many at once to the database.

    The readers of a process that stopped come back to another one all in the same moment. They wait for one another
    here, or requests would wait behind them all for a connection, longer than it's worth.
    """

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Have a turn for as long as this lasts.

        Raises:
            TooManyWait: none came for a while.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise TooManyWait from None
        try:
            yield
        finally:
            self._free.release()

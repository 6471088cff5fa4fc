"""Starting many readers, having something happen, and knowing when it has reached all of them."""

from collections.abc import Awaitable, Callable

from bench.load.plan import READY, Arrivals, Sockets
from bench.load.programs import outcome, program


async def arrivals_of(sockets: Sockets, happening: Callable[[], Awaitable[None]]) -> Arrivals:
    """Open the sockets, have it happen, and wait until each of them has had as many texts as it's to get."""
    async with program("bench.load.readers", sockets) as readers:
        assert readers.stdout is not None
        assert await readers.stdout.readline() == READY, "the readers did not come so far as to read"
        await happening()
        arrivals: Arrivals = await outcome(readers)
    return arrivals

"""Starting many readers, having something happen, and knowing when it has reached all of them."""

from collections.abc import Awaitable, Callable

from tests.performance.load.plan import READY, Arrivals, Sockets
from tests.performance.load.programs import outcome, program


async def arrivals_of(sockets: Sockets, happening: Callable[[], Awaitable[None]]) -> Arrivals:
    """Open the sockets, have it happen, and wait until each of them has had as many texts as it's to get."""
    async with program("tests.performance.load.readers", sockets) as readers:
        assert readers.stdout is not None
        assert await readers.stdout.readline() == READY, "the readers did not come so far as to read"
        await happening()
        arrivals: Arrivals = await outcome(readers)
    return arrivals

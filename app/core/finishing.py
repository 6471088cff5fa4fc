"""Work that is not broken off in the middle."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Await the work. If that's cancelled, still wait until it's done, and then be cancelled.

    For what uses a connection to the database, which would have to be closed in the middle of a statement. To make
    another one takes far longer than the statement.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise

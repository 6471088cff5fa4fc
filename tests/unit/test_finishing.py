"""Work that is not broken off in the middle."""

import asyncio

import pytest

from app.core.finishing import finished


async def test_who_is_cancelled_waits_until_the_work_is_done() -> None:
    may_end, seen = asyncio.Event(), []

    async def work() -> None:
        seen.append("begun")
        await may_end.wait()
        seen.append("done")

    waiting = asyncio.create_task(finished(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert (seen, waiting.done()) == (["begun"], False)
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert seen == ["begun", "done"]


async def test_what_the_work_gives_and_raises_is_passed_on() -> None:
    async def one() -> int:
        return 1

    async def fail() -> int:
        raise LookupError

    assert await finished(one()) == 1
    with pytest.raises(LookupError):
        await finished(fail())

"""How far the clocks of PostgreSQL and Redis are from this machine's."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from sqlalchemy import func, select

from app.core.errors import HiveError
from app.core.redis import REDIS_FAILURES
from app.schemas.health import Check
from app.state import State

# Tokens bear a minute, and what is stored goes by PostgreSQL's clock. But a clock that is off by so much isn't kept by
# anything, and goes on wandering.
MOST_SECONDS = 5.0
ANSWER_SECONDS = 3.0


async def check_clocks(state: State, now: Callable[[], float] = time.time) -> dict[str, Check]:
    """One check each of those that answer; whether they do is told elsewhere."""

    async def ask_postgresql() -> float:
        async with state.database.unit_of_work(is_reading=True) as transaction:
            moment = await transaction.scalar(select(func.clock_timestamp()))
        assert isinstance(moment, datetime)
        return moment.astimezone(UTC).timestamp()

    async def ask_redis() -> float:
        seconds, microseconds = await state.redis.time()
        return float(seconds + microseconds / 1e6)

    found = {
        "clock of PostgreSQL": await _compare(ask_postgresql, "PostgreSQL", now),
        "clock of Redis": await _compare(ask_redis, "Redis", now),
    }
    return {name: check for name, check in found.items() if check is not None}


async def _compare(ask: Callable[[], Awaitable[float]], whose: str, now: Callable[[], float]) -> Check | None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # Connecting takes its time, in which nothing is compared.
            await ask()
            before, theirs, after = now(), await ask(), now()
    except (HiveError, TimeoutError, *REDIS_FAILURES):
        return None
    skew = theirs - (before + after) / 2
    # It was read at some moment of the way there and back.
    is_sure = abs(skew) - (after - before) / 2 > MOST_SECONDS
    if not is_sure:
        return Check(ok=True, detail="as this machine's")
    direction = "ahead of" if skew > 0 else "behind"
    detail = f"{whose} is {abs(skew):.1f} s {direction} this machine; have NTP keep both clocks"
    return Check(ok=False, detail=detail)

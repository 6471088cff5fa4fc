"""The parts of the limits that count in Redis."""

import asyncio

import pytest
from redis.asyncio import Redis

from app.core.redis import connect_redis
from app.limits.requests import RequestLimit
from app.limits.shared import LANES, Reach, SharedStorage


async def test_many_questions_at_once_are_all_answered(redis_url: str) -> None:
    redis = connect_redis(redis_url)
    reach = Reach()

    answers = await asyncio.gather(*(reach.ask(redis.time) for _ in range(500)))

    assert len(answers) == 500
    assert all(answers)
    assert len(redis.connection_pool._available_connections) <= LANES
    await redis.aclose()


@pytest.mark.usefixtures("clean_redis")
async def test_blocks_are_counted_to_the_last_request(redis_url: str) -> None:
    """By two processes, whose callers ask at once."""
    redis = connect_redis(redis_url)
    before = await _asked(redis)
    processes = [RequestLimit(SharedStorage(redis), Reach(), 1_000) for _ in range(2)]

    found = [await asyncio.gather(*(process.count("caller") for _ in range(20))) for process in processes * 30]
    granted = [allowance.is_granted for batch in found for allowance in batch if allowance]

    # What the other one has taken beforehand is not lost, but there is nobody left to use it.
    assert 990 <= granted.count(True) <= 1_000
    assert granted.count(False) == 1_200 - granted.count(True)
    asked = await _asked(redis) - before
    await redis.aclose()
    assert asked < 2 * (1_200 - 1_000) * 2


async def _asked(redis: Redis) -> int:
    """Scripts that were run: two each time."""
    return int((await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.mark.usefixtures("clean_redis")
async def test_what_is_told_falls_by_one_each_time(redis_url: str) -> None:
    redis = connect_redis(redis_url)
    limit = RequestLimit(SharedStorage(redis), Reach(), 500)

    told = [await limit.count("caller") for _ in range(501)]

    await redis.aclose()
    assert [allowance.remaining for allowance in told if allowance] == [*range(499, -1, -1), 0]
    assert [allowance.is_granted for allowance in told if allowance] == [True] * 500 + [False]

"""Signs of life that workers leave in Redis, for those who want to know whether jobs would run."""

import time

from redis.asyncio import Redis

# A sorted set of workers by the time of their last sign.
WORKERS_KEY = "hive:workers"
SEEN_SECONDS = 30


async def seconds_since_last_sign(redis: Redis) -> float | None:
    """None when no worker has left any."""
    last = await redis.zrange(WORKERS_KEY, 0, 0, desc=True, withscores=True)
    return max(time.time() - float(last[0][1]), 0.0) if last else None


async def count_workers(redis: Redis) -> int:
    """Those that left a sign lately."""
    return int(await redis.zcount(WORKERS_KEY, time.time() - SEEN_SECONDS, "+inf"))

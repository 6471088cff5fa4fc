"""Signs of life that workers leave in Redis, for those who want to know whether jobs would run.

Their times are Redis's own, for the clocks of the machines may differ.
"""

from app.core.redis import PrefixedRedis

# A sorted set of workers by the time of their last sign.
WORKERS_KEY = "workers"
# Those that take what has its effect outside of the database.
OUTSIDE_WORKERS_KEY = "outside-workers"
SEEN_SECONDS = 30


async def seconds_since_last_sign(redis: PrefixedRedis, key: str = WORKERS_KEY) -> float | None:
    """None when no worker has left any."""
    last = await redis.zrange(redis.key(key), 0, 0, desc=True, withscores=True)
    return max(await _now(redis) - float(last[0][1]), 0.0) if last else None


async def count_workers(redis: PrefixedRedis) -> int:
    """Those that left a sign lately."""
    return int(await redis.zcount(redis.key(WORKERS_KEY), await _now(redis) - SEEN_SECONDS, "+inf"))


async def _now(redis: PrefixedRedis) -> float:
    seconds, microseconds = await redis.time()
    return float(seconds + microseconds / 1e6)

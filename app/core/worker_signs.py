"""Signs of life that workers leave in Redis, for those who want to know whether jobs would run.

Their times are Redis's own, for the clocks of the machines may differ.
"""

from app.core.redis import PrefixedRedis

# A sorted set of workers by the time of their last sign.
WORKERS_KEY = "workers"
SEEN_SECONDS = 30


async def seconds_since_last_sign(redis: PrefixedRedis) -> float | None:
    """None when no worker has left any."""
    last = await redis.zrange(redis.key(WORKERS_KEY), 0, 0, desc=True, withscores=True)
    return max(await _now(redis) - float(last[0][1]), 0.0) if last else None


async def count_workers(redis: PrefixedRedis) -> int:
    """Those that left a sign lately."""
    return int(await redis.zcount(redis.key(WORKERS_KEY), await _now(redis) - SEEN_SECONDS, "+inf"))


async def _now(redis: PrefixedRedis) -> float:
    seconds, microseconds = await redis.time()
    return float(seconds + microseconds / 1e6)

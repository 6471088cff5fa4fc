"""The one way to a Redis client, so that time-outs and decoding are the same everywhere."""

from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

# What an absent, refusing, stalled or broken Redis raises.
REDIS_FAILURES = (RedisError, OSError)


def connect_redis(url: str, *, reply_seconds: float = 2.0) -> Redis:
    """A client that connects on first use; a command fails after `reply_seconds` without an answer.

    A blocking read has to ask for less time than that, or the client gives up first.
    """
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=1.0,
        socket_timeout=reply_seconds,
        retry=Retry(NoBackoff(), 0),
    )

"""The one way to a Redis client, so that time-outs and decoding are the same everywhere."""

import asyncio
from collections.abc import Iterable

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

# What an absent, refusing, stalled or broken Redis raises.
REDIS_FAILURES = (RedisError, OSError)


def connect_redis(url: str, *, reply_seconds: float = 2.0) -> Redis:
    """A client that connects on first use; a command fails after `reply_seconds` without an answer.

    A blocking read has to ask for less time than that, or the client gives up first.
    """
    redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=1.0,
        socket_timeout=reply_seconds,
        retry=Retry(NoBackoff(), 0),
    )
    pool = redis.connection_pool
    pool.connection_class = _cancellable(pool.connection_class)
    return redis


class Cancellable(AbstractConnection):
    """Sends within the time-out, but not by `asyncio.wait_for`, as redis-py does when there is one.

    In Python 3.11 `wait_for` loses a cancellation that comes at the moment when it's done, so a task that is at a
    command could not be relied on to end when it's told to.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002  # redis-py's own signature.
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)
        finally:
            self.socket_timeout = seconds


def _cancellable(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """The class for TCP, TLS or Unix sockets, made cancellable."""
    return type(f"Cancellable{connection_class.__name__}", (Cancellable, connection_class), {})

"""The one way to a Redis client, so that time-outs, decoding and the care for dead connections are the same everywhere.

A peer that is gone without a word (a machine that died, a firewall that forgot the connection) sends no refusal.
Four things find it out: the kernel's probes, a time-out for each reply, a pool that trusts no idle connection after
one has failed, and for subscriptions, which wait for no reply, a ping of their own (`app/events/wakeup.py`).
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, DefaultParser
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from app.config import DEFAULT_REDIS_PREFIX
from app.core.tcp import TCP_PROBES

# What an absent, refusing, stalled or broken Redis raises.
REDIS_FAILURES = (RedisError, OSError)
# For the way to the server, TLS included.
CONNECT_SECONDS = 1.0


def redis_key(prefix: str, name: str) -> str:
    """Return the name of a key or channel of the system that has this prefix."""
    return f"{prefix}:{name}"


class PrefixedRedis(Redis):
    """A client that knows under which prefix this system has its keys and channels."""

    prefix = DEFAULT_REDIS_PREFIX

    def key(self, name: str) -> str:
        """Return the name of a key or channel of this system."""
        return redis_key(self.prefix, name)


def connect_redis(url: str, *, prefix: str = DEFAULT_REDIS_PREFIX, reply_seconds: float = 2.0) -> PrefixedRedis:
    """A client that connects on first use; a command fails after `reply_seconds` without an answer.

    A blocking read has to ask for less time than that, or the client gives up first.
    """
    pool = WaryPool.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=reply_seconds,
        retry=Retry(NoBackoff(), 0),
        parser_class=FaultTellingParser,
    )
    if issubclass(pool.connection_class, Connection):
        pool.connection_kwargs.update(socket_keepalive=True, socket_keepalive_options=TCP_PROBES)
    pool.connection_class = _wary(pool.connection_class)
    # The library's annotation names the base class; what it makes is of the class that it's called on.
    redis = cast(PrefixedRedis, PrefixedRedis.from_pool(pool))
    redis.prefix = prefix
    return redis


class WaryPool(ConnectionPool):
    """Trusts no idle connection after another one has failed: they lead to the same peer."""

    async def release(self, connection: AbstractConnection) -> None:
        has_failed = not connection.is_connected
        await super().release(connection)
        if has_failed:
            with suppress(*REDIS_FAILURES):
                await self.disconnect(inuse_connections=False)


class FaultTellingParser(DefaultParser):  # type: ignore[misc, valid-type]  # It's chosen when redis-py is imported.
    """Tells a connection that the kernel gave up from one on which nothing came yet.

    The kernel's ETIMEDOUT is a `TimeoutError`. redis-py takes it for the end of a wait with a time limit, answers that
    nothing came, and does so at once and for ever.
    """

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except TimeoutError as error:
            raise RedisConnectionError(f"the connection was given up: {error}") from error


class WaryConnection(AbstractConnection):
    """Ends when its task is cancelled, and knows when it is closed."""

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002  # redis-py's own signature.
        """Send within the time-out, but not by `asyncio.wait_for`, as redis-py does when there is one.

        In Python 3.11 `wait_for` loses a cancellation that comes at the moment when it's done, so a task that is at a
        command could not be relied on to end when it's told to.
        """
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)
        finally:
            self.socket_timeout = seconds

    async def can_read(self) -> bool:
        """Whether the connection has unread data or was closed, so that the pool must not hand it out.

        redis-py looks at the end of the stream alone, which a connection that broke does not come to.
        """
        return (self._writer is not None and self._writer.is_closing()) or await super().can_read()


def _wary(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """The class for TCP, TLS or Unix sockets, made wary."""
    return type(f"Wary{connection_class.__name__}", (WaryConnection, connection_class), {})

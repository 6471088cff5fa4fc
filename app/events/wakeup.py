"""Telling the relay that something was written, without anyone waiting for it.

A wake-up may get lost; the relay looks by itself as well. `NOTIFY` inside the transaction is not used, for it makes
commits wait for one another.
"""

import asyncio
from collections.abc import Callable

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import TimeoutError as RedisTimeout

from app.causes.redis import why_redis
from app.core.outages import Outage
from app.core.redis import REDIS_FAILURES, PrefixedRedis

WAKE_CHANNEL = "wake-relay"
# What is written within this time is one wake-up: by the thousand they would cost as much as the writing.
PAUSE_SECONDS = 0.002
# A subscription on which nothing came for so long is asked for a sign of life, and given up after as long again.
QUIET_SECONDS = 5.0
RETRY_SECONDS = 1.0

log = structlog.stdlib.get_logger(__name__)


class RelayWaker:
    """Publishes at most one wake-up at a time; those that come meanwhile become one more."""

    def __init__(self, redis: PrefixedRedis) -> None:
        self._redis = redis
        self._wanted = asyncio.Event()
        self._outage = Outage(log, "waking the relay through Redis")

    def wake(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._redis.publish(self._redis.key(WAKE_CHANNEL), "")
            except REDIS_FAILURES as error:
                # The relay polls, so the event is late by a moment and not lost.
                self._outage.goes_on(why_redis(error).sentence)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._outage.is_over()
                await asyncio.sleep(PAUSE_SECONDS)


async def hear_wake_ups(redis: PrefixedRedis, wake: Callable[[], None]) -> None:
    """Call `wake` for each wake-up, until cancelled. A subscription that fails or goes silent is replaced."""
    while True:
        try:
            async with redis.pubsub() as subscription:
                await subscription.subscribe(redis.key(WAKE_CHANNEL))
                await _hear(subscription, wake)
        except REDIS_FAILURES:
            await asyncio.sleep(RETRY_SECONDS)


async def _hear(subscription: PubSub, wake: Callable[[], None]) -> None:
    """Raises `RedisTimeout` when a ping brings no answer. A subscription sends nothing else that could get none."""
    is_asked = False
    while True:
        message = await subscription.get_message(timeout=QUIET_SECONDS)
        if message is None:
            if is_asked:
                raise RedisTimeout("the subscription is silent")
            await subscription.ping()
            is_asked = True
            continue
        is_asked = False
        if message["type"] == "message":
            wake()

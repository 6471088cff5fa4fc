"""Telling the relay that something was written, without anyone waiting for it.

A wake-up may get lost; the relay looks by itself as well. `NOTIFY` inside the transaction is not used, for it makes
commits wait for one another.
"""

import asyncio

from redis.asyncio import Redis

from app.core.redis import REDIS_FAILURES

WAKE_CHANNEL = "hive:wake-relay"
# What is written within this time is one wake-up: by the thousand they would cost as much as the writing.
PAUSE_SECONDS = 0.002


class RelayWaker:
    """Publishes at most one wake-up at a time; those that come meanwhile become one more."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._redis.publish(WAKE_CHANNEL, "")
            except REDIS_FAILURES:
                # The relay polls, so the event is late by a moment and not lost.
                await asyncio.sleep(1)
            else:
                await asyncio.sleep(PAUSE_SECONDS)

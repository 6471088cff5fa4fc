"""What all processes count together, in Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha1
from typing import TypeVar, cast

import structlog
from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from redis.exceptions import NoScriptError

from app.core.redis import REDIS_FAILURES, PrefixedRedis
from app.limits.rules import Rule

T = TypeVar("T")

# Redis answers within a millisecond. One that doesn't must not hold up requests that it has nothing to do with.
PATIENCE_SECONDS = 0.5
# How long it is left alone after it failed.
REST_SECONDS = 1.0
# How many ask at a time, each by a connection of its own. More would only make each of them slower.
LANES = 8
# How often the event loop goes round until what has arrived is read, amply.
ROUNDS_TO_READ = 20

# Moving windows over one list, newest entry first. The library's script takes the time from its caller, and processes
# on machines whose clocks differ would take each other's entries for long past, or for ones of the future that never
# end.
TAKE_PLACE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local wait, most, longest = 0, 0, 0
for i = 1, #ARGV, 2 do
    local limit, seconds = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    local oldest = redis.call('LINDEX', KEYS[1], limit - 1)
    if oldest and tonumber(oldest) > now - seconds then
        wait = math.max(wait, tonumber(oldest) + seconds - now)
    end
    most, longest = math.max(most, limit), math.max(longest, seconds)
end
if wait > 0 then
    return tostring(wait)
end
redis.call('LPUSH', KEYS[1], string.format('%.6f', now))
redis.call('LTRIM', KEYS[1], 0, most - 1)
redis.call('EXPIRE', KEYS[1], longest)
return '0'
"""

log = structlog.stdlib.get_logger(__name__)


class RedisAway(Exception):
    """There is no answer from Redis, or there was none a moment ago."""


class Reach:
    """Asks Redis, for no longer than a moment, and not at all for a while after it failed."""

    def __init__(self) -> None:
        self._is_away = False
        self._rests_until = 0.0
        self._lanes = asyncio.Semaphore(LANES)

    @property
    def is_resting(self) -> bool:
        """Whether Redis is taken to be away, and not asked for a moment."""
        return time.monotonic() < self._rests_until

    async def ask(self, question: Callable[[], Awaitable[T]], *, patience: float = PATIENCE_SECONDS) -> T:
        """Raises `RedisAway` when there is no answer within `patience` seconds."""
        # What is waited for here is this process, which is no fault of Redis.
        async with self._lanes:
            self._set_out(patience)
            try:
                answer = await _within(patience, question())
            except REDIS_FAILURES as error:
                self._went(error)
                raise RedisAway from error
            self._came()
            return answer

    def _set_out(self, patience: float) -> None:
        if self.is_resting:
            raise RedisAway
        if self._is_away:
            # One asks whether it's back; the others don't wait for that.
            self._rests_until = time.monotonic() + patience

    def _went(self, error: Exception) -> None:
        self._rests_until = time.monotonic() + REST_SECONDS
        if not self._is_away:
            log.warning("Redis is away: sign-ins are limited by each process, requests not at all", reason=repr(error))
        self._is_away = True

    def _came(self) -> None:
        self._rests_until = 0.0
        if self._is_away:
            log.info("Redis is back, and limits are shared again")
        self._is_away = False


async def _within(seconds: float, question: Awaitable[T]) -> T:
    """The answer. Raises `TimeoutError` if it hasn't arrived by then.

    When a process is so busy that it looks up late, its timer and the answer are there at once. An ordinary time-out
    would take Redis for dead then, and let everybody in just when there are too many.
    """
    asking = asyncio.ensure_future(question)
    try:
        await asyncio.wait({asking}, timeout=seconds)
        for _ in range(ROUNDS_TO_READ):
            if asking.done():
                return asking.result()
            await asyncio.sleep(0)
        raise TimeoutError(f"no answer within {seconds} s")
    finally:
        asking.cancel()
        await asyncio.wait({asking})


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Two counters: the minute that runs, and the one before it, which counts less the longer it is past."""

    previous: int
    previous_seconds_left: float
    current: int
    current_seconds_left: float


class SharedStorage(RedisStorage):
    """The library's storage, with what it lacks: hitting and looking at once, moving windows by Redis's clock."""

    def __init__(self, redis: PrefixedRedis) -> None:
        self._redis = redis
        super().__init__(
            "async+redis://",
            implementation="redispy",
            key_prefix=redis.key("limits"),
            # The library's annotation says plain values only; its documentation names this one.
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]
        )
        self._take_place = redis.register_script(TAKE_PLACE)
        self._hit_script = _name_of(self.bridge.SCRIPT_ACQUIRE_SLIDING_WINDOW)
        self._look_script = _name_of(self.bridge.SCRIPT_SLIDING_WINDOW)

    async def hit_and_look(self, item: RateLimitItem, identifier: str, amount: int = 1) -> tuple[bool, SlidingWindow]:
        """Whether so many hits were granted, all or none, and how the window stands then. One round trip."""
        try:
            return await self._hit_and_look(item, identifier, amount)
        except NoScriptError:
            # This Redis is new, or was started anew. The one that counts comes last: where it's known, both are, and
            # nobody counts twice.
            await self._redis.script_load(self.bridge.SCRIPT_SLIDING_WINDOW)
            await self._redis.script_load(self.bridge.SCRIPT_ACQUIRE_SLIDING_WINDOW)
            return await self._hit_and_look(item, identifier, amount)

    async def _hit_and_look(self, item: RateLimitItem, identifier: str, amount: int) -> tuple[bool, SlidingWindow]:
        key, seconds = item.key_for(identifier), item.get_expiry()
        names = (self._previous_window_key(key), self._current_window_key(key))
        keys = [self.bridge.prefixed_key(name) for name in names]
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.evalsha(self._hit_script, 2, *keys, item.amount, seconds, amount)
            pipeline.evalsha(self._look_script, 2, *keys, seconds)
            is_granted, found = await pipeline.execute()
        previous, previous_left, current, current_left = (max(int(figure or 0), 0) for figure in found)
        return bool(is_granted), SlidingWindow(previous, previous_left / 1000, current, current_left / 1000)

    async def take_place(self, rule: Rule, identifier: str) -> float:
        """Take a place in moving windows, by Redis's clock; seconds until there is one in all, or 0 if it's taken."""
        figures = [figure for window in rule.windows for figure in window]
        return float(await self._take_place([self._key(rule, identifier)], figures))

    async def give_back(self, rule: Rule, identifier: str) -> None:
        """Take the newest entry out of moving windows. Whose it was is all the same: they are a moment apart."""
        await cast(Awaitable[object], self._redis.lpop(self._key(rule, identifier)))

    async def count(self, rule: Rule, identifier: str) -> int:
        """How many places are taken in the longest of the windows."""
        key = self._key(rule, identifier)
        taken = await cast(Awaitable[list[str]], self._redis.lrange(key, 0, -1))
        # To the second doesn't matter here, and so neither does whose clock it is.
        return sum(float(entry) > time.time() - rule.seconds for entry in taken)

    async def remember(self, name: str, *, seconds: int) -> None:
        await self._redis.set(self.bridge.prefixed_key(name), "1", ex=seconds)

    async def remembers(self, name: str) -> bool:
        return bool(await self._redis.exists(self.bridge.prefixed_key(name)))

    def _key(self, rule: Rule, identifier: str) -> str:
        key: str = self.bridge.prefixed_key(rule.key_for(identifier))
        return key


def _name_of(script: str | bytes) -> str:
    """Under which Redis keeps it."""
    return sha1(script.encode() if isinstance(script, str) else script, usedforsecurity=False).hexdigest()

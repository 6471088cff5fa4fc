"""How many bytes one person, with all of their tokens and agents, sends within a day."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from uuid import UUID

from cachetools import LRUCache
from limits import RateLimitItemPerDay

from app.core.errors import HiveError
from app.limits.allowance import Allowance
from app.limits.shared import Reach, RedisAway, SharedStorage

# What is counted together, so that few requests have to ask Redis.
UNIT = 64 * 1024
# So much of a person's day a process takes at once, at most: as many bytes, or this share.
MOST_UNITS_AT_ONCE = 16
LARGEST_SHARE = 100
MOST_PEOPLE = 10_000
DAY = 86_400


class TooManyBytes(HiveError):
    status = 429
    code = "too_many_bytes"

    def __init__(self, most: int, seconds: int) -> None:
        super().__init__(
            f"You have sent as much as you may within a day, {most} bytes (BYTES_PER_USER_AND_DAY).",
            headers={"Retry-After": str(seconds)},
        )


@dataclass(slots=True)
class _Purse:
    """What a process has taken of a person's day and not used up; what it owes if it's less than nothing."""

    left: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ByteLimit:
    """Counts in Redis for all processes, and while Redis is away each process for itself."""

    def __init__(
        self, storage: SharedStorage, reach: Reach, per_day: int, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage = storage
        self._reach = reach
        self._per_day = per_day
        self._limit = RateLimitItemPerDay(per_day // UNIT, namespace="bytes") if per_day else None
        self._at_once = max(min(per_day // UNIT // LARGEST_SHARE, MOST_UNITS_AT_ONCE), 1)
        self._purses: LRUCache[UUID, _Purse] = LRUCache(MOST_PEOPLE)
        self._alone = _DaysAlone(per_day // UNIT, clock)

    @property
    def is_on(self) -> bool:
        return self._limit is not None

    async def take(self, person_id: UUID, count: int) -> None:
        """Count so many bytes that are about to be read.

        Raises:
            TooManyBytes: so many are not left. Nothing was counted.
        """
        if self._limit is None or count <= 0:
            return
        purse = self._purse_of(person_id)
        if purse.left < count:
            async with purse.turn:
                # Somebody who waited here may find that there is enough by now.
                if purse.left < count:
                    await self._fill(self._limit, person_id, purse, ceil((count - purse.left) / UNIT))
        if purse.left < count:
            # What was owed took all of a day.
            raise TooManyBytes(self._per_day, DAY)
        purse.left -= count

    def note(self, person_id: UUID, count: int) -> None:
        """Count so many bytes that were read already; who comes next has to have room for them, too."""
        if self._limit is not None:
            self._purse_of(person_id).left -= count

    async def _fill(self, limit: RateLimitItemPerDay, person_id: UUID, purse: _Purse, needed: int) -> None:
        # What is owed may be more than what is left of a day, and is paid by it all the same.
        needed = min(needed, limit.amount)
        seconds = 0
        for amount in sorted({max(needed, self._at_once), needed}, reverse=True):
            seconds = await self._hit(limit, person_id, amount)
            if not seconds:
                purse.left += amount * UNIT
                return
        raise TooManyBytes(self._per_day, seconds)

    async def _hit(self, limit: RateLimitItemPerDay, person_id: UUID, amount: int) -> int:
        """Seconds until there may be room; 0 if there was, and it's taken."""
        try:
            is_granted, window = await self._reach.ask(
                partial(self._storage.hit_and_look, limit, f"user/{person_id}", amount)
            )
        except RedisAway:
            return self._alone.hit(person_id, amount)
        return 0 if is_granted else Allowance.of(limit, window, is_granted=False).seconds

    def _purse_of(self, person_id: UUID) -> _Purse:
        if person_id not in self._purses:
            self._purses[person_id] = _Purse()
        return self._purses[person_id]


@dataclass(slots=True)
class _Days:
    number: int
    before: int = 0
    units: int = 0


class _DaysAlone:
    """What one process counts by itself: the day that runs, and the one before it, which counts less and less."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._days: LRUCache[UUID, _Days] = LRUCache(MOST_PEOPLE)

    def hit(self, person_id: UUID, amount: int) -> int:
        """Seconds until there may be room; 0 if there was, and it's taken."""
        number, seconds = divmod(self._clock(), DAY)
        days = self._of(person_id, int(number))
        if days.before * (1 - seconds / DAY) + days.units + amount > self._most:
            return ceil(DAY - seconds)
        days.units += amount
        return 0

    def _of(self, person_id: UUID, number: int) -> _Days:
        known = self._days.get(person_id) or _Days(number)
        if known.number != number:
            known = _Days(number, before=known.units if known.number == number - 1 else 0)
        self._days[person_id] = known
        return known

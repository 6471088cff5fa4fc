"""Requests that a process has taken from a caller's minute beforehand, so that not each of them has to ask Redis.

A slow caller is counted request by request. A fast one is counted in blocks, each larger than the one before, up
to a hundredth of the limit. See ADR 28.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import LRUCache

from app.limits.allowance import Allowance

LARGEST_SHARE = 100
# A block that is used up sooner is followed by one of twice the size, and one that lasts longer by one of half of it.
SHORT_SECONDS = 0.5
LONG_SECONDS = 5.0
# What is left of it then is not used: it was counted in a minute that may be over.
LEASE_SECONDS = 10.0
MOST_LEASES = 10_000


@dataclass(slots=True)
class Lease:
    """What is left of one caller's block, and how large the next one is. `turn` is for who asks for that."""

    largest: int
    clock: Callable[[], float]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    left: int = 0
    size: int = 1
    begun_at: float = 0.0
    found: Allowance | None = None

    @property
    def age(self) -> float:
        return self.clock() - self.begun_at

    def take(self) -> Allowance | None:
        """Take one, if there is one left."""
        age = self.age
        if not self.left or age > LEASE_SECONDS or self.found is None:
            return None
        self.left -= 1
        return self.found.after(self.size - 1 - self.left, seconds=age)

    def next_size(self) -> int:
        """For how many to ask now that it's used up, or over."""
        age = self.age
        if age > LEASE_SECONDS:
            # A caller who makes pauses would lose the rest of a block in each.
            return 1
        if age < SHORT_SECONDS:
            return min(self.size * 2, self.largest)
        return max(self.size // 2, 1) if age > LONG_SECONDS else self.size

    def begin(self, size: int, found: Allowance) -> None:
        """So many were counted, of which the one that asked is the first, who is told what was found."""
        self.size, self.left, self.begun_at, self.found = size, size - 1, self.clock(), found

    def refuse(self) -> None:
        """There is none to be had, so that from now on one asks for one only."""
        self.size, self.left, self.begun_at = 1, 0, self.clock() - LEASE_SECONDS


class Leases:
    """Of the callers of one process, as many as there is room for; past that the least recently seen begins anew."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._largest = max(limit // LARGEST_SHARE, 1)
        self._clock = clock
        self._of: LRUCache[str, Lease] = LRUCache(MOST_LEASES)

    def of(self, caller: str) -> Lease:
        if caller not in self._of:
            self._of[caller] = Lease(self._largest, self._clock, begun_at=self._clock() - LEASE_SECONDS)
        return self._of[caller]

"""How fast one caller gets answers within a second, where the limit of a minute is no help or none applies.

See ADR 56.
"""

import asyncio
import time
from collections.abc import Callable

from cachetools import LRUCache

from app.core.errors import HiveError
from app.limits.budget import TokenBucket

# Of a minute's requests of a user, so that they can't all be made at once; but there may always be so many a second.
SHARE_OF_MINUTE = 6
LEAST_PER_SECOND = 200
# Each that waits has a connection and a task, so that there must be an end to their number. No user comes to it before
# the limit of the minute.
MOST_SECONDS = float(SHARE_OF_MINUTE)
MOST_CALLERS = 10_000


class TooFast(HiveError):
    status = 429
    code = "too_many_requests"

    def __init__(self) -> None:
        super().__init__(
            "Too many of your requests wait for an answer; try again shortly.", headers={"Retry-After": "1"}
        )


class Pace:
    """Answers `per_second` requests of a caller, and has the others wait. 0 is any number.

    For addresses it bounds what is not counted, such as `/health`, and refusals, which cost about as much as an answer.
    For users it bounds how soon a minute's requests can be used up, for which all others would wait.

    Of more callers than there is room for, the least recently seen begins anew.
    """

    def __init__(
        self, per_second: int, *, seconds_at_once: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """After a pause so many seconds' worth is answered at once."""
        self._rate = float(per_second)
        self._at_once = per_second * seconds_at_once
        self._clock = clock
        self._buckets: LRUCache[str, TokenBucket] = LRUCache(MOST_CALLERS)

    @classmethod
    def of_users(cls, per_minute: int) -> "Pace":
        """For those who may make so many requests a minute. 0 is any number."""
        per_second = max(per_minute // SHARE_OF_MINUTE, LEAST_PER_SECOND) if per_minute else 0
        return cls(per_second, seconds_at_once=0.5)

    async def keep(self, caller: str, *, requests: int = 1) -> None:
        """Wait until it's time to answer the caller's next request, which costs as much as `requests`.

        Raises:
            TooFast: as many wait already as there may be.
        """
        if not self._rate:
            return
        now = self._clock()
        bucket = self._bucket_of(caller, now)
        seconds = bucket.spend_after(now, tokens=requests, most_seconds=MOST_SECONDS)
        if seconds is None:
            raise TooFast
        if seconds:
            await asyncio.sleep(seconds)

    def _bucket_of(self, caller: str, now: float) -> TokenBucket:
        if caller not in self._buckets:
            self._buckets[caller] = TokenBucket(self._rate, self._at_once, now)
        return self._buckets[caller]

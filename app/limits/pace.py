"""How fast one caller gets answers to requests that are refused, or that no limit counts."""

import asyncio
import time
from collections.abc import Callable

from app.core.errors import HiveError
from app.limits.budget import TokenBucket

# After a pause so many seconds' worth is answered at once.
SECONDS_AT_ONCE = 2.0
# Each that waits has a connection and a task, so that there must be an end to their number.
MOST_SECONDS = 4.0
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

    It bounds what costs little and is not refused, such as `/health`, and the refusals themselves: a refusal costs
    about as much as an answer. Of more callers than there is room for, the oldest begins anew.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = float(per_second)
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    async def keep(self, caller: str) -> None:
        """Wait until it's time to answer one more request of theirs.

        Raises:
            TooFast: as many wait already as there may be.
        """
        if not self._rate:
            return
        now = self._clock()
        bucket = self._bucket_of(caller, now)
        seconds = bucket.seconds_in_debt(now)
        if seconds > MOST_SECONDS:
            raise TooFast
        bucket.spend(1, now)
        if seconds:
            await asyncio.sleep(seconds)

    def _bucket_of(self, caller: str, now: float) -> TokenBucket:
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = TokenBucket(self._rate, self._rate * SECONDS_AT_ONCE, now)
            if len(self._buckets) > MOST_CALLERS:
                del self._buckets[next(iter(self._buckets))]
        return bucket

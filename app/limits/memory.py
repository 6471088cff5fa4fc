"""What one process counts by itself."""

import time
from collections.abc import Callable

from limits import RateLimitItem


class RecentHits:
    """Moving windows in memory, which nobody has to wait for.

    The library has some too, which clear up in threads, key by key, and give nothing back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hits: dict[str, list[float]] = {}
        self._cleared_at = clock()

    def hit(self, item: RateLimitItem, identifier: str) -> float:
        """Seconds until there is room; 0 if there was, and the hit is counted."""
        now = self._clock()
        self._clear_up(now, item.get_expiry())
        hits = self._hits.setdefault(item.key_for(identifier), [])
        hits[:] = [hit for hit in hits if hit > now - item.get_expiry()]
        if len(hits) >= item.amount:
            return hits[0] + item.get_expiry() - now
        hits.append(now)
        return 0.0

    def give_back(self, item: RateLimitItem, identifier: str) -> None:
        if hits := self._hits.get(item.key_for(identifier)):
            hits.pop()

    def __len__(self) -> int:
        """How many windows there are, open or past."""
        return len(self._hits)

    def _clear_up(self, now: float, seconds: int) -> None:
        """Forget the windows that are past, once in each."""
        if now - self._cleared_at > seconds:
            self._hits = {key: hits for key, hits in self._hits.items() if hits and hits[-1] > now - seconds}
            self._cleared_at = now

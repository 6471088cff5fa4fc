"""What one process counts by itself."""

import time
from collections.abc import Callable

from cachetools import TLRUCache

from app.limits.rules import Rule

# Those that were counted least recently go first: this is for when Redis is away, and for that alone.
MOST_LISTS = 50_000


class RecentHits:
    """Moving windows in memory, which nobody has to wait for. One that is past is forgotten.

    The library has some too, which clear up in threads, key by key, and give nothing back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: TLRUCache[tuple[Rule, str], list[float], float] = TLRUCache(MOST_LISTS, _end_of, clock)

    def hit(self, rule: Rule, identifier: str) -> float:
        """Seconds until there is room in all windows of the rule; 0 if there was, and the hit is counted."""
        now = self._clock()
        times = [time for time in self._times.get((rule, identifier), ()) if time > now - rule.seconds]
        waits = [times[-most] + seconds - now for most, seconds in rule.windows if len(times) >= most]
        if (wait := max(waits, default=0.0)) > 0:
            return wait
        self._times[rule, identifier] = [*times, now]
        return 0.0

    def give_back(self, rule: Rule, identifier: str) -> None:
        if times := self._times.get((rule, identifier)):
            times.pop()

    def count(self, rule: Rule, identifier: str) -> int:
        return len(self._times.get((rule, identifier), ()))

    def __len__(self) -> int:
        """How many lists there are."""
        return len(self._times)


def _end_of(key: tuple[Rule, str], _times: list[float], now: float) -> float:
    """When the windows are past, if there is no further hit."""
    rule, _identifier = key
    return now + rule.seconds

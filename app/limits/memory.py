"""What one process counts by itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from app.limits.rules import Rule

# The oldest ones go first: this is for when Redis is away, and for that alone.
MOST_LISTS = 50_000
CLEARED_EACH_SECONDS = 60


@dataclass(slots=True)
class _Hits:
    seconds: int
    times: list[float] = field(default_factory=list)


class RecentHits:
    """Moving windows in memory, which nobody has to wait for.

    The library has some too, which clear up in threads, key by key, and give nothing back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hits: dict[str, _Hits] = {}
        self._cleared_at = clock()

    def hit(self, rule: Rule, identifier: str) -> float:
        """Seconds until there is room in all windows of the rule; 0 if there was, and the hit is counted."""
        now = self._clock()
        self._clear_up(now)
        times = self._hits.setdefault(rule.key_for(identifier), _Hits(rule.seconds)).times
        times[:] = [time for time in times if time > now - rule.seconds]
        waits = [times[-most] + seconds - now for most, seconds in rule.windows if len(times) >= most]
        if (wait := max(waits, default=0.0)) > 0:
            return wait
        times.append(now)
        return 0.0

    def give_back(self, rule: Rule, identifier: str) -> None:
        hits = self._hits.get(rule.key_for(identifier))
        if hits and hits.times:
            hits.times.pop()

    def count(self, rule: Rule, identifier: str) -> int:
        hits = self._hits.get(rule.key_for(identifier))
        return len(hits.times) if hits else 0

    def __len__(self) -> int:
        """How many lists there are, of windows that are open or past."""
        return len(self._hits)

    def _clear_up(self, now: float) -> None:
        """Forget the windows that are past, once in a while."""
        if now - self._cleared_at > CLEARED_EACH_SECONDS:
            self._hits = {
                key: hits for key, hits in self._hits.items() if hits.times and hits.times[-1] > now - hits.seconds
            }
            self._cleared_at = now
        while len(self._hits) >= MOST_LISTS:
            del self._hits[next(iter(self._hits))]

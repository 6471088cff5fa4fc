"""Saying in the log what would otherwise be said a thousand times a second."""

import time
from collections.abc import Callable

from cachetools import LRUCache

SECONDS_BETWEEN = 30.0
MOST_TOPICS = 100
NEVER = float("-inf")


class Seldom:
    """Says the same of the same topic once in `SECONDS_BETWEEN`, and then how often it was left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When it was said, and how often it was left out since.
        self._topics: LRUCache[str, tuple[float, int]] = LRUCache(MOST_TOPICS)

    def times(self, topic: str) -> int | None:
        """How often it was left out since it was last said; None when it's to be left out again."""
        now = self._clock()
        said_at, left_out = self._topics.get(topic, (NEVER, 0))
        if now < said_at + SECONDS_BETWEEN:
            self._topics[topic] = said_at, left_out + 1
            return None
        self._topics[topic] = now, 0
        return left_out

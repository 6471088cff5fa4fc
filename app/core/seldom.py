"""Saying in the log what would otherwise be said a thousand times a second."""

import time
from collections.abc import Callable

SECONDS_BETWEEN = 30.0
MOST_TOPICS = 100


class Seldom:
    """Says the same of the same topic once in `SECONDS_BETWEEN`, and then how often it was left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def times(self, topic: str) -> int | None:
        """How often it was left out since it was last said; None when it's to be left out again."""
        now = self._clock()
        if now < self._said.get(topic, float("-inf")) + SECONDS_BETWEEN:
            self._left_out[topic] = self._left_out.get(topic, 0) + 1
            return None
        if len(self._said) >= MOST_TOPICS:
            self._said.clear()
        self._said[topic] = now
        return self._left_out.pop(topic, 0)

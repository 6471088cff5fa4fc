"""How often something may be tried."""

from dataclasses import dataclass

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Rule:
    """So many tries within so many seconds, for each pair of the two, the shortest time first.

    One list of times serves all pairs, so that a stranger who makes names up fills no more memory than by one.
    """

    namespace: str
    windows: tuple[tuple[int, int], ...]

    @property
    def most(self) -> int:
        return max(most for most, _ in self.windows)

    @property
    def seconds(self) -> int:
        return max(seconds for _, seconds in self.windows)

    def key_for(self, identifier: str) -> str:
        return f"{self.namespace}/{identifier}"

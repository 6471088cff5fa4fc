"""How much of everything is measured, and for how long."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.load.plan import Load, Request


@dataclass(frozen=True, slots=True)
class Extent:
    """`turns` is how often HIVE and its ceiling take turns, `seconds` how long each turn of a rate lasts."""

    turns: int = 3
    seconds: float = 4.0
    warm_up: float = 1.0
    connections: int = 32
    small: int = 1_000
    middle: int = 100_000
    large: int | None = 1_000_000
    ids: int = 20_000
    page: int = 1_800
    updates: int = 50_000
    sockets: int = 1_000
    people: int = 50
    changes: int = 160
    burst: int = 200
    events: int = 10_000
    jobs: int = 40
    starts: int = 3

    def load(self, ports: Sequence[int], requests: Sequence[Request]) -> Load:
        return Load(ports, requests, connections=self.connections, seconds=self.seconds, warm_up=self.warm_up)


WHOLE = Extent()
# For the tests: it shows that everything works, and says nothing of how fast.
SHORT = Extent(
    turns=1,
    seconds=0.3,
    warm_up=0.1,
    connections=4,
    small=200,
    middle=1_000,
    large=None,
    ids=50,
    page=3,
    updates=200,
    sockets=20,
    people=4,
    changes=8,
    burst=10,
    events=240,
    jobs=2,
    starts=1,
)

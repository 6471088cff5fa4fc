"""How much a scenario does, and what it says of it."""

import sys
import time
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """`scale(5_000, short=500)` is the first one under `make chaos`, the second one in the whole suite.

    So are the seconds within which something has to happen: only `make chaos` has the machine to itself.
    """

    is_full: bool

    def __call__(self, full: T, *, short: T) -> T:
        return full if self.is_full else short


@dataclass
class Report:
    """What a scenario did and counted, line by line; written when it's over, however it went."""

    title: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, what: str, figure: object) -> None:
        self.lines.append((what, f"{figure:,}" if isinstance(figure, int) else str(figure)))

    def write(self) -> None:
        seconds = time.monotonic() - self.started
        width = max((len(what) for what, _ in self.lines), default=0)
        told = [f"  {what:<{width}}  {figure}" for what, figure in self.lines]
        sys.stdout.write("\n".join(["", f"{self.title} ({seconds:.0f} s)", *told, ""]))

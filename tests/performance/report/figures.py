"""What was measured: HIVE's figure, the ceiling beside it, and the goal."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """The smaller, the better. `ceiling` is what the same machine does in the same minutes without HIVE's code."""

    name: str
    unit: str
    hive: float
    ceiling: float
    goal: float

    @property
    def is_met(self) -> bool:
        return self.hive <= self.goal

    @property
    def ratio(self) -> float:
        return self.hive / self.ceiling if self.ceiling else float("inf")

    def __str__(self) -> str:
        verdict = "met" if self.is_met else "MISSED"
        values = f"{self.hive:>9.2f}{self.ceiling:>9.2f}{self.ratio:>8.1f}{self.goal:>8.0f}"
        return f"{self.name:<40}{values}  {self.unit:<5}{verdict}"


def table_of(figures: Sequence[Figure]) -> str:
    heading = f"{'figure':<40}{'HIVE':>9}{'ceiling':>9}{'ratio':>8}{'goal':>8}"
    return "\n".join([heading, *(str(figure) for figure in figures)])

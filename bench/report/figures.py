"""What was measured: HIVE's figure, what it's held against, and the goal."""

from dataclasses import dataclass
from enum import StrEnum


class Better(StrEnum):
    MORE = "more"
    LESS = "less"


class GoalOf(StrEnum):
    """What the goal is a bound of: the figure itself, or its ratio to what it's held against."""

    VALUE = "value"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `against` names what `reference` is the figure of: a ceiling, or another of HIVE's.

    Of rates it also tells how long an answer took, and how much of the processor the server's process used for one.
    """

    group: str
    name: str
    unit: str
    value: float
    better: Better
    against: str = ""
    reference: float | None = None
    goal: float | None = None
    goal_of: GoalOf = GoalOf.RATIO
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference if self.reference else None

    @property
    def judged(self) -> float | None:
        """What the goal is a bound of."""
        return self.ratio if self.goal_of is GoalOf.RATIO else self.value

    @property
    def is_met(self) -> bool | None:
        """None when there is no goal, or nothing to hold against it."""
        if self.goal is None or self.judged is None:
            return None
        return self.judged >= self.goal if self.better is Better.MORE else self.judged <= self.goal

    @property
    def attainment(self) -> float | None:
        """How much of the goal is reached; 1 and more is met, whichever is better."""
        if self.goal is None or self.judged is None:
            return None
        reached, wanted = (self.judged, self.goal) if self.better is Better.MORE else (self.goal, self.judged)
        return reached / wanted if wanted else float("inf")

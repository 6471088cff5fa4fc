"""Figures in lines for people at a terminal."""

from collections.abc import Sequence

from bench.report.figures import Better, Figure, GoalOf

NAME_WIDTH = 62
HEADING = (
    f"{'what':<{NAME_WIDTH}}{'HIVE':>10}{'':>6}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>8}"
    f"{'against':>10}{'ratio':>8}{'goal':>10}  {'':<7}what it is held against"
)


def table_of(figures: Sequence[Figure]) -> str:
    lines = [HEADING]
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            lines.append(f"-- {group}")
        lines.append(line_of(figure))
    return "\n".join(lines)


def line_of(figure: Figure) -> str:
    return (
        f"{figure.name:<{NAME_WIDTH}}{short(figure.value):>10}{' ' + figure.unit:<6}"
        f"{short(figure.p50_ms):>9}{short(figure.p99_ms):>9}{short(figure.cpu_us):>8}"
        f"{short(figure.reference):>10}{short(figure.ratio):>8}{goal_of(figure):>10}  "
        f"{verdict_of(figure):<7}{figure.against}"
    ).rstrip()


def goal_of(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    sign = "≥" if figure.better is Better.MORE else "≤"
    return f"{sign} {short(figure.goal)}{' ×' if figure.goal_of is GoalOf.RATIO else ''}"


def verdict_of(figure: Figure) -> str:
    return {True: "met", False: "MISSED", None: ""}[figure.is_met]


def short(value: float | None) -> str:
    """With three digits that count, as more would be noise."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

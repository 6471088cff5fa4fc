"""Two runs side by side.

    make bench-compare
    make bench-compare A=bench-results/….json B=bench-results/….json

Without names it takes the last two. Ratios are compared where there are any: between two runs the machine may have
been busy with something else, within one it was the same for both.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.report.figures import Figure
from bench.report.results import Results, last_two
from bench.report.table import NAME_WIDTH, goal_of, short, verdict_of


def comparison_of(before: Results, after: Results) -> str:
    heading = f"{'what':<{NAME_WIDTH}}{'A':>10}{'B':>10}{'B / A':>8}{'ratio A':>9}{'ratio B':>9}{'goal':>10}  verdict"
    told = [f"{name}: {_side_by_side(name, before, after)}" for name in before.circumstances]
    return "\n".join([*told, heading, *_lines(before, after)])


def _lines(before: Results, after: Results) -> Iterator[str]:
    earlier = {figure.name: figure for figure in before.figures}
    for figure in after.figures:
        yield _line(earlier.pop(figure.name, None), figure)
    for figure in earlier.values():
        yield f"{figure.name:<{NAME_WIDTH}}{short(figure.value):>10}{'-':>10}"


def _line(earlier: Figure | None, figure: Figure) -> str:
    values = (earlier.value if earlier else None, figure.value)
    change = figure.value / earlier.value if earlier and earlier.value else None
    ratios = (earlier.ratio if earlier else None, figure.ratio)
    return (
        f"{figure.name:<{NAME_WIDTH}}{short(values[0]) or '-':>10}{short(values[1]):>10}{short(change):>8}"
        f"{short(ratios[0]):>9}{short(ratios[1]):>9}{goal_of(figure):>10}  {_verdict(earlier, figure)}"
    ).rstrip()


def _verdict(earlier: Figure | None, figure: Figure) -> str:
    now = verdict_of(figure)
    if earlier is None or verdict_of(earlier) == now:
        return now
    return f"{now}, was {verdict_of(earlier) or 'without a goal'}"


def _side_by_side(name: str, before: Results, after: Results) -> str:
    first, second = before.circumstances[name], after.circumstances.get(name, "-")
    return first if first == second else f"{first} | {second}"


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Set two results of the benchmark side by side; the last two.")
    parser.add_argument("--a", type=Path, help="a file of bench-results/")
    parser.add_argument("--b", type=Path, help="another one, which is judged against the first")
    arguments = parser.parse_args()
    if (arguments.a is None) != (arguments.b is None):
        parser.error("name both, or none for the last two")
    try:
        a, b = (arguments.a, arguments.b) if arguments.a else last_two()
        told = comparison_of(Results.read(a), Results.read(b))
    except FileNotFoundError as error:
        sys.stderr.write(f"bench-compare: {error}\n")
        return 1
    sys.stdout.write(f"A is {a}\nB is {b}\n{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A picture of one run: how much of its goal each figure reaches."""

from collections.abc import Iterator, Sequence
from html import escape

from bench.report.figures import Figure
from bench.report.table import goal_of, short

ROW, TOP, NAMES, WIDTH, MARGIN = 22, 64, 430, 420, 330
# Further is drawn no further.
MOST = 2.0
GOOD, BAD, INK, FAINT = "#2f7d4f", "#b5482f", "#222222", "#bbbbbb"


def chart_of(figures: Sequence[Figure], *, title: str) -> str:
    """SVG: a bar for each figure that has a goal, which is at the line."""
    shown = [figure for figure in figures if figure.attainment is not None]
    height = TOP + ROW * len(shown) + 20
    width = NAMES + WIDTH + MARGIN
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            text(20, 26, title, size=16),
            *(part for number, figure in enumerate(shown) for part in _row(figure, TOP + ROW * number)),
            *_goal_line(height),
            "</svg>",
            "",
        ]
    )


def _row(figure: Figure, y: int) -> Iterator[str]:
    assert figure.attainment is not None
    length = WIDTH * min(figure.attainment, MOST) / MOST
    yield text(NAMES - 10, y + 15, figure.name, anchor="end")
    colour = GOOD if figure.is_met else BAD
    yield f'<rect x="{NAMES}" y="{y + 3}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
    told = f"{short(figure.value)} {figure.unit}"
    if figure.ratio is not None:
        told += f", {short(figure.ratio)} ×"
    yield text(NAMES + WIDTH + 10, y + 15, f"{told} (goal {goal_of(figure)})")


def _goal_line(height: int) -> Iterator[str]:
    x = NAMES + WIDTH / MOST
    yield f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height - 16}" stroke="{FAINT}" stroke-width="2"/>'
    yield text(x, TOP - 14, "goal", anchor="middle")


def text(x: float, y: float, content: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x}" y="{y}" fill="{INK}" text-anchor="{anchor}" font-size="{size}">{escape(content)}</text>'

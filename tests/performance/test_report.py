"""What becomes of figures: the table, the file, the picture, the comparison."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.report.chart import BAD, GOOD, chart_of
from bench.report.comparison import comparison_of
from bench.report.figures import Better, Figure, GoalOf
from bench.report.results import Results, last_two
from bench.report.table import short, table_of

RATE = Figure("reads", "task by id", "/s", 500.0, Better.MORE, "bare <Starlette>", 1000.0, 0.45, p50_ms=1.5, p99_ms=3.0)
MISSED = Figure("delay", "commit to socket", "ms", 15.1, Better.LESS, "bare", 3.0, 15.0, GoalOf.VALUE)
FREE = Figure("memory", "API process", "MiB", 100.0, Better.LESS)


def test_a_goal_is_met_up_to_its_value_and_missed_beyond() -> None:
    assert RATE.is_met
    assert replace(RATE, value=450.0).is_met
    assert replace(RATE, value=449.0).is_met is False
    assert MISSED.is_met is False
    assert replace(MISSED, value=15.0).is_met
    assert FREE.is_met is None


def test_the_table_has_a_line_for_each_figure_and_a_heading_for_each_group() -> None:
    lines = table_of([RATE, MISSED, FREE]).splitlines()

    assert [line for line in lines if line.startswith("-- ")] == ["-- reads", "-- delay", "-- memory"]
    task = next(line for line in lines if line.startswith("task by id"))
    assert task.split() == [
        "task",
        "by",
        "id",
        "500",
        "/s",
        "1.50",
        "3.00",
        "1,000",
        "0.50",
        "≥",
        "0.45",
        "×",
        "met",
        "bare",
        "<Starlette>",
    ]
    assert "MISSED" in next(line for line in lines if line.startswith("commit to socket"))


@pytest.mark.parametrize(("value", "told"), [(None, ""), (0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234")])
def test_numbers_have_three_digits(value: float | None, told: str) -> None:
    assert short(value) == told


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = Results.of([RATE, MISSED, FREE], options="all")

    assert Results.read(results.write(tmp_path)) == results
    assert results.missed == ["commit to socket"]


def test_the_last_two_results_are_found_by_their_time(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        last_two(tmp_path)
    results = Results.of([RATE], options="all")
    days = ("2026-01-02", "2026-01-03", "2026-01-01")
    written = {
        day: replace(results, circumstances={**results.circumstances, "at": f"{day}T00:00:00"}).write(tmp_path)
        for day in days
    }

    assert last_two(tmp_path) == (written["2026-01-02"], written["2026-01-03"])


def test_the_chart_is_a_picture_of_every_goal() -> None:
    picture = ET.fromstring(chart_of([RATE, MISSED, FREE], title="a & b"))

    bars = [bar.get("fill") for bar in picture.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert bars == [GOOD, BAD]
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & b", "task by id", "commit to socket"} <= set(texts)
    assert "API process" not in texts


def test_a_comparison_tells_what_has_changed() -> None:
    before = Results.of([RATE, MISSED], options="all")
    after = Results.of([replace(RATE, value=400.0), FREE], options="all")

    lines = comparison_of(before, after).splitlines()

    task, api, gone = lines[-3:]
    assert task.split()[3:] == ["500", "400", "0.80", "0.50", "0.40", "≥", "0.45", "×", "MISSED,", "was", "met"]
    assert api.split()[2:] == ["-", "100"]
    assert gone.startswith("commit to socket")

"""Fixtures of the scenarios that damage a running HIVE; see `system.py`."""

from collections.abc import Iterator

import pytest

from tests.reliability.scale import Report, Scale

FULL_SCALE_SECONDS = 1200
# They take some ten, but they are whole systems, and the machine may be busy.
SHORT_SECONDS = 600


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the scenarios the time that they need."""
    seconds = FULL_SCALE_SECONDS if config.getoption("--chaos") else SHORT_SECONDS
    for item in items:
        if item.get_closest_marker("reliability"):
            item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Scale:
    return Scale(is_full=request.config.getoption("--chaos"))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    report = Report(request.node.name.removeprefix("test_").replace("_", " "))
    yield report
    report.write()

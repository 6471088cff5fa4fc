"""What machines make takes its time."""

import pytest

LONG_SECONDS, SHORT_SECONDS = 1500, 120


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the tests the time that they need."""
    seconds = LONG_SECONDS if config.getoption("--fuzz") else SHORT_SECONDS
    for item in items:
        if item.get_closest_marker("fuzz"):
            item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for all of it."""
    return bool(request.config.getoption("--fuzz"))

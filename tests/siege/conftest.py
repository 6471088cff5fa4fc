"""Fixtures of the siege: one HIVE, and how large the attacks are."""

import pytest

FULL_SCALE_SECONDS = 3600


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--siege"):
        for item in items:
            if item.get_closest_marker("siege"):
                item.add_marker(pytest.mark.timeout(FULL_SCALE_SECONDS))


@pytest.fixture
def is_full_siege(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--siege"))


@pytest.fixture
def only(request: pytest.FixtureRequest) -> frozenset[str]:
    """The names of the attacks that are to be made; all if there are none."""
    return frozenset(filter(None, request.config.getoption("--attack").split(",")))

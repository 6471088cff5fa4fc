"""Fixtures of the siege: one HIVE, and how large the attacks are."""

import pytest

FULL_SCALE_SECONDS = 3600


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the short form or the full one, for `make test` or `make siege`."""
    is_full = config.getoption("--siege")
    others = []
    for item in items:
        if item.get_closest_marker("full_siege" if is_full else "siege"):
            item.add_marker(pytest.mark.timeout(FULL_SCALE_SECONDS))
        if item.get_closest_marker("short_siege" if is_full else "full_siege"):
            others.append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture
def only(request: pytest.FixtureRequest) -> frozenset[str]:
    """The names of the attacks that are to be made; all if there are none."""
    return frozenset(filter(None, request.config.getoption("--attack").split(",")))

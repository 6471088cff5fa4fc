import pytest


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for all of it."""
    return bool(request.config.getoption("--fuzz"))

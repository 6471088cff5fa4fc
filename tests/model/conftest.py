"""How long the machine runs, and how much it does."""

import pytest
from hypothesis import Phase, settings

# What goes wrong is printed, with a line that has it come again. Each run is made anew: hypothesis's own way to make
# them is to copy parts of one over others, and with few runs, of which each costs a second, they don't get far.
RUNS = settings(deadline=None, database=None, print_blob=True, backend="hypothesis-urandom")
SHORT = settings(RUNS, max_examples=20, stateful_step_count=40, phases=[Phase.generate])
# What goes wrong is made shorter here, which takes minutes.
LONG = settings(RUNS, max_examples=500, stateful_step_count=50, phases=[Phase.generate, Phase.shrink])

LONG_SECONDS = 3600
# It takes some ten, but the machine may be busy.
SHORT_SECONDS = 120


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the machine the time that it needs."""
    seconds = LONG_SECONDS if config.getoption("--fuzz") else SHORT_SECONDS
    for item in items:
        if item.path.parent.name == "model":
            item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture
def runs(request: pytest.FixtureRequest) -> settings:
    return LONG if request.config.getoption("--fuzz") else SHORT

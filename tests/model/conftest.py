"""How much the machine does."""

import pytest
from hypothesis import Phase, settings

# What goes wrong is printed, with a line that has it come again. Each run is made anew: hypothesis's own way to make
# them is to copy parts of one over others, and with few runs, of which each costs a second, they don't get far.
RUNS = settings(deadline=None, database=None, print_blob=True, backend="hypothesis-urandom")
SHORT = settings(RUNS, max_examples=20, stateful_step_count=40, phases=[Phase.generate])
# What goes wrong is made shorter here, which takes minutes.
LONG = settings(RUNS, max_examples=500, stateful_step_count=50, phases=[Phase.generate, Phase.shrink])


@pytest.fixture
def runs(request: pytest.FixtureRequest) -> settings:
    return LONG if request.config.getoption("--fuzz") else SHORT

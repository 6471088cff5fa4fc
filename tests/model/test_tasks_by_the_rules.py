"""Tasks, by the rules: whatever people do to them, and wherever their clients die."""

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from app.config import Settings
from tests.conftest import RunningSystem
from tests.model.hive import Hive
from tests.model.machine import Machine


@pytest.mark.committed
@pytest.mark.fuzz
@pytest.mark.usefixtures("sessions")
def test_every_answer_row_and_event_is_as_the_rules_have_it(
    running_system: RunningSystem, settings: Settings, database_url: str, runs: hypothesis.settings
) -> None:
    with Hive(running_system.address, settings, database_url) as Machine.hive:
        run_state_machine_as_test(Machine, settings=runs)

"""What HIVE promises, shown on a running system whose parts are killed."""

import pytest

# So that a failing assertion in these says what it compared, as in the tests themselves.
pytest.register_assert_rewrite("tests.reliability.log", "tests.reliability.parts", "tests.reliability.state")

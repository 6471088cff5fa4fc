"""HIVE against its rules: random requests to a running system, each compared with what the rules say of it."""

import pytest

# So that a failing assertion in these says what it compared, as in the tests themselves.
pytest.register_assert_rewrite("tests.model.chronicle", "tests.model.machine", "tests.model.system")

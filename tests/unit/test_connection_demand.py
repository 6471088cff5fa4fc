"""How many connections the processes may want whose names PostgreSQL shows."""

import pytest

from app.db.demand import Demand, name_of_connections, wanted_by


def test_each_process_counts_once_however_many_connections_it_has() -> None:
    api, other_api, worker = (name_of_connections(*named) for named in (("api", 10), ("api", 10), ("worker", 2)))

    assert wanted_by([api, api, other_api, worker, worker]) == 22


@pytest.mark.parametrize("name", ["hive check", "hive api", "psql", "hive api 10", "hive api abcdef/x"])
def test_names_without_a_number_count_nothing(name: str) -> None:
    assert wanted_by([name]) == 0


def test_only_what_is_short_says_what_to_do() -> None:
    assert "max_connections" in Demand(wanted=98, available=97).sentence
    assert "max_connections" not in Demand(wanted=97, available=97).sentence

"""What HIVE needs of a Redis that gives it an account with few rights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import ROOT
from tests.utils.own_valkey import running_valkey
from tests.utils.processes import HiveProcess, measured
from tests.utils.test_utils import wait_until

WORKERS_KEY = "hive:workers"
# The line of the ACL that the document gives.
HIVE_USER = next(
    line.strip() for line in (ROOT / "docs" / "redis.md").read_text().splitlines() if line.startswith("    user hive ")
)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with running_valkey(tmp_path, "user default on nopass ~* &* +@all", HIVE_USER) as port:
        yield port


@pytest.fixture
def environment(port: int, database_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": f"redis://hive:secret@127.0.0.1:{port}/0",
        "HIVE_DATA_DIR": str(tmp_path / "data"),
        "WORKER_CONCURRENCY": "1",
    } | measured()


def test_a_worker_consumes_with_the_rights_of_hives_own_names(port: int, environment: dict[str, str]) -> None:
    with HiveProcess(["-m", "app.cli", "worker"], environment) as worker, redis.Redis(port=port) as admin:

        def has_signed() -> bool:
            assert worker.process.poll() is None, worker.output
            return bool(admin.zcard(WORKERS_KEY))

        wait_until(has_signed, what="a sign of life")

        assert admin.acl_log() == []


def test_a_worker_that_cannot_consume_leaves_no_sign_of_life(port: int, environment: dict[str, str]) -> None:
    with redis.Redis(port=port) as admin:
        # It may do all but take what it's sent.
        admin.execute_command("ACL SETUSER", "hive", "-brpop")
        with HiveProcess(["-m", "app.cli", "worker"], environment) as worker:
            wait_until(lambda: worker.process.poll() is not None, what="its end")
            assert "NoPermissionError" in worker.output

        assert admin.zcard(WORKERS_KEY) == 0

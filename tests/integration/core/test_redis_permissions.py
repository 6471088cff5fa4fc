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


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        (["-brpop"], "may not run the command BRPOP"),
        (["resetchannels"], "may not use one of HIVE's channels"),
        (["resetkeys", "~other:*"], "may not use one of HIVE's keys"),
    ],
)
def test_a_worker_without_a_right_says_which_and_leaves_no_sign(
    port: int, environment: dict[str, str], rights: list[str], told: str
) -> None:
    with redis.Redis(port=port) as admin:
        admin.execute_command("ACL SETUSER", "hive", *rights)
        with HiveProcess(["-m", "app.cli", "worker"], environment) as worker:
            wait_until(lambda: worker.process.poll() is not None, what="its end")

            assert worker.process.returncode == 1
            assert worker.output.startswith("hive: The user of Redis ")
            assert told in worker.output
            assert worker.output.count("\n") == 1
        assert admin.zcard(WORKERS_KEY) == 0


def test_the_doctor_tries_each_right(port: int, environment: dict[str, str]) -> None:
    with redis.Redis(port=port) as admin:
        admin.execute_command("ACL SETUSER", "hive", "-xadd")
    with HiveProcess(["-m", "app.cli", "doctor"], environment) as doctor:
        wait_until(lambda: doctor.process.poll() is not None, what="its end")

        lines = doctor.output.splitlines()
    assert [line for line in lines if line.startswith("FAIL  Redis: to keep events in hive:check:*")]
    assert "ok    Redis: HIVE may keep the queue of jobs in hive:celery:check:*" in lines
    assert "ok    PostgreSQL: can be used" in lines

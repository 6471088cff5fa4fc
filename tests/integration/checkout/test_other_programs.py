"""Alembic, Uvicorn and Celery, run by themselves: what is wrong is told in a sentence there too, with an exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.utils.processes import free_port, run_program
from tests.utils.test_utils import PATIENCE

ALEMBIC = ["-m", "alembic", "upgrade", "head"]
UVICORN = ["-m", "uvicorn", "app.main:app"]
AWAY = {"DATABASE_URL": "postgresql://ada:geheim@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}


def ended(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    port = ["--port", str(free_port())] if command is UVICORN else []
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment
    return run_program([*command, *port], environment, cwd=ROOT)


@pytest.mark.parametrize(
    ("command", "environment", "told"),
    [
        (ALEMBIC, {"ENVIRONMENT": "production"}, "SECRET_KEY is missing"),
        (UVICORN, {"ENVIRONMENT": "production"}, "hive: HIVE can't start with these settings: SECRET_KEY is missing"),
        (ALEMBIC, {"HIVE_DATA_DIR": "FILE"}, "can't be kept: "),
        (UVICORN, {"HIVE_DATA_DIR": "FILE"}, "hive: The secrets in HIVE_DATA_DIR can't be kept: "),
        (UVICORN, AWAY | {"REDIS_URL": "redis://127.0.0.1:none"}, "hive: REDIS_URL "),
        (ALEMBIC, AWAY, "Nothing listens at the address in DATABASE_URL"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    command: list[str], environment: dict[str, str], told: str, tmp_path: Path
) -> None:
    a_file = tmp_path / "file"
    a_file.touch()
    given = {name: value.replace("FILE", str(a_file)) for name, value in environment.items()}

    outcome = ended(command, {"HIVE_DATA_DIR": str(tmp_path)} | given)

    said = outcome.stdout + outcome.stderr
    assert outcome.returncode not in {0, None}, said
    assert told in said
    assert "Traceback" not in said
    assert "geheim" not in said


def test_a_refused_worker_ends_with_a_sentence_and_starts_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "celery", "-A", "app.workers.celery_app", "worker", "--pool=threads"]
    environment = {"PATH": os.environ["PATH"], "HIVE_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("hive: a worker can't have the pool threads: ")
    assert ended.stderr.count("\n") == 1
    assert {entry.name for entry in tmp_path.iterdir()} <= {"secrets.json"}

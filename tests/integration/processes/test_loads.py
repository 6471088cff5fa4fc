"""What the programs load. Each module costs time at every start, and memory in every process for as long as it runs."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import sys, {module}
print(*{{name.partition(".")[0] for name in sys.modules}})
"""


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("app.processes.api", {"alembic", "celery", "kombu"}),
        ("app.processes.relay", {"alembic", "fastapi", "starlette", "uvicorn"}),
        ("app.processes.scheduler", {"alembic", "fastapi", "starlette", "uvicorn", "celery", "redis"}),
        ("app.workers.tasks", {"alembic", "fastapi", "starlette", "uvicorn", "websockets"}),
        ("app.cli, app.revisions", {"alembic", "sqlalchemy", "fastapi", "celery", "redis", "structlog"}),
    ],
)
def test_a_program_loads_only_what_it_uses(module: str, never: set[str]) -> None:
    program = PROGRAM.format(module=module)
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert module.partition(".")[0] in loaded
    assert not never & set(loaded)

"""What processes that start at once agree on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import load_settings
from tests.conftest import ROOT
from tests.utils.test_utils import PATIENCE


def test_processes_that_start_at_once_have_the_same_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It has no `.env`.
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", "from app.config import load_settings; print(load_settings().jwt_key)"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

    started = [
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    found = {process.communicate(timeout=PATIENCE)[0] for process in started}

    assert len(found) == 1
    assert found == {load_settings().jwt_key + "\n"}

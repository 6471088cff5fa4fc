"""The unit of systemd, as systemd reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.utils.systemd import documented_unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "hive@api.service"
    # There needn't be such a program on this machine.
    path.write_text(documented_unit().replace("/opt/hive/.venv/bin/hive", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False, timeout=60
    )

    assert [line for line in verified.stderr.splitlines() if str(tmp_path) in line or "hive@" in line] == []

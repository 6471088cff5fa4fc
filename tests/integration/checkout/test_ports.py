"""The ports on which the tests let programs listen."""

import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.utils import processes
from tests.utils.processes import free_port

ASK = "from tests.utils import processes; processes.PORTS = {ports}; print(processes.free_port())"


def test_a_port_is_given_once_and_never_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given, left = free_port(), range(32_001, 32_100)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = [given, server.getsockname()[1], *left]
        program = ASK.format(ports=ports)

        other = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

        assert int(other.stdout) in left
        monkeypatch.setattr(processes, "PORTS", ports)
        mine = {free_port() for _ in range(10)}
    assert len(mine) == 10
    assert mine <= set(left)

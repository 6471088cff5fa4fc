"""What the tests start by forking can't be told from what is started by itself."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.utils.forked import ForkedProgram, can_be_forked
from tests.utils.processes import HiveProcess
from tests.utils.test_utils import PATIENCE, wait_until

TELLING = """
import json, os, signal, sys, threading
signals = {number: str(signal.getsignal(number)) for number in signal.valid_signals()}
kinds = [os.readlink(f"/proc/self/fd/{number}").partition(":")[0] for number in range(3)]
environment = {name: value for name, value in os.environ.items() if name != "LC_CTYPE"}
loaded = sorted(name for name in sys.modules if name.partition(".")[0] in {"app", "tests"})
told = [sys.argv, os.getcwd(), environment, signals, kinds, len(os.listdir("/proc/self/fd")), loaded, __name__]
told += [threading.active_count(), sys.path[:2], os.getsid(0), os.getpgid(0), sys.stdout.encoding]
print(json.dumps(told))
sys.exit(7)
"""
WAITING = """
import atexit, signal, sys, time
atexit.register(print, "ended")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("waiting", flush=True)
time.sleep(600)
"""


def forked(folder: Path, program: str, environment: dict[str, str]) -> ForkedProgram:
    (folder / "program.py").write_text(program)
    with (folder / "output").open("wb") as output, Path(os.devnull).open("rb") as nothing:
        files = (nothing, output, output)
        return ForkedProgram(["-m", "program", "a", "b"], environment, cwd=str(folder), files=files)


@pytest.fixture
def waiting(tmp_path: Path) -> ForkedProgram:
    program = forked(tmp_path, WAITING, {})
    wait_until(lambda: "waiting" in (tmp_path / "output").read_text(), what="the program to run")
    return program


def test_it_sees_what_a_program_sees_that_is_started_by_itself(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "HIVE_DATA_DIR": "/nowhere", "PYTHONPATH": "/first"}

    program = forked(tmp_path, TELLING, environment)

    assert program.wait(PATIENCE) == 7
    command = [sys.executable, "-m", "program", "a", "b"]
    null, stdout = subprocess.DEVNULL, subprocess.STDOUT
    with (tmp_path / "other").open("wb") as out:
        other = subprocess.run(
            command, env=environment, cwd=tmp_path, stdin=null, stdout=out, stderr=stdout, check=False
        )
    assert other.returncode == 7
    told, told_by_other = ((tmp_path / name).read_text().replace("/other", "/output") for name in ("output", "other"))
    assert json.loads(told) == json.loads(told_by_other)


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGTERM, 3, "ended"), (signal.SIGKILL, -9, "")])
def test_it_gets_signals_and_has_an_exit_code(
    waiting: ForkedProgram, tmp_path: Path, number: signal.Signals, code: int, said: str
) -> None:
    assert waiting.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0)

    waiting.send_signal(number)

    assert waiting.wait(PATIENCE) == code
    assert waiting.poll() == waiting.returncode == code
    assert (tmp_path / "output").read_text() == f"waiting\n{said}".rstrip() + "\n"
    assert not Path(f"/proc/{waiting.pid}").exists()


def test_a_fault_is_told_with_its_stack(tmp_path: Path) -> None:
    assert forked(tmp_path, "raise ValueError('broken')", {}).wait(PATIENCE) == 1
    assert (tmp_path / "output").read_text().rstrip().endswith("ValueError: broken")


def test_programs_of_hive_are_forked_unless_their_start_is_what_is_tested(hive_environment: dict[str, str]) -> None:
    relay = ["-m", "app.cli", "relay"]
    assert can_be_forked(relay, hive_environment)
    assert not can_be_forked(relay, hive_environment | {"PYTHONUTF8": "1"})
    assert not can_be_forked(["-m", "app.cli", "run"], hive_environment)

    with HiveProcess(relay, hive_environment | {"LOG_LEVEL": "nonsense"}) as refused:
        assert isinstance(refused.process, ForkedProgram)
        assert refused.wait() == 1
        said = refused.output
    assert "LOG_LEVEL" in said
    with HiveProcess(relay, hive_environment | {"LOG_LEVEL": "nonsense"}, may_be_forked=False) as started:
        assert isinstance(started.process, subprocess.Popen)
        assert started.wait() == 1
        assert started.output == said

"""The supervisor: real processes, really killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.embedded.process import is_zombie, process_ids
from app.processes import supervisor
from app.processes.stopping import STOP_SIGNALS
from tests.utils.test_utils import wait_until

CHECKOUT = Path(supervisor.__file__).parents[1]

PROGRAM = r"""
import os
import sys
from app.processes import supervisor
from app.processes.supervisor import Part, Supervisor
supervisor.PATIENCE = 60

def announce(line):
    # Past Python's buffer, which would fail once more at the end when nobody reads it any longer.
    os.write(1, (line + "\n").encode())

def part(name, code, **options):
    program = "import os, signal, sys, time\n" + code
    return Part(name, [sys.executable, "-c", program, sys.argv[1]], **options)

{setup}
sys.exit(running.run())
"""

# For parts that don't end when they are asked to.
SHORT = "supervisor.PATIENCE = 0.5\n"

# A part that writes down that it is ready, and how it was asked to end.
STEADY = """
def end(number, frame):
    open(sys.argv[1] + "/asked", "a").write(str(number))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
open(sys.argv[1] + "/ready", "w").close()
time.sleep(600)
"""

# A part that ends when it may.
SLOW = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1] + "/ready", "w").close()
while not os.path.exists(sys.argv[1] + "/may-end"):
    time.sleep(0.01)
open(sys.argv[1] + "/asked", "a").write("in good order")
"""

STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1] + "/ready", "w").close()
time.sleep(600)
"""

# Its own child outlives it, in the same process group.
PARENT = """
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1] + "/ready", "w").close()
    time.sleep(600)
time.sleep(600)
"""


class Supervised:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def start(self, setup: str) -> subprocess.Popen[str]:
        program = PROGRAM.replace("{setup}", setup)
        command = [sys.executable, "-c", program, str(self.folder)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def wait_until_ready(self) -> None:
        wait_until((self.folder / "ready").exists, what="the part to be ready")

    @property
    def signals_received(self) -> str:
        asked = self.folder / "asked"
        return asked.read_text() if asked.exists() else ""

    @property
    def processes(self) -> set[int]:
        """The parts, and what they have started; not the supervisor itself."""
        return {pid for pid in process_ids() if is_part(pid, self.folder)}


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with ExitStack() as stack:
        yield Supervised(tmp_path, stack)
    supervised = Supervised(tmp_path, stack)
    wait_until(lambda: not supervised.processes, what="the end of all parts")


def single(code: str, **options: object) -> str:
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"running = Supervisor([part('api', {code!r}{arguments})], announce)"


def test_ctrl_c_ends_the_parts_in_good_order(supervised: Supervised) -> None:
    process = supervised.start(single(STEADY))
    supervised.wait_until_ready()
    # As a terminal does: to the whole foreground process group.
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate()
    assert (process.returncode, said, errors) == (0, "", "")
    assert supervised.signals_received == str(int(signal.SIGTERM)), "the part itself did not see the Ctrl-C"
    assert not supervised.processes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_other_signals_end_it_as_well(supervised: Supervised, number: signal.Signals) -> None:
    process = supervised.start(single(STEADY))
    supervised.wait_until_ready()
    process.send_signal(number)
    assert process.wait() == 0
    assert not supervised.processes


def test_a_killed_supervisor_takes_its_parts_along(supervised: Supervised) -> None:
    process = supervised.start(single(STUBBORN))
    supervised.wait_until_ready()
    process.kill()
    wait_until(lambda: not supervised.processes, what="the end of the parts")


def test_a_stubborn_part_is_killed(supervised: Supervised) -> None:
    process = supervised.start(SHORT + single(STUBBORN))
    supervised.wait_until_ready()
    process.terminate()
    said, _ = process.communicate()
    assert (process.returncode, said) == (0, "Did not stop in time and is killed: api.\n")
    assert not supervised.processes


def test_a_second_ctrl_c_does_not_wait(supervised: Supervised) -> None:
    process = supervised.start("supervisor.IMPATIENCE = 0\n" + single(STUBBORN))
    supervised.wait_until_ready()
    signal_twice(process, signal.SIGINT)
    assert process.wait() == 0
    assert not supervised.processes


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_one_request_that_comes_twice_is_no_impatience(supervised: Supervised, number: signal.Signals) -> None:
    """A service manager and a terminal that closes send a signal more than once, or one after another."""
    process = supervised.start("supervisor.IMPATIENCE = 60\n" + single(SLOW))
    supervised.wait_until_ready()
    signal_twice(process, number)
    (supervised.folder / "may-end").touch()
    said, _ = process.communicate()
    assert (process.returncode, said) == (0, "")
    assert supervised.signals_received == "in good order"


def signal_twice(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    for _ in range(2):
        process.send_signal(number)
        # One pending signal takes up the next of the same number, so that the first has to be seen.
        wait_until(lambda: process.poll() is not None or not has_pending_signal(process.pid), what="the signal")


def test_what_a_part_started_goes_with_it(supervised: Supervised) -> None:
    process = supervised.start(SHORT + single(PARENT))
    supervised.wait_until_ready()
    process.terminate()
    assert process.wait() == 0
    assert not supervised.processes


def test_a_part_that_dies_is_started_again_later_and_later(supervised: Supervised) -> None:
    process = supervised.start("supervisor.FIRST_PAUSE = 0.01\n" + single("sys.exit(3)"))
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines == [
        f"api has ended (exit code 3) and starts again in {pause} s.\n" for pause in ("0.01", "0.02", "0.04")
    ]
    assert not [pid for pid in children_of(process.pid) if is_zombie(pid)]
    process.terminate()
    assert process.wait() == 0


@pytest.mark.parametrize("code", [0, 3])
def test_a_part_that_ends_at_once_again_and_again_is_told_as_broken(supervised: Supervised, code: int) -> None:
    part = f"print('hive: no way in', file=sys.stderr); sys.exit({code})"
    process = supervised.start("supervisor.FIRST_PAUSE = 0.01\n" + single(part))
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[3] == "api is broken: it ends at once again and again. Its last words: hive: no way in\n"
    process.terminate()
    _, said = process.communicate()
    assert set(said.splitlines()) == {"hive: no way in"}


def test_a_broken_part_is_told_until_it_runs_again(supervised: Supervised) -> None:
    # It ends at once until its repair.
    part = "sys.exit(3) if not os.path.exists(sys.argv[1] + '/repaired') else time.sleep(600)"
    setup = single(part).replace("announce)", "lambda _: None, lambda names: announce(','.join(sorted(names)) or '-'))")
    process = supervised.start("supervisor.FIRST_PAUSE = supervisor.STEADY = 0.2\n" + setup)
    assert process.stdout is not None
    assert process.stdout.readline() == "api\n"

    (supervised.folder / "repaired").touch()

    assert process.stdout.readline() == "-\n"
    process.terminate()
    assert process.wait() == 0


# It ends when the other part has not begun before it.
CHECK_ORDER = "sys.exit(0 if os.path.exists(sys.argv[1] + '/ready') else 3)"
LATER = """
running = Supervisor([part('relay', {later!r}, starts_later=True, restart=False), part('api', {first!r})], announce)
"""


def test_a_part_that_starts_later_starts_once_the_others_are_there(supervised: Supervised) -> None:
    ready = "lambda: os.path.exists(sys.argv[1] + '/ready')"
    setup = LATER.format(later=CHECK_ORDER, first=STEADY) + f"running.when({ready}, running.start_the_rest)"
    process = supervised.start("supervisor.HEAD_START = 60\n" + setup)
    assert process.stdout is not None
    assert process.stdout.readline() == "relay has ended (exit code 0).\n"
    process.terminate()
    assert process.wait() == 0


def test_a_part_that_starts_later_waits_for_no_others_for_ever(supervised: Supervised) -> None:
    setup = (
        LATER.format(later=CHECK_ORDER, first="time.sleep(600)") + "running.when(lambda: False, running.start_the_rest)"
    )
    process = supervised.start("supervisor.HEAD_START = 0.1\n" + setup)
    assert process.stdout is not None
    assert process.stdout.readline() == "relay has ended (exit code 3).\n"
    process.terminate()
    assert process.wait() == 0


def test_a_killed_part_is_started_again(supervised: Supervised) -> None:
    process = supervised.start(single(STEADY))
    supervised.wait_until_ready()
    (part,) = supervised.processes
    os.kill(part, signal.SIGKILL)
    assert process.stdout is not None
    assert process.stdout.readline() == "api has ended (SIGKILL) and starts again in 0.5 s.\n"
    wait_until(lambda: supervised.processes - {part}, what="another part")


def test_a_part_that_cannot_start_ends_all(supervised: Supervised) -> None:
    setup = f"""
api = part("api", "sys.exit(78)", fatal_exit_codes=frozenset({{78}}))
running = Supervisor([part("worker", {STEADY!r}), api], announce)
"""
    process = supervised.start(setup)
    said, _ = process.communicate()
    assert (process.returncode, said) == (1, "api can't start (exit code 78); everything stops.\n")
    assert not supervised.processes


def test_a_program_that_is_not_there_is_a_part_that_ends(supervised: Supervised) -> None:
    process = supervised.start("running = Supervisor([Part('api', ['/nowhere'], restart=False)], announce)")
    said, errors = process.communicate()
    assert (process.returncode, said) == (1, "api has ended (exit code 1).\n")
    assert errors == "/nowhere: No such file or directory\n"


def test_an_action_waits_for_its_probe(supervised: Supervised) -> None:
    setup = f"""
import pathlib
{single(STEADY)}
running.when(pathlib.Path(sys.argv[1], "ready").exists, lambda: announce("It answers."))
"""
    process = supervised.start(setup)
    assert process.stdout is not None
    assert process.stdout.readline() == "It answers.\n"
    process.terminate()
    said, _ = process.communicate()
    assert said == "", "it was said once"


def test_a_closed_terminal_does_not_keep_it_from_stopping(supervised: Supervised) -> None:
    process = supervised.start(SHORT + single(STUBBORN))
    supervised.wait_until_ready()
    assert process.stdout is not None
    process.stdout.close()
    process.terminate()
    assert process.wait() == 0
    assert not supervised.processes


def is_part(pid: int, folder: Path) -> bool:
    try:
        arguments = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    is_for_folder = os.fsencode(folder) in arguments
    return is_for_folder and not any(b"Supervisor" in argument for argument in arguments)


def has_pending_signal(pid: int) -> bool:
    status = Path("/proc", str(pid), "status").read_text()
    pending = [line.split()[1] for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(int(mask, 16) for mask in pending)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

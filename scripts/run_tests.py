"""Run HIVE's tests. Arguments go on to pytest, for example `-k claim`, `tests/unit` or `-n0 --pdb`.

For a reader who meets pytest for the first time: pytest collects functions whose name begins with `test_` and calls
each. What a test names as a parameter is a "fixture", a thing that pytest makes for it beforehand and clears away
afterwards; HIVE's are in `tests/conftest.py`. The tests run in a few processes at once and in random order: a test that
needs another one to have run before it would be found out. The longest come first, and a process that has nothing left
to do takes over tests of another one.

PostgreSQL and Valkey are started when the first test needs them. `tests/unit` needs none, and is over in seconds.

With `--cov` the lines that are reached are counted, in every process that a test starts, and their share is printed;
it has to be 85 %. That doubles the time which the suite takes, so it is a command of its own, `make coverage`.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Twice as many as the cores of a small machine: most tests of whole systems wait for other processes.
PROCESSES = ["-n4", "--dist=worksteal"]
# They wait for nothing, and are over before further processes have loaded everything once more.
PROCESSES_OF_UNIT_TESTS = ["-n0"]


def processes_for(arguments: list[str]) -> list[str]:
    """How many processes there are to be, for pytest; nothing if the arguments say it."""
    if any(argument.startswith("-n") for argument in arguments):
        return []
    places = [argument for argument in arguments if argument.startswith("tests")]
    are_units = bool(places) and all(place.startswith("tests/unit") for place in places)
    return PROCESSES_OF_UNIT_TESTS if are_units else PROCESSES


def main(arguments: list[str]) -> int:
    """pytest's exit code."""
    # What Python has compiled once serves the many processes that the tests start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "pytest", *processes_for(arguments), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

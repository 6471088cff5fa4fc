"""Run HIVE's tests. Arguments go on to pytest, for example `-k claim`, `tests/unit` or `-n0 --pdb`.

For a reader who meets pytest for the first time: pytest collects functions whose name begins with `test_` and calls
each. What a test names as a parameter is a "fixture", a thing that pytest makes for it beforehand and clears away
afterwards; HIVE's are in `tests/conftest.py`. The tests run in a few processes at once and in random order: a test that
needs another one to have run before it would be found out. The longest come first, and a process that has nothing left
to do takes over tests of another one.

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


def main(arguments: list[str]) -> int:
    """pytest's exit code."""
    processes = [] if any(argument.startswith("-n") for argument in arguments) else PROCESSES
    # What Python has compiled once serves the many processes that the tests start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "pytest", *processes, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

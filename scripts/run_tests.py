"""Run HIVE's tests. Arguments go on to pytest, for example `-k claim`, `tests/unit` or `-n0 --pdb`.

For whoever meets pytest for the first time: pytest collects functions whose name begins with `test_` and calls each.
What a test names as a parameter is a "fixture", a thing that pytest makes for it beforehand and clears away
afterwards; HIVE's are in `tests/conftest.py`. The tests run in two processes at once and in random order: a test that
needs another one to have run before it would be found out. The longest come first, and a process that has nothing left
to do takes over tests of the other one.

Without arguments the whole suite runs and the share of lines that it reached is printed; it has to be 85 %.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHOLE_SUITE = ["--cov", "--cov-report=term"]


def main(arguments: list[str]) -> int:
    """pytest's exit code."""
    chosen = arguments or WHOLE_SUITE
    processes = [] if any(argument.startswith("-n") for argument in chosen) else ["-n2", "--dist=worksteal"]
    return subprocess.run([sys.executable, "-m", "pytest", *processes, *chosen], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

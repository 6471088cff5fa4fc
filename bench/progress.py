"""What the benchmark is at, for somebody who waits for it."""

import sys
import time

_began = time.monotonic()


def tell(line: str) -> None:
    sys.stderr.write(f"[{time.monotonic() - _began:5.0f} s] {line}\n")
    sys.stderr.flush()

"""The benchmark: how close HIVE is to what the machine can do. `docs/performance.md` explains it; `make bench` runs it.

It starts and waits for programs by the helpers of the tests (`tests/utils/processes.py`), and takes nothing else from
there. That the benchmark itself works is tested in `tests/performance/`.
"""

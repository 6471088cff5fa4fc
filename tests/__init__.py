"""HIVE's tests: `make test`, or `python scripts/run_tests.py`, which explains how they run."""

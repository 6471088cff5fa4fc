"""How close HIVE is to what the machine can do, each figure beside its ceiling. `docs/performance.md` explains them.

    make bench
    make bench ONLY=reads,jobs
    make bench SIZE=full

A ceiling is what the same machine does in the same minutes, with the same bytes and on the same servers, without
HIVE's code; both are measured in turns. Everything runs in data folders that are thrown away. The table is printed, and
written to `bench-results/` as JSON and as a picture. The exit code is 1 when a goal is missed.
"""

import argparse
import asyncio
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import httpx2
import uvloop

from app.embedded import EmbeddedError
from bench.extent import WHOLE, Extent
from bench.groups.calls import sign_ins, two_processes
from bench.groups.events import delay, fan_out, idle, replay
from bench.groups.footprint import memory, start
from bench.groups.jobs import jobs
from bench.groups.reads import reads
from bench.groups.writes import writes
from bench.own_system import BenchedSystem, system_with_people
from bench.progress import tell
from bench.report.chart import chart_of
from bench.report.figures import Figure
from bench.report.results import Results
from bench.report.table import table_of
from bench.stage import Stage

# By what they need: API processes on databases with rows, a whole system with people, or nothing.
ON_A_STAGE: Mapping[str, Callable[[Stage, Extent], Awaitable[list[Figure]]]] = {
    "reads": reads,
    "writes": writes,
    "sign-ins": sign_ins,
    "processes": two_processes,
}
IN_A_SYSTEM: Mapping[str, Callable[[BenchedSystem, Extent], Awaitable[list[Figure]]]] = {
    "delay": delay,
    "fan-out": fan_out,
    "replay": replay,
    "idle-sockets": idle,
    "jobs": jobs,
}
BY_THEMSELVES: Mapping[str, Callable[[Extent], Awaitable[list[Figure]]]] = {"start": start, "memory": memory}
GROUPS = (*ON_A_STAGE, *IN_A_SYSTEM, *BY_THEMSELVES)
# "small" leaves out the million tasks, which take a while to make.
SIZES = {"small": replace(WHOLE, large=None), "full": WHOLE}
FAILURES = (httpx2.HTTPError, AssertionError, TimeoutError, EmbeddedError)


class Benchmark:
    """A group that fails is told of, and costs none of the others."""

    def __init__(self, wanted: Sequence[str], extent: Extent) -> None:
        self._wanted = wanted
        self._extent = extent
        self.figures: list[Figure] = []
        self.failures: list[str] = []

    async def run(self) -> None:
        if set(self._wanted) & set(ON_A_STAGE):
            async with Stage.set_up() as stage:
                for name, of_stage in ON_A_STAGE.items():
                    await self._measure(name, partial(of_stage, stage))
        if set(self._wanted) & set(IN_A_SYSTEM):
            async with system_with_people(self._extent.people) as system:
                for name, of_system in IN_A_SYSTEM.items():
                    await self._measure(name, partial(of_system, system))
        for name, group in BY_THEMSELVES.items():
            await self._measure(name, group)

    async def _measure(self, name: str, group: Callable[[Extent], Awaitable[list[Figure]]]) -> None:
        if name not in self._wanted:
            return
        tell(f"group {name}")
        try:
            self.figures += await group(self._extent)
        except FAILURES as error:
            self.failures.append(name)
            tell(f"group {name} failed: {error or type(error).__name__}")


def _groups(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(GROUPS):
        raise argparse.ArgumentTypeError(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    return names


def _tell(results: Results) -> None:
    sys.stdout.write(table_of(results.figures) + "\n")
    path = results.write()
    picture = path.with_suffix(".svg")
    picture.write_text(
        chart_of(results.figures, title=f"HIVE {results.circumstances['commit']}: goals and how near they are")
    )
    sys.stdout.write(f"\nwritten to {path} and {picture.name}\n")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Measure HIVE beside its ceilings; a missed goal is a failure.")
    parser.add_argument("--only", type=_groups, default=list(GROUPS), help=f"groups, of {', '.join(GROUPS)}")
    parser.add_argument("--size", choices=SIZES, default="full", help="small leaves out the million tasks")
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments.only, SIZES[arguments.size])
    # It holds the clients' ends of all sockets.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    # So that what it has started ends in good order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvloop.run(benchmark.run())
    except FAILURES as error:
        sys.stderr.write(f"benchmark: {error or type(error).__name__}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("benchmark: interrupted\n")
        return 130
    options = f"groups {','.join(arguments.only)}, size {arguments.size}"
    results = Results.of(benchmark.figures, options=options)
    _tell(results)
    if results.missed:
        sys.stderr.write(f"benchmark: {len(results.missed)} goals are missed: {'; '.join(results.missed)}\n")
    if benchmark.failures:
        sys.stderr.write(f"benchmark: not measured: {', '.join(benchmark.failures)}\n")
    return 1 if results.missed or benchmark.failures else 0


if __name__ == "__main__":
    sys.exit(main())

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

import httpx2
import uvloop

from app.embedded import EmbeddedError
from tests.performance.extent import WHOLE, Extent
from tests.performance.groups.calls import sign_ins, two_processes
from tests.performance.groups.events import delay, fan_out, idle, replay
from tests.performance.groups.footprint import memory, start
from tests.performance.groups.jobs import jobs
from tests.performance.groups.reads import reads
from tests.performance.groups.writes import writes
from tests.performance.own_system import BenchedSystem, system_with_people
from tests.performance.progress import tell
from tests.performance.report.chart import chart_of
from tests.performance.report.figures import Figure
from tests.performance.report.results import Results
from tests.performance.report.table import table_of
from tests.performance.stage import Stage

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


async def measure(wanted: Sequence[str], extent: Extent) -> list[Figure]:
    figures: list[Figure] = []
    if set(wanted) & set(ON_A_STAGE):
        async with Stage.set_up() as stage:
            for name in (name for name in ON_A_STAGE if name in wanted):
                tell(f"group {name}")
                figures += await ON_A_STAGE[name](stage, extent)
    if set(wanted) & set(IN_A_SYSTEM):
        async with system_with_people(extent.people) as system:
            for name in (name for name in IN_A_SYSTEM if name in wanted):
                tell(f"group {name}")
                figures += await IN_A_SYSTEM[name](system, extent)
    for name in (name for name in BY_THEMSELVES if name in wanted):
        tell(f"group {name}")
        figures += await BY_THEMSELVES[name](extent)
    return figures


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
    # It holds the clients' ends of all sockets.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    # So that what it has started ends in good order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        figures = uvloop.run(measure(arguments.only, SIZES[arguments.size]))
    except FAILURES as error:
        sys.stderr.write(f"benchmark: {error or type(error).__name__}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("benchmark: interrupted\n")
        return 130
    options = f"groups {','.join(arguments.only)}, size {arguments.size}"
    results = Results.of(figures, options=options)
    _tell(results)
    if results.missed:
        sys.stderr.write(f"benchmark: {len(results.missed)} goals are missed: {'; '.join(results.missed)}\n")
    return 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())

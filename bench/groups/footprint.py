"""How soon HIVE is there, and what it takes of the machine when nobody wants anything of it."""

import asyncio
import statistics
import tempfile
import time

import httpx2

from bench.extent import Extent
from bench.own_system import own_system, running_hive, settings_of_benchmark
from bench.progress import tell
from bench.report.figures import Better, Figure, GoalOf
from bench.vital_signs import processes_of, pss_kib, rss_kib
from tests.utils.processes import HiveProcess, free_port
from tests.utils.test_utils import wait_until

START_SECONDS = 3.0
API_MIB, SYSTEM_MIB = 110.0, 450.0
SETTLES_IN = 5.0


async def start(extent: Extent) -> list[Figure]:
    """With its own servers, in a data folder where it has run before."""
    found = []
    with tempfile.TemporaryDirectory(prefix="hive-bench-") as folder:
        with running_hive(folder):
            pass
        for _ in range(extent.starts):
            found.append(seconds_to_first_answer(folder))
            tell(f"start: {found[-1]:.2f} s")
    seconds = statistics.median(found)
    return [
        Figure(
            "start",
            "start to first answer, warm",
            "s",
            seconds,
            Better.LESS,
            goal=START_SECONDS,
            goal_of=GoalOf.VALUE,
        )
    ]


def seconds_to_first_answer(folder: str) -> float:
    port = free_port()
    environment = {**settings_of_benchmark(folder), "PORT": str(port)}
    started = time.perf_counter()
    with HiveProcess(["-m", "app.cli", "run"], environment), httpx2.Client() as http:

        def answers() -> bool:
            try:
                return http.get(f"http://127.0.0.1:{port}/api/v1/health").is_success
            except httpx2.TransportError:
                return False

        wait_until(answers, timeout=60, what="the first answer")
        return time.perf_counter() - started


async def memory(_extent: Extent) -> list[Figure]:
    """Of the API process all that it has mapped, of the system each page once."""
    with own_system() as system:
        # What the start needed is given back, or not.
        await asyncio.sleep(SETTLES_IN)
        processes = processes_of(system.environment["HIVE_DATA_DIR"])
        api = next(pid for pid, command in processes.items() if command.endswith(" api"))
        whole = {pid: pss_kib(pid) for pid in processes}
        for pid, kib in sorted(whole.items(), key=lambda item: -item[1]):
            tell(f"{kib / 1024:6.1f} MiB {processes[pid][-90:]}")
        rss, pss = rss_kib(api) / 1024, whole[api] / 1024
    return [
        _size("API process, idle (RSS)", rss, API_MIB),
        _size("API process, idle (PSS)", pss, None),
        _size("whole idle system, databases inside (PSS)", sum(whole.values()) / 1024, SYSTEM_MIB),
    ]


def _size(name: str, mib: float, goal: float | None) -> Figure:
    return Figure("memory", name, "MiB", mib, Better.LESS, goal=goal, goal_of=GoalOf.VALUE)

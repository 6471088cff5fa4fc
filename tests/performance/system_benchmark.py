"""How quickly and how cheaply events reach their readers, each figure beside its ceiling.

    make bench

A ceiling is what the same machine does with the same bytes without HIVE's code; both are measured in turns, so that
they share what else the machine does. It starts a system of its own in a throw-away data folder, and ends it. The exit
code is 1 when a goal is missed. pytest runs it too, with fewer of everything: it looks at what comes, not at times.
"""

import resource
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import httpx2
import pytest
import uvloop
from sqlalchemy.ext.asyncio import async_sessionmaker

from app.config import Settings
from app.database import create_engine
from tests.builders.users import create_user
from tests.conftest import RunningSystem
from tests.performance.own_system import BenchedSystem, own_system
from tests.performance.realtime import idle_sockets
from tests.performance.realtime.backlog import make_backlog
from tests.performance.realtime.delay import Changes, delays_of_ceiling, delays_of_hive
from tests.performance.realtime.figures import Figure, table_of
from tests.performance.realtime.processes import bare_events
from tests.performance.realtime.replay import WAYS, by_bare_socket

DELAY_MEDIAN_MS, DELAY_P99_MS = 15.0, 50.0
REPLAY_SECONDS = 2.0
SOCKET_KIB = 40.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of everything; `turns` is how often HIVE and its ceiling take turns."""

    changes: Changes
    events: int
    sockets: int
    people: int
    turns: int


WHOLE = Extent(Changes(count=200, pause=0.05), events=10_000, sockets=1_000, people=100, turns=3)
SHORT = Extent(Changes(count=5, pause=0), events=240, sockets=20, people=4, turns=1)


class RealtimeBenchmark:
    def __init__(self, system: BenchedSystem, people: Sequence[UUID], extent: Extent) -> None:
        self._system = system
        self._people = people
        self._extent = extent

    async def run(self) -> list[Figure]:
        return [*await self.delays(), *await self.replays(), await self.idle_sockets()]

    async def delays(self) -> list[Figure]:
        """Of all turns together."""
        writer, reader, *_ = self._people
        hive: list[float] = []
        ceiling: list[float] = []
        async with bare_events(self._system) as bare:
            for _ in range(self._extent.turns):
                ours = await delays_of_hive(self._system, writer, reader, self._extent.changes)
                theirs = await delays_of_ceiling(self._system, bare, ours.texts, self._extent.changes.pause)
                hive += ours.milliseconds
                ceiling += theirs.milliseconds
        return [
            Figure("commit to socket, p50", "ms", percentile(hive, 50), percentile(ceiling, 50), DELAY_MEDIAN_MS),
            Figure("commit to socket, p99", "ms", percentile(hive, 99), percentile(ceiling, 99), DELAY_P99_MS),
        ]

    async def replays(self) -> list[Figure]:
        """The median of the turns."""
        token = self._system.token_of(self._people[1])
        backlog = await make_backlog(self._system, self._people[0], count=self._extent.events)
        hive: dict[str, list[float]] = {way: [] for way in WAYS}
        ceiling: dict[str, list[float]] = {way: [] for way in WAYS}
        async with bare_events(self._system) as bare:
            for way in list(WAYS) * self._extent.turns:
                ours = await WAYS[way](self._system, token, backlog)
                theirs = await by_bare_socket(bare, backlog)
                assert ours.seqs == theirs.seqs == backlog.seqs, way
                hive[way].append(ours.seconds)
                ceiling[way].append(theirs.seconds)
        return [
            Figure(
                f"replay of {backlog.count:,} events, {way}",
                "s",
                statistics.median(hive[way]),
                statistics.median(ceiling[way]),
                REPLAY_SECONDS,
            )
            for way in WAYS
        ]

    async def idle_sockets(self) -> Figure:
        """The median of the turns, each in processes that are new."""
        count = self._extent.sockets
        hive, ceiling = [], []
        for _ in range(self._extent.turns):
            hive.append(await idle_sockets.memory_of_hive(self._system, self._people, count))
            ceiling.append(await idle_sockets.memory_of_ceiling(self._system, count))
        name = f"memory of each of {count:,} idle sockets"
        return Figure(name, "KiB", statistics.median(hive), statistics.median(ceiling), SOCKET_KIB)


def percentile(values: Sequence[float], rank: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[rank - 1]


async def make_people(system: BenchedSystem, count: int) -> list[UUID]:
    engine = create_engine(system.database_url, application="benchmark")
    async with async_sessionmaker(engine, expire_on_commit=False)() as session:
        people = [(await create_user(session)).id for _ in range(count)]
    await engine.dispose()
    return people


async def measure(system: BenchedSystem, extent: Extent) -> list[Figure]:
    people = await make_people(system, extent.people)
    return await RealtimeBenchmark(system, people, extent).run()


@pytest.fixture
def benched_system(
    running_system: RunningSystem, hive_environment: dict[str, str], settings: Settings
) -> BenchedSystem:
    return BenchedSystem(
        address=running_system.address.removesuffix("/api/v1"),
        environment=hive_environment,
        database_url=hive_environment["DATABASE_URL"],
        redis_url=hive_environment["REDIS_URL"],
        jwt_key=settings.jwt_key,
    )


@pytest.mark.committed
@pytest.mark.usefixtures("sessions")
async def test_every_reader_of_the_benchmark_gets_everything_and_every_figure_is_told(
    benched_system: BenchedSystem,
) -> None:
    figures = await measure(benched_system, SHORT)

    assert [figure.unit for figure in figures] == ["ms", "ms", "s", "s", "s", "KiB"]
    assert table_of(figures).count("\n") == len(figures)


def test_a_goal_is_met_up_to_its_value_and_missed_beyond() -> None:
    assert Figure("delay", "ms", hive=15.0, ceiling=3.0, goal=15.0).is_met
    missed = Figure("delay", "ms", hive=15.1, ceiling=3.0, goal=15.0)
    assert not missed.is_met
    assert "MISSED" in table_of([missed])


def main() -> int:
    """The exit code."""
    # It holds the clients' ends of all sockets.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    try:
        with own_system() as system:
            figures = uvloop.run(measure(system, WHOLE))
    except (httpx2.HTTPError, AssertionError, TimeoutError) as error:
        sys.stderr.write(f"benchmark: {error or type(error).__name__}\n")
        return 1
    sys.stdout.write(table_of(figures) + "\n")
    missed = [figure.name for figure in figures if not figure.is_met]
    if missed:
        sys.stderr.write(f"benchmark: goals are missed: {'; '.join(missed)}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

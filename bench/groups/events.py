"""How quickly and how cheaply events reach their readers, beside a bare `websockets` server."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.extent import Extent
from bench.groups import idle_sockets
from bench.groups.backlog import make_backlog
from bench.groups.delay import Changes, Delays, delays_of_ceiling, delays_of_hive
from bench.groups.replay import WAYS, by_bare_socket
from bench.own_system import BenchedSystem
from bench.processes import Listening, bare_events, further_api
from bench.progress import tell
from bench.report.figures import Better, Figure, GoalOf

BARE = "websockets"
DELAY_P50_MS, DELAY_P99_MS = 10.0, 40.0
BUSY_PER_SECOND, CALM_PER_SECOND = 200.0, 20.0
REPLAY_SECONDS = 2.0
SOCKET_KIB = 40.0


def percentile(values: Sequence[float], rank: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[rank - 1]


@dataclass(slots=True)
class Found:
    """The delays of all turns together, and the rate of each turn's burst, of which the best counts."""

    milliseconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, name: str, delays: Delays) -> None:
        self.milliseconds += delays.milliseconds
        p50, p99 = (percentile(delays.milliseconds, rank) for rank in (50, 99))
        told = f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        if delays.burst_per_second:
            self.rates.append(delays.burst_per_second)
            told += f", {delays.burst_per_second:,.0f} events/s"
        tell(told)


async def delay(system: BenchedSystem, extent: Extent) -> list[Figure]:
    """To one socket, at two paces."""
    figures = []
    for per_second in (CALM_PER_SECOND, BUSY_PER_SECOND):
        count = extent.changes * (4 if per_second == BUSY_PER_SECOND else 1)
        hive, ceiling = Found(), Found()
        async with bare_events(system) as bare:
            for _ in range(extent.turns):
                await _one_turn(system, [_first_api(system)], bare, 1, Changes(count, per_second), hive, ceiling)
        name = f"commit to socket at {per_second:.0f} writes a second"
        for rank, goal in ((50, DELAY_P50_MS), (99, DELAY_P99_MS)):
            ours, theirs = percentile(hive.milliseconds, rank), percentile(ceiling.milliseconds, rank)
            figures.append(_bounded("delay", f"{name}, p{rank}", "ms", ours, theirs, goal))
    return figures


async def fan_out(system: BenchedSystem, extent: Extent) -> list[Figure]:
    """To many sockets, of one API process and of two."""
    hive, ceiling, two, unheld = Found(), Found(), Found(), Found()
    changes = Changes(extent.changes // 2, CALM_PER_SECOND, burst=extent.burst)
    # One process as new as the other, and nobody else's sockets in it.
    async with bare_events(system) as bare, further_api(system) as first, further_api(system) as second:
        for _ in range(extent.turns):
            await _one_turn(system, [first], bare, extent.sockets, changes, hive, ceiling)
            await _one_turn(system, [first, second], None, extent.sockets, changes, two, unheld)
    sockets = f"{extent.sockets:,} sockets"
    return [
        Figure(
            "fan-out",
            f"commit to the last of {sockets}, p99",
            "ms",
            percentile(hive.milliseconds, 99),
            Better.LESS,
            f"{BARE}.broadcast",
            percentile(ceiling.milliseconds, 99),
            1.0,
        ),
        Figure(
            "fan-out",
            f"events to {sockets}",
            "/s",
            max(hive.rates),
            Better.MORE,
            f"{BARE}.broadcast",
            max(ceiling.rates),
            2.0,
        ),
        Figure(
            "fan-out",
            f"commit to the last of {sockets} at two API processes, p99",
            "ms",
            percentile(two.milliseconds, 99),
            Better.LESS,
            "one API process",
            percentile(hive.milliseconds, 99),
            1.5,
        ),
        Figure(
            "fan-out",
            f"events to {sockets} at two API processes",
            "/s",
            max(two.rates),
            Better.MORE,
            "one API process",
            max(hive.rates),
        ),
    ]


async def _one_turn(
    system: BenchedSystem,
    apis: Sequence[Listening],
    bare: Listening | None,
    sockets: int,
    changes: Changes,
    hive: Found,
    ceiling: Found,
) -> None:
    ours = await delays_of_hive(system, apis, sockets, changes)
    hive.add(f"{sockets:,} sockets of {len(apis)} API process(es)", ours)
    if bare is not None:
        theirs = await delays_of_ceiling(system, bare, sockets, ours.texts, changes)
        ceiling.add(f"{sockets:,} sockets of the bare server", theirs)


async def replay(system: BenchedSystem, extent: Extent) -> list[Figure]:
    """The median of the turns."""
    backlog = await make_backlog(system, count=extent.events)
    hive: dict[str, list[float]] = {way: [] for way in WAYS}
    ceiling: dict[str, list[float]] = {way: [] for way in WAYS}
    async with bare_events(system) as bare:
        for way in list(WAYS) * extent.turns:
            ours = await WAYS[way](system, system.people[1].token, backlog)
            theirs = await by_bare_socket(bare, backlog)
            assert ours.seqs == theirs.seqs == backlog.seqs, way
            hive[way].append(ours.seconds)
            ceiling[way].append(theirs.seconds)
            tell(f"replay by {way}: {ours.seconds:.2f} s, bare {theirs.seconds:.2f} s")
    return [
        _bounded(
            "replay",
            f"replay of {backlog.count:,} events by {way}",
            "s",
            statistics.median(hive[way]),
            statistics.median(ceiling[way]),
            REPLAY_SECONDS,
        )
        for way in WAYS
    ]


async def idle(system: BenchedSystem, extent: Extent) -> list[Figure]:
    """The median of the turns, each in processes that are new."""
    hive, ceiling = [], []
    for _ in range(extent.turns):
        hive.append(await idle_sockets.memory_of_hive(system, extent.sockets))
        ceiling.append(await idle_sockets.memory_of_ceiling(system, extent.sockets))
        tell(f"an idle socket: {hive[-1]:.1f} KiB, a bare one {ceiling[-1]:.1f} KiB")
    name = f"memory of each of {extent.sockets:,} idle sockets"
    ours, theirs = statistics.median(hive), statistics.median(ceiling)
    return [_bounded("memory", name, "KiB", ours, theirs, SOCKET_KIB)]


def _first_api(system: BenchedSystem) -> Listening:
    return Listening(system.address, 0)


def _bounded(group: str, name: str, unit: str, value: float, reference: float, goal: float) -> Figure:
    """A figure that must not pass a value, whatever the bare server does."""
    return Figure(group, name, unit, value, Better.LESS, BARE, reference, goal, GoalOf.VALUE)

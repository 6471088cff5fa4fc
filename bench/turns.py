"""Rates of several, measured in turns, so that what else the machine does meets all of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.extent import Extent
from bench.load.plan import Load, Request
from bench.load.programs import put_under
from bench.processes import Listening
from bench.progress import tell
from bench.report.figures import Better, Figure
from bench.vital_signs import cpu_seconds


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers a second; how long one took; how much of the processor the server's process used for one."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


Measure = Callable[[int], Awaitable[Rate]]


@dataclass(frozen=True, slots=True)
class Calls:
    """Requests that are equal in each turn, to one process."""

    server: Listening
    requests: Sequence[Request]
    extent: Extent

    async def __call__(self, _turn: int) -> Rate:
        return await rate_under(self.extent.load((self.server.port,), self.requests), self.server.pid)


async def rate_under(load: Load, *pids: int) -> Rate:
    before = sum(map(cpu_seconds, pids))
    answers = await put_under(load)
    used = sum(map(cpu_seconds, pids)) - before
    return Rate(answers.per_second, answers.p50_ms, answers.p99_ms, used / answers.all * 1e6)


async def in_turns(measures: Mapping[str, Measure], turns: int) -> dict[str, Rate]:
    """The best of each one's turns: what else the machine does meanwhile can only make a turn slower."""
    rates: dict[str, list[Rate]] = {name: [] for name in measures}
    for turn in range(turns):
        for name, measure in measures.items():
            rate = await measure(turn)
            rates[name].append(rate)
            tell(f"turn {turn + 1} of {turns}, {name}: {rate.per_second:,.0f}/s, p99 {rate.p99_ms:.1f} ms")
    return {name: max(found, key=lambda rate: rate.per_second) for name, found in rates.items()}


def rate_figure(group: str, name: str, rate: Rate, **held_against: Any) -> Figure:
    """The more requests a second, the better."""
    figure = Figure(group, name, "/s", rate.per_second, Better.MORE, **held_against)
    return replace(figure, p50_ms=rate.p50_ms, p99_ms=rate.p99_ms, cpu_us=rate.cpu_us)

"""Sockets that never read, among others that do: they cost the others no time and the server little memory, and go."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx2
import pytest

from app.websockets.connection import MAX_QUEUED_BYTES
from tests.reliability.frozen import FrozenSockets, Listeners
from tests.reliability.parts import Api
from tests.reliability.scale import Report, Scale
from tests.reliability.system import ChaosSystem
from tests.utils.metrics import Scrape
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = pytest.mark.reliability

EVENTS_PER_SECOND = 10
# Together more than the kernel and HIVE keep for one socket.
EVENTS = 150
DESCRIPTION = "d" * 20_000
WARM_UP = 20
MIB = 1024 * 1024
# Of the process and of the kernel together.
MOST_BYTES_EACH = MIB
MOST_SECONDS = 30.0
MOST_GROWTH = 1.2
# Seconds: a short run has too few events for its slowest ones to say much, and is held against standing still.
SHORT_SLACK = 10.0


@dataclass
class Course:
    """What became of the frozen sockets of one round; times are seconds."""

    bytes_before: int
    most_bytes: int = 0
    most_in_kernel: int = 0
    all_behind_at: float | None = None
    gone_at: float = 0.0


@dataclass(frozen=True)
class Delays:
    """Seconds from the writing of each event to its arrival at each reader of the two processes."""

    beside: Sequence[float]
    apart: Sequence[float]

    def at(self, percent: float) -> tuple[float, float]:
        return percentile(self.beside, percent), percentile(self.apart, percent)


async def test_sockets_that_never_read_cost_the_others_nothing(scale: Scale, report: Report) -> None:
    """Two processes give the same events to as many readers each, and one of them to frozen sockets as well.

    So whatever else the machine does hits both alike. They take turns. A third one takes the writes.
    """
    number, rounds = scale(100, short=20), scale(6, short=1)
    delays: list[Delays] = []
    apis = scale(3, short=2)
    async with ChaosSystem(apis=apis, relays=1, settings={"MAX_SOCKETS_PER_USER": "1000"}) as system:
        first, second, *_ = system.apis
        token = system.token_of(await system.user("Reader"))
        async with (
            system.client(await system.user("Writer"), api=apis - 1) as writer,
            Listeners(first, token, number).listening() as at_first,
            Listeners(second, token, number).listening() as at_second,
        ):
            await write(writer, WARM_UP)
            await asyncio.gather(at_first.until_heard(WARM_UP), at_second.until_heard(WARM_UP))
            both = [(first, at_first), (second, at_second)]
            for turn in range(rounds):
                (api, beside), (_, apart) = both[turn % 2], both[1 - turn % 2]
                course = await freeze(FrozenSockets(api, token), number, writer, api, beside)
                delays.append(Delays(await beside.until_heard(EVENTS), await apart.until_heard(EVENTS)))
                tell(report, turn, course, number, delays[-1])
                check(course, number, most_seconds=scale(MOST_SECONDS, short=2 * PATIENCE))
        report.add("sockets that HIVE found to be too slow", too_slow := await count_too_slow(system, [first, second]))
        assert too_slow == rounds * number
        check_delays(report, delays, slack=scale(0.0, short=SHORT_SLACK))


async def freeze(
    frozen: FrozenSockets, number: int, writer: httpx2.AsyncClient, api: Api, listeners: Listeners
) -> Course:
    """Open them, write, and look until all of them are gone."""
    course = Course(memory_of(api))
    async with frozen.opened(number):
        begun, bytes_before = time.monotonic(), listeners.bytes_each

        async def are_gone() -> bool:
            unsent = frozen.unsent()
            now = time.monotonic() - begun
            course.most_bytes = max(course.most_bytes, memory_of(api) - course.bytes_before)
            course.most_in_kernel = max([course.most_in_kernel, *unsent.values()])
            # What neither the readers nor the kernel have taken is in HIVE's queue, or was too much for it.
            queued = listeners.bytes_each - bytes_before - course.most_in_kernel
            if course.all_behind_at is None and queued > MAX_QUEUED_BYTES:
                course.all_behind_at = now
            course.gone_at = now
            return not unsent

        writing = asyncio.create_task(write(writer, EVENTS))
        await wait_until_async(are_gone, timeout=2 * PATIENCE, what="the end of all frozen sockets")
        await writing
    return course


def check(course: Course, number: int, *, most_seconds: float) -> None:
    assert course.all_behind_at is not None, "too little was written for the frozen sockets to fall behind"
    assert course.gone_at - course.all_behind_at <= most_seconds
    assert course.most_bytes / number + course.most_in_kernel <= MOST_BYTES_EACH


def check_delays(report: Report, delays: Sequence[Delays], *, slack: float) -> None:
    """In most rounds the slowest events came as quickly beside frozen sockets as without them.

    Not over all rounds at once: a moment in which the machine gave one of the processes no time would decide that.
    """
    everything = Delays([one for some in delays for one in some.beside], [one for some in delays for one in some.apart])
    tell_delays(report, "all rounds", everything)
    rounds = [some.at(99) for some in delays]
    report.add(
        "growth of the p99, median of the rounds", f"{median(beside / apart for beside, apart in rounds):.2f} times"
    )
    assert median(beside - apart * MOST_GROWTH for beside, apart in rounds) < slack


async def count_too_slow(system: ChaosSystem, apis: Sequence[Api]) -> int:
    """The sockets that these have told to resync."""
    total = 0
    for api in apis:
        async with system.client(await system.user("Root", is_admin=True)) as client:
            scrape = Scrape(await client.get(api.address.replace("/api/v1", "/metrics")))
        total += int(scrape.value("hive_readers_too_slow_total", kind="socket") or 0)
    return total


async def write(writer: httpx2.AsyncClient, events: int) -> None:
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n in range(events):
            group.create_task(write_one(writer))
            # The rate of the events is a matter of time.
            await asyncio.sleep(begun + (n + 1) / EVENTS_PER_SECOND - time.monotonic())


async def write_one(writer: httpx2.AsyncClient) -> None:
    body = {"title": "Water the orchids", "description": DESCRIPTION, "status": "available"}
    answer = await writer.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text


def memory_of(api: Api) -> int:
    """Bytes of its own, and its share of what it shares."""
    lines = Path(f"/proc/{api.process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)]


def tell(report: Report, turn: int, course: Course, number: int, delays: Delays) -> None:
    what = f"round {turn + 1}"
    behind = "?" if course.all_behind_at is None else f"{course.all_behind_at:.1f}"
    report.add(f"{what}, frozen sockets", f"all behind after {behind} s, all gone after {course.gone_at:.1f} s")
    in_process, in_kernel = course.most_bytes / number / MIB, course.most_in_kernel / MIB
    report.add(f"{what}, memory of each", f"{in_process:.2f} MiB in the process, {in_kernel:.2f} MiB in the kernel")
    tell_delays(report, what, delays)


def tell_delays(report: Report, what: str, delays: Delays) -> None:
    for percent in (50, 99):
        beside, apart = delays.at(percent)
        figures = f"{beside * 1000:.1f} ms beside frozen sockets, {apart * 1000:.1f} ms without"
        report.add(f"{what}, p{percent} of the delays", f"{figures}, {beside / apart:.2f} times")

"""Links to Redis and PostgreSQL fall silent, and connections are forgotten: nothing is lost, and nothing runs wild."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx2
import pytest

from app.embedded.folder import Folder
from bench.vital_signs import cpu_seconds, rss_kib, with_descendants
from tests.reliability.havoc import running
from tests.reliability.load import Load
from tests.reliability.log import check_log, check_readers, read_log, until_all_have
from tests.reliability.network import DistantServer, is_inside, run_inside
from tests.reliability.readers import Reader, SteadySocketReader, StreamReader, WaitingPageReader
from tests.reliability.scale import Report, Scale
from tests.reliability.system import ChaosSystem
from tests.reliability.test_postgres_restarts import check_written, until_well
from tests.utils.test_utils import wait_until_async

# In its full form it is silent for minutes, and it runs as a test within a test.
pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]

READY_SECONDS = 60
JOBS_SECONDS = 60
MOST_GROWTH_KIB = 20 * 1024
# Of one core, for a process that has nothing to do but to wait and to try again.
MOST_CPU = 0.3
REQUESTS_PER_SECOND = 20
PEOPLE = 5
JOBS = 10


@dataclass(frozen=True)
class Silence:
    """`begin` makes it silent, and `end` mends that; forgotten connections stay forgotten."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]
    seconds: float


async def test_hive_goes_on_after_silent_networks(scale: Scale, report: Report, request: pytest.FixtureRequest) -> None:
    if not is_inside():
        run_inside(request.node, timeout=590)
        return
    valkey, postgres = ("10.77.1.2", 6379), ("10.77.2.2", 5432)
    urls = {
        "REDIS_URL": f"redis://{valkey[0]}:{valkey[1]}/0",
        "DATABASE_URL": f"postgresql://hive@{postgres[0]}:{postgres[1]}/hive",
    }
    system = ChaosSystem(apis=1, relays=1, workers=1, schedulers=1, settings=urls)
    with distant_servers(system) as (redis, database):
        async with system:
            await endure(system, report, list(silences(redis, database, seconds=scale(60, short=5))))


@contextmanager
def distant_servers(system: ChaosSystem) -> Iterator[tuple[DistantServer, DistantServer]]:
    """Valkey and PostgreSQL of the system, each behind a link."""
    folder = Folder.at(system.folder)
    with ExitStack() as stack:
        redis = DistantServer(1, 6379, str(folder.valkey_socket))
        database = DistantServer(2, 5432, str(system.folder / "run" / ".s.PGSQL.5432"))
        yield stack.enter_context(redis), stack.enter_context(database)


def silences(redis: DistantServer, database: DistantServer, *, seconds: float) -> Iterator[Silence]:
    yield Silence("Redis's link down", redis.cut_link, redis.mend_link, seconds)
    yield Silence("PostgreSQL's link down", database.cut_link, database.mend_link, seconds)

    def forget() -> None:
        forgotten = redis.forget_connections(), database.forget_connections()
        assert all(forgotten), "each server had connections"

    yield Silence("connections to both forgotten", forget, lambda: None, 0)


async def endure(system: ChaosSystem, report: Report, silences: Sequence[Silence]) -> None:
    admin = await system.user("Root", is_admin=True)
    readers = [
        kind(admin, system.token_of(admin), system.apis)
        for kind in (SteadySocketReader, StreamReader, WaitingPageReader)
    ]
    for reader in readers:
        reader.stay_from_now_on()
    async with system.client(admin) as client:
        load = Load(client, REQUESTS_PER_SECOND, PEOPLE)
        async with running(reader.run() for reader in readers):
            async with load.running():
                await until_well(load, 100)
                before = memory_of(system)
                for silence in silences:
                    await fall_silent(system, client, load, silence, report)
                after = memory_of(system)
            log = await read_log(system)
            await until_all_have(readers, log)
    tell(report, load, readers, before, after)

    check_log(log)
    check_readers(readers, log)
    await check_written(system, load)
    assert [answer for answer in load.answers if answer.fault] == []
    assert {part: after[part] - size for part, size in before.items() if after[part] > size + MOST_GROWTH_KIB} == {}


async def fall_silent(
    system: ChaosSystem, client: httpx2.AsyncClient, load: Load, silence: Silence, report: Report
) -> None:
    """One silence, from before it begins until jobs are done again."""
    await ask_for_jobs(client)
    cpu, began = cpu_of(system), time.monotonic()
    silence.begin()
    # How long it lasts is what is tried here; nothing is waited for.
    await asyncio.sleep(silence.seconds)
    lasted = time.monotonic() - began
    used = {part: (seconds - cpu[part]) / lasted for part, seconds in cpu_of(system).items() if part in cpu}
    silence.end()
    ended = time.monotonic()
    await until_ready(client)
    report.add(f"{silence.name}: ready again after", f"{time.monotonic() - ended:.1f} s")
    answer = await client.post("/tasks", json={"title": "The first one after it"})
    assert answer.status_code == 201, answer.text
    await ask_for_jobs(client)
    await until_jobs_are_done(system)
    report.add(f"{silence.name}: jobs done after", f"{time.monotonic() - ended:.1f} s")
    await until_well(load, 50)
    if silence.seconds:
        report.add(f"{silence.name}: the busiest process took", f"{max(used.values()):.0%} of a core")
        assert {part: share for part, share in used.items() if share > MOST_CPU} == {}


async def until_ready(client: httpx2.AsyncClient) -> None:
    async def is_ready() -> bool:
        return (await client.get("/health/ready")).status_code == 200

    await wait_until_async(is_ready, timeout=READY_SECONDS, what="readiness")


async def ask_for_jobs(client: httpx2.AsyncClient) -> None:
    for _ in range(JOBS):
        answer = await client.post("/debug/run_test_celery_task")
        assert answer.status_code == 202, answer.text


async def until_jobs_are_done(system: ChaosSystem) -> None:
    async def are_done() -> bool:
        [row] = await system.sql("SELECT count(*) FROM jobs WHERE state <> 'done' AND name = 'test_celery_task'")
        return bool(row[0] == 0)

    await wait_until_async(are_done, timeout=JOBS_SECONDS, what="the end of all jobs")


def processes(system: ChaosSystem) -> Mapping[int, str]:
    """The system's own programs by process id, without the servers and the way to them."""
    return {
        pid: f"{part.command} {pid}"
        for part in (*system.apis, *system.relays, *system.workers, *system.schedulers)
        for pid in with_descendants([part.process.pid])
    }


def memory_of(system: ChaosSystem) -> dict[str, int]:
    return {name: rss_kib(pid) for pid, name in processes(system).items()}


def cpu_of(system: ChaosSystem) -> dict[str, float]:
    return {name: cpu_seconds(pid) for pid, name in processes(system).items()}


def tell(
    report: Report, load: Load, readers: Sequence[Reader], before: Mapping[str, int], after: Mapping[str, int]
) -> None:
    for status, times in sorted(load.statuses().items()):
        report.add(f"answers with {status}" if status else "no answer", times)
    report.add("longest wait for an answer", f"{max(answer.seconds for answer in load.answers):.1f} s")
    for reader in readers:
        report.add(f"events of the {reader.kind}", len(reader.events))
    growth = {part: after.get(part, 0) - size for part, size in before.items()}
    report.add("largest growth of a process", f"{max(growth.values()) / 1024:.1f} MiB")

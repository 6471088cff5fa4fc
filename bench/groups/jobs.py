"""How long a job takes from the commit that asks for it until its own effect is committed, beside bare Celery; and how
much of the relay's time a job takes, beside `.delay()`.

The clock starts at the beginning of the transaction that asks for the job, and stops when PostgreSQL tells that the
job's mark is committed.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx2

from bench.ceilings.bare_jobs import BROKER, bare, moment
from bench.extent import Extent
from bench.own_system import BenchedSystem
from bench.progress import tell
from bench.report.figures import Better, Figure
from bench.vital_signs import cpu_seconds, processes_of
from tests.utils.processes import HiveProcess

GROUP = "jobs"
CHANNEL = "benchmark_done"
PATIENCE = 60.0
PAUSE = 0.05
TELL_OF_DONE = f"""
    CREATE OR REPLACE FUNCTION benchmark_tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('{CHANNEL}', NEW.name || ' ' || extract(epoch FROM NEW.created_at)::float8);
        RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER benchmark_tell AFTER UPDATE ON jobs
        FOR EACH ROW WHEN (NEW.state = 'done' AND OLD.state <> 'done') EXECUTE FUNCTION benchmark_tell();
"""
MANY = """
    INSERT INTO jobs (id, name, arguments)
    SELECT gen_random_uuid(), 'recompute_impact_score', jsonb_build_object('user_id', users.id)
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS number, count(*) OVER () AS people FROM users) AS users,
        generate_series(1, $1) AS job WHERE job % people + 1 = number
"""


class Done:
    """Times from the beginning to the end of jobs, as they end."""

    def __init__(self) -> None:
        self._seconds: asyncio.Queue[float] = asyncio.Queue()

    def note(self, *told: Any) -> None:
        name, begun = told[-1].split(" ")
        if name in {"notify", "recompute_impact_score"}:
            self._seconds.put_nowait(time.time() - float(begun))

    async def next(self, count: int = 1) -> list[float]:
        async with asyncio.timeout(PATIENCE):
            return [await self._seconds.get() for _ in range(count)]


@asynccontextmanager
async def told_of_done(system: BenchedSystem) -> AsyncIterator[tuple[asyncpg.Connection, Done]]:
    database = await asyncpg.connect(system.database_url)
    done = Done()
    try:
        await database.execute(TELL_OF_DONE)
        await database.add_listener(CHANNEL, done.note)
        yield database, done
        await database.execute("DROP TRIGGER benchmark_tell ON jobs")
    finally:
        await database.close()


async def seconds_of_hive(system: BenchedSystem, done: Done, count: int) -> list[float]:
    """Each job is a note to somebody that a task is theirs; the next is asked for when it's done."""
    giver, taker = system.people[0], system.people[1]
    found = []
    headers = {"Authorization": f"Bearer {giver.token}"}
    async with httpx2.AsyncClient(base_url=system.api, headers=headers) as http:
        for _ in range(count):
            task = (await http.post("/tasks", json={"title": "Water the orchids"})).raise_for_status().json()
            await asyncio.sleep(PAUSE)
            (await http.post(f"/tasks/{task['id']}/assign", json={"user_id": str(taker.id)})).raise_for_status()
            found += await done.next()
            await asyncio.sleep(PAUSE)
    return found


def seconds_of_celery(count: int) -> tuple[list[float], list[float]]:
    """From sending until it was done, and how long sending alone took, which an event loop would stand still for."""
    found, sending = [], []
    for _ in range(count):
        started, sent = time.perf_counter(), time.time()
        result = moment.delay()
        sending.append(time.perf_counter() - started)
        found.append(float(result.get(timeout=PATIENCE)) - sent)
        time.sleep(PAUSE)
    return found, sending


async def burst_of_hive(
    system: BenchedSystem, database: asyncpg.Connection, done: Done, count: int
) -> tuple[float, float]:
    """Jobs a second, and seconds of the relay's processor time for each."""
    relay = relay_of(system)
    before, started = cpu_seconds(relay), time.perf_counter()
    await database.execute(MANY, count)
    await done.next(count)
    elapsed = time.perf_counter() - started
    return count / elapsed, (cpu_seconds(relay) - before) / count


def relay_of(system: BenchedSystem) -> int:
    found = processes_of(system.environment["HIVE_DATA_DIR"])
    return next(pid for pid, command in found.items() if command.endswith(" relay"))


@contextmanager
def bare_worker(system: BenchedSystem) -> Iterator[None]:
    """A worker of bare Celery, and this process as its client."""
    broker = system.redis_url.replace("unix://", "redis+socket://")
    command = ["-m", "celery", "-A", "bench.ceilings.bare_jobs", "worker", "--loglevel=INFO"]
    with HiveProcess(command, {**system.environment, BROKER: broker}, may_be_forked=False) as worker:
        worker.wait_for_output("ready.", timeout=60)
        bare.conf.update(broker_url=broker, result_backend=broker)
        yield


async def jobs(system: BenchedSystem, extent: Extent) -> list[Figure]:
    hive: list[float] = []
    celery: list[float] = []
    sending: list[float] = []
    rates: list[float] = []
    relays: list[float] = []
    with bare_worker(system):
        async with told_of_done(system) as (database, done):
            for _ in range(extent.turns):
                hive += await seconds_of_hive(system, done, extent.jobs)
                found, sent = await asyncio.to_thread(seconds_of_celery, extent.jobs)
                celery, sending = celery + found, sending + sent
                rate, relay = await burst_of_hive(system, database, done, extent.burst)
                rates, relays = [*rates, rate], [*relays, relay]
                tell(f"jobs: {_ms(hive):.1f} ms, bare {_ms(celery):.1f} ms; {rate:.0f} a second")
    return [
        Figure(GROUP, "job: commit to done, p50", "ms", _ms(hive), Better.LESS, "bare Celery", _ms(celery), 2.0),
        Figure(
            GROUP,
            "job: the relay's processor time",
            "µs",
            statistics.median(relays) * 1e6,
            Better.LESS,
            ".delay() in the loop",
            statistics.median(sending) * 1e6,
            0.1,
        ),
        Figure(GROUP, f"jobs done of {extent.burst} at once", "/s", statistics.median(rates), Better.MORE),
    ]


def _ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000

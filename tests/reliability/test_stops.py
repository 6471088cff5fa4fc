"""An ordinary stop with a job in progress: whichever processes get the signals, the job is finished, and done once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from app.events.jobs import ask_for_job
from app.models import JobName
from app.processes.stopping import STOP_SIGNALS
from tests.reliability.parts import Part, Worker
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import wait_until_async

pytestmark = pytest.mark.reliability

CELERY = ["-m", "celery", "-A", "app.workers.celery_app", "worker", "--loglevel=INFO"]
# Each kind of worker gets other ones; together they are each signal, once, twice, and one after another.
SIGNALS: dict[str, list[Sequence[signal.Signals]]] = {
    "hive": [(signal.SIGHUP,), (signal.SIGQUIT, signal.SIGQUIT), (signal.SIGTERM, signal.SIGTERM)],
    "prefork": [(signal.SIGINT, signal.SIGINT), STOP_SIGNALS],
    "solo": [STOP_SIGNALS[::-1]],
}


class CeleryWorker(Worker):
    """A worker as docs/commands.md starts it with Celery."""

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        super().__init__(environment)
        self._arguments = [*CELERY, *options]


@pytest.mark.parametrize("kind", SIGNALS)
async def test_a_worker_that_is_told_to_stop_finishes_its_job(kind: str) -> None:
    async with ChaosSystem(relays=1) as system:
        for signals in SIGNALS[kind]:
            with worker_of(kind, system.environment()) as worker:
                await worker.until_ready()
                async with job_in_progress(system):
                    await tell(worker, signals)
                assert await asyncio.to_thread(worker.wait, 20) == 0, worker.output_of_this_life
            # It was sent once, begun once, and marked as done.
            assert await jobs(system) == [("done", 1, 1)], worker.output_of_this_life
            await system.sql("DELETE FROM jobs")


def worker_of(kind: str, environment: dict[str, str]) -> Worker:
    return Worker(environment) if kind == "hive" else CeleryWorker(environment, f"--pool={kind}")


@asynccontextmanager
async def job_in_progress(system: ChaosSystem) -> AsyncIterator[None]:
    """A worker is at a job for as long as the block runs, for it waits for a row that is locked."""
    user = await system.user("Ada")
    locking = await asyncpg.connect(system.database_url)
    await locking.execute("BEGIN")
    await locking.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", user.id)
    async with system.database.unit_of_work() as session:
        ask_for_job(session, JobName.RECOMPUTE_IMPACT_SCORE, user_id=str(user.id))
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'hive worker%'"

    async def is_in_progress() -> bool:
        return bool(await system.sql(waiting))

    await wait_until_async(is_in_progress, what="a worker that is at the job")
    yield
    await locking.close()


async def tell(worker: Part, signals: Sequence[signal.Signals]) -> None:
    """Signal the worker and all processes below it, as a terminal and a service manager do."""
    for times, number in enumerate(signals, start=1):
        for pid in [worker.process.pid, *children_of(worker.process.pid)]:
            os.kill(pid, number)

        async def has_come(times: int = times) -> bool:
            assert worker.is_running, worker.output_of_this_life
            return worker.output_of_this_life.count("Warm shutdown") >= times

        await wait_until_async(has_come, what=f"{number.name} to be heeded")


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


async def jobs(system: ChaosSystem) -> list[tuple[str, int, int]]:
    return [tuple(row) for row in await system.sql("SELECT state, attempts, sends FROM jobs")]

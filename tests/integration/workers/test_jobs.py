"""The whole way of a job: asked for in a transaction, carried by Celery, done by a real worker."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import pytest
from celery import Celery
from celery.result import AsyncResult
from pydantic import SecretStr
from sqlalchemy import literal_column, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.core.redis import connect_redis
from app.database import Database
from app.events.due_jobs import DueJob
from app.models import Job, JobName, JobState, TaskStatus, User
from app.workers.carrier import CeleryCarrier
from app.workers.celery_app import celery_app, configuration
from app.workers.tasks import test_celery_task
from tests.builders.tasks import create_task
from tests.conftest import ClientAs, RunningSystem
from tests.utils.jobs import job_in
from tests.utils.processes import HiveProcess
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = pytest.mark.committed


@pytest.fixture
async def carrier(settings: Settings, redis_url: str) -> AsyncIterator[CeleryCarrier]:
    carrier = CeleryCarrier(settings, redis_url)
    yield carrier
    carrier.close()


async def until_done(session: AsyncSession, job: Job) -> Job:
    async def is_done() -> bool:
        await session.commit()
        await session.refresh(job)
        return job.state is JobState.DONE

    await wait_until_async(is_done, what=f"{job.name} to be done")
    return job


async def test_an_admin_has_a_worker_print_a_message(
    running_system: RunningSystem,
    running_worker: HiveProcess,
    client_as: ClientAs,
    session: AsyncSession,
    settings: Settings,
    redis_url: str,
    admin: User,
) -> None:
    client = await client_as(admin)

    answer = await client.post("/debug/run_test_celery_task", json={"message": "bees at work"})

    assert answer.status_code == 202
    job_id = answer.json()["task_id"]
    job = await until_done(session, await session.get_one(Job, UUID(job_id)))
    assert (job.name, job.done_at is not None) == ("test_celery_task", True)
    running_worker.wait_for_output("bees at work")
    celery = Celery(set_as_current=False)
    celery.conf.update(configuration(settings, redis_url))

    async def has_result() -> bool:
        return bool(AsyncResult(job_id, app=celery).ready())

    await wait_until_async(has_result, what="the result")
    assert AsyncResult(job_id, app=celery).get(timeout=PATIENCE) == "bees at work"
    celery.close()


@pytest.mark.usefixtures("running_system", "running_worker")
async def test_completing_a_task_raises_the_impact_score_and_reopening_lowers_it(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    await create_task(session, owner=user, assignee=other_user, status=TaskStatus.COMPLETED, impact_points=3)
    task = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS, impact_points=5)
    owner = await client_as(user)

    async def until_score_is(score: int) -> None:
        async def has_score() -> bool:
            await session.commit()
            await session.refresh(other_user)
            return other_user.impact_score == score

        await wait_until_async(has_score, what=f"a score of {score}")

    await owner.put(f"/tasks/{task.id}/status", json={"status": "completed"})
    await until_score_is(8)
    await owner.put(f"/tasks/{task.id}/status", json={"status": "in_progress"})
    await until_score_is(3)
    # Deleted before the job of its completion is done, it counts all the same.
    await owner.put(f"/tasks/{task.id}/status", json={"status": "completed"})
    assert (await owner.delete(f"/tasks/{task.id}")).status_code == 200
    await until_score_is(8)


@pytest.mark.usefixtures("running_worker")
async def test_a_job_that_comes_several_times_works_once(
    carrier: CeleryCarrier, database: Database, session: AsyncSession, user: User
) -> None:
    job = await job_in(database, session, JobName.RECOMPUTE_IMPACT_SCORE, user_id=str(user.id))
    message = DueJob(job.id, job.name, job.arguments)

    carrier.send([message])
    await until_done(session, job)
    await session.execute(update(User).values(impact_score=77))
    await session.commit()
    carrier.send([message, message])
    # The queue is worked off in order, so once this is done the repeated ones have come and gone.
    test = await job_in(database, session, JobName.TEST)
    carrier.send([DueJob(test.id, test.name, {})])
    await until_done(session, test)

    await session.refresh(user)
    assert user.impact_score == 77
    await session.refresh(job)
    assert job.attempts == 1


async def test_a_job_survives_the_worker_that_is_killed_with_it(
    hive_environment: dict[str, str], database: Database, session: AsyncSession, user: User, redis_url: str
) -> None:
    """The message is lost with its worker and with Redis; the row has the job sent again."""
    redis = connect_redis(redis_url)
    job = await job_in(database, session, JobName.RECOMPUTE_IMPACT_SCORE, user_id=str(user.id))
    # Sent once, says the row, and long ago; the message went with whoever had it.
    job.state, job.sends = JobState.SENT, 1
    await session.commit()
    await redis.flushdb()
    await redis.aclose()
    command = ["-m", "celery", "-A", "app.workers.celery_app", "worker", "--loglevel=INFO"]

    with (
        HiveProcess(["-m", "app.cli", "relay"], hive_environment),
        HiveProcess(command, hive_environment) as worker,
    ):
        worker.wait_for_output("ready.")
        await until_done(session, job)
        pool = children_of(worker.process.pid)
        assert pool
        worker.kill()

        async def is_pool_gone() -> bool:
            return not any(is_running(pid) for pid in pool)

        await wait_until_async(is_pool_gone, what="the pool to die with its worker")


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_workers_database_that_was_restarted_meanwhile_is_found_again(
    database_url: str, session: AsyncSession
) -> None:
    """A worker's loop stands still between jobs, and sees only with the next one that its connection is gone."""
    ours = "SELECT pg_terminate_backend(pid, 90000) FROM pg_stat_activity WHERE application_name LIKE 'hive gone%'"

    def work_twice(kill: Callable[[], None]) -> list[object]:
        database = Database.connect(database_url, application="gone", pool_size=1, stands_still=True)

        async def work() -> object:
            async with database.unit_of_work() as unit:
                return await unit.scalar(select(literal_column("1")))

        with asyncio.Runner() as runner:
            first = runner.run(work())
            kill()
            second = runner.run(work())
            runner.run(database.close())
        return [first, second]

    async def kill_connection() -> None:
        await session.execute(text(ours))
        await session.commit()

    loop = asyncio.get_running_loop()
    answers = await asyncio.to_thread(
        work_twice, lambda: asyncio.run_coroutine_threadsafe(kill_connection(), loop).result(PATIENCE)
    )

    assert answers == [1, 1]


def test_a_worker_listens_on_no_port(running_worker: HiveProcess) -> None:
    assert running_worker.listening_ports() == set()


async def test_the_carrier_says_that_it_is_away(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": SecretStr("unix:///nowhere/at-all.sock")})
    carrier = CeleryCarrier(away, "unix:///nowhere/at-all.sock")

    with pytest.raises(ConnectionError):
        carrier.send([DueJob(UUID(int=1), "test_celery_task", {})])
    carrier.close()


def test_the_test_task_prints_and_returns_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert test_celery_task(message="hello") == "hello"
    assert capsys.readouterr().out == "hello\n"


def test_every_job_name_is_a_task_of_the_worker() -> None:
    assert {name.value for name in JobName} <= set(celery_app.tasks)

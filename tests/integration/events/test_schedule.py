"""Jobs by the clock: each period's once, however many schedulers are up, and by a real scheduler process."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.events.schedule import SCHEDULE, ask_for_scheduled_jobs, period_of
from app.models import Job, JobName, JobState
from tests.utils.processes import HiveProcess
from tests.utils.test_utils import wait_until_async


@pytest.mark.parametrize(
    ("moment", "every", "period"),
    [
        (datetime(2026, 11, 24, 11, 59, 59, 999_999, UTC), timedelta(minutes=1), "2026-11-24T11:59:00+00:00"),
        (datetime(2026, 11, 24, 12, 0, 0, 0, UTC), timedelta(minutes=1), "2026-11-24T12:00:00+00:00"),
        (datetime(2026, 11, 24, 12, 59, 0, 0, UTC), timedelta(hours=1), "2026-11-24T12:00:00+00:00"),
    ],
)
def test_a_period_is_named_by_its_beginning(moment: datetime, every: timedelta, period: str) -> None:
    assert period_of(moment, every) == period


@pytest.mark.committed
async def test_many_schedulers_ask_once(session: AsyncSession, database: Database) -> None:
    async def schedule() -> list[JobName]:
        async with database.unit_of_work() as unit:
            return await ask_for_scheduled_jobs(unit)

    asked = [name for names in await asyncio.gather(*(schedule() for _ in range(8))) for name in names]

    jobs = (await session.scalars(select(Job))).all()
    # Should a minute end between two of them, its job comes once for each.
    assert Counter(asked) == Counter(job.name for job in jobs)
    assert {job.name for job in jobs} == set(SCHEDULE)
    assert len({job.unique_key for job in jobs}) == len(jobs) <= len(SCHEDULE) + 1
    assert {job.state for job in jobs} <= {JobState.WAITING, JobState.SENT, JobState.DONE}


@pytest.mark.committed
async def test_a_scheduler_asks_by_itself_and_stops_when_told(
    hive_environment: dict[str, str], session: AsyncSession
) -> None:
    async def asked() -> set[str]:
        await session.commit()
        return {job.name for job in await session.scalars(select(Job))}

    async def has_asked() -> bool:
        return await asked() == set(SCHEDULE)

    with (
        HiveProcess(["-m", "app.cli", "scheduler"], hive_environment) as first,
        HiveProcess(["-m", "app.cli", "scheduler"], hive_environment) as second,
    ):
        await wait_until_async(has_asked, what="the jobs of the present periods")
        for scheduler in (first, second):
            scheduler.wait_for_output("the scheduler is up")
            scheduler.process.terminate()
        assert (first.wait(), second.wait()) == (0, 0)

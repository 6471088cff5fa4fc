"""Doing jobs as a worker does them, in the test's own process."""

from collections.abc import Coroutine, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database
from app.events.jobs import ask_for_job
from app.models import IS_UNFINISHED, Job, JobName
from app.workers.celery_app import celery_app


class WorkerHere:
    """What the shells of jobs take for their process. Its jobs are done one by one, each when a test says so."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self._begun: list[Coroutine[Any, Any, object]] = []

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        """Keep the work of a job that Celery calls, for Celery can't wait for it within the test's event loop."""
        self._begun.append(work)

    async def unfinished(self, session: AsyncSession, name: JobName) -> Sequence[Job]:
        await session.commit()
        return (await session.scalars(select(Job).where(Job.name == name, IS_UNFINISHED).order_by(Job.id))).all()

    async def do(self, job: Job) -> None:
        """Do it as if its message had come."""
        celery_app.tasks[job.name].apply(kwargs=job.arguments, task_id=str(job.id))
        await self._begun.pop()

    async def do_next(self, session: AsyncSession, name: JobName) -> bool:
        """Do the first unfinished job of this name; whether there was one."""
        jobs = await self.unfinished(session, name)
        if jobs:
            await self.do(jobs[0])
        return bool(jobs)


async def job_in(database: Database, session: AsyncSession, name: JobName, **arguments: str) -> Job:
    """A job that the application has asked for, as the test's own session knows it."""
    async with database.unit_of_work() as transaction:
        job = ask_for_job(transaction, name, run_after=None, **arguments)
    return await session.get_one(Job, job.id)

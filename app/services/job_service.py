from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.models import Job, JobState

MAX_ATTEMPTS = 8
KEEP_DONE = timedelta(days=7)
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_ERROR = 2_000

Effect = Callable[[AsyncSession], Awaitable[None]]

log = structlog.stdlib.get_logger(__name__)


async def perform(database: Database, job_id: UUID, effect: Effect) -> None:
    """Do a job that came from the carrier, once, however often it comes.

    The effect and the mark that it's done are one transaction, and the row is locked meanwhile. Each attempt is
    counted beforehand in a transaction of its own, so that a job which kills its worker can't go on doing so.
    """
    if not await _begin_attempt(database, job_id):
        return
    try:
        async with database.unit_of_work() as session:
            if await _lock_unfinished(session, job_id):
                await effect(session)
                await mark_done(session, job_id)
    except Exception as error:
        await _note_failure(database, job_id, error)
        raise


async def mark_done(session: AsyncSession, job_id: UUID) -> None:
    unfinished = Job.state.in_((JobState.WAITING, JobState.SENT))
    await session.execute(
        update(Job).where(Job.id == job_id, unfinished).values(state=JobState.DONE, done_at=func.now())
    )


async def purge_done_jobs(session: AsyncSession) -> None:
    """Forget jobs that were done long ago."""
    await session.execute(delete(Job).where(Job.state == JobState.DONE, Job.done_at < func.now() - KEEP_DONE))


async def _begin_attempt(database: Database, job_id: UUID) -> bool:
    async with database.unit_of_work() as session:
        job = await _lock_unfinished(session, job_id)
        if job is None:
            return False
        if job.attempts >= MAX_ATTEMPTS:
            job.state = JobState.DEAD
            job.last_error = job.last_error or "The job's worker was gone each time before it was done."
            return False
        job.attempts += 1
        return True


async def _lock_unfinished(session: AsyncSession, job_id: UUID) -> Job | None:
    # Waited for and not skipped when locked: a quick worker has the message before the relay has marked it as sent,
    # and would leave the job lying because of the relay's lock.
    unfinished = select(Job).where(Job.id == job_id, Job.state.in_((JobState.WAITING, JobState.SENT)))
    return await session.scalar(unfinished.with_for_update())


async def _note_failure(database: Database, job_id: UUID, error: Exception) -> None:
    """Have the job tried again after a pause that doubles, or lay it aside with its error."""
    async with database.unit_of_work() as session:
        job = await _lock_unfinished(session, job_id)
        if job is None:
            return
        job.last_error = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
        is_last = job.attempts >= MAX_ATTEMPTS
        job.state = JobState.DEAD if is_last else JobState.WAITING
        job.run_after = func.now() + FIRST_PAUSE * 2 ** min(job.attempts, 9)
        log.warning("a job failed", job=job.name, job_id=str(job.id), attempt=job.attempts, gave_up=is_last)

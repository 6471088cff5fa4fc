import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.models import Job, JobName, JobState

MAX_ATTEMPTS = 8
KEEP_DONE = timedelta(days=7)
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_ERROR = 2_000

# How long a job with an effect outside of the database may take.
OUTSIDE_SECONDS = 120.0
HOLD = timedelta(seconds=2 * OUTSIDE_SECONDS)
# A mail server may be away for a day.
ATTEMPTS = {JobName.SEND_MAIL.value: 100}

Effect = Callable[[AsyncSession], Awaitable[None]]


class Hopeless(Exception):
    """The job can't ever work; it's laid aside at once."""


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


async def perform_outside(database: Database, job_id: UUID, act: Callable[[], Awaitable[None]]) -> None:
    """Do a job whose effect is outside of the database, such as a mail.

    No transaction is open meanwhile. The row says until when one worker holds it, so of two messages only one acts.
    A worker that is killed between the effect and the mark has it done again, so the effect has to carry a name by
    which its receiver knows a repetition.
    """
    if not await _begin_attempt(database, job_id, hold=HOLD):
        return
    try:
        async with asyncio.timeout(OUTSIDE_SECONDS):
            await act()
    except Exception as error:
        await _note_failure(database, job_id, error)
        raise
    async with database.unit_of_work() as session:
        await mark_done(session, job_id)


async def mark_done(session: AsyncSession, job_id: UUID) -> None:
    unfinished = Job.state.in_((JobState.WAITING, JobState.SENT))
    await session.execute(
        update(Job).where(Job.id == job_id, unfinished).values(state=JobState.DONE, done_at=func.now())
    )


async def purge_done_jobs(session: AsyncSession) -> None:
    """Forget jobs that were done long ago."""
    await session.execute(delete(Job).where(Job.state == JobState.DONE, Job.done_at < func.now() - KEEP_DONE))


async def _begin_attempt(database: Database, job_id: UUID, *, hold: timedelta | None = None) -> bool:
    async with database.unit_of_work() as session:
        job = await _lock_unfinished(session, job_id)
        now = await session.scalar(select(func.now()))
        if job is None or now is None or (job.held_until is not None and job.held_until > now):
            return False
        if job.attempts >= _attempts_of(job):
            job.state = JobState.DEAD
            job.last_error = job.last_error or "The job's worker was gone each time before it was done."
            return False
        job.attempts += 1
        job.held_until = now + hold if hold else None
        return True


def _attempts_of(job: Job) -> int:
    return ATTEMPTS.get(job.name, MAX_ATTEMPTS)


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
        is_last = job.attempts >= _attempts_of(job) or isinstance(error, Hopeless)
        job.held_until = None
        job.state = JobState.DEAD if is_last else JobState.WAITING
        job.run_after = func.now() + FIRST_PAUSE * 2 ** min(job.attempts, 9)
        log.warning("a job failed", job=job.name, job_id=str(job.id), attempt=job.attempts, gave_up=is_last)

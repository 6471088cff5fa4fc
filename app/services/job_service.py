import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Interval, bindparam, case, func, literal_column, select, update

from app.database import Database
from app.db.purging import purge_some
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import IS_FREE, IS_UNFINISHED, Job, JobName, JobState

MAX_ATTEMPTS = 8
KEEP_DONE = timedelta(days=7)
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_ERROR = 2_000

# How long a job with an effect outside of the database may take.
OUTSIDE_SECONDS = 120.0
HOLD = timedelta(seconds=2 * OUTSIDE_SECONDS)
MOST_UNKNOWN_OUTCOMES = 2
# A mail server may be away for a day.
MAILS = (JobName.SEND_MAIL, JobName.SEND_ACCOUNT_MAIL, JobName.SEND_CONFIRMATION, JobName.SEND_MAIL_DIGEST)
ATTEMPTS = dict.fromkeys(MAILS, 100)

Effect = Callable[[Transaction], Awaitable[None]]


class OutcomeUnknown(Exception):
    """The effect outside may have been had, or not. That's worth one more try, and not a hundred."""


class Postponed(Exception):
    """It's not time yet; the job is done from `until` on, and this was no attempt."""

    def __init__(self, until: datetime) -> None:
        super().__init__()
        self.until = until


class Hopeless(Exception):
    """The job can't ever work; it's laid aside at once."""


log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """What is said of a job while it's being done."""

    name: str
    request_id: str | None


async def perform(database: Database, job_id: UUID, effect: Effect) -> None:
    """Do a job that came from the carrier, once, however often it comes.

    The effect and the mark that it's done are one transaction, and the row is locked meanwhile. Each attempt is
    counted beforehand in a transaction of its own, so that a job which kills its worker can't go on doing so.
    """
    async with _attempt(database, job_id) as is_ours:
        if not is_ours:
            return
        async with database.unit_of_work() as transaction:
            # Marked first, which locks the row; should the effect fail, the mark goes with it.
            if await mark_done(transaction, job_id):
                await effect(transaction)


async def perform_outside(database: Database, job_id: UUID, act: Callable[[], Awaitable[None]]) -> None:
    """Do a job whose effect is outside of the database, such as a mail.

    No transaction is open meanwhile. The row says until when one worker holds it, so of two messages only one acts.
    A worker that is killed between the effect and the mark has it done again, so the effect has to carry a name by
    which its receiver knows a repetition.
    """
    async with _attempt(database, job_id, hold=HOLD) as is_ours:
        if not is_ours:
            return
        async with asyncio.timeout(OUTSIDE_SECONDS):
            await act()
        async with database.unit_of_work() as transaction:
            await mark_done(transaction, job_id)


@asynccontextmanager
async def _attempt(database: Database, job_id: UUID, *, hold: timedelta | None = None) -> AsyncIterator[bool]:
    """One attempt at a job, whose failure is noted; False when there is nothing to do, or no attempt left."""
    job = await _begin_attempt(database, job_id, hold)
    if job is None:
        yield False
        return
    started = time.perf_counter()
    with _named_in_logs(job_id, job):
        try:
            yield True
        except Postponed as postponed:
            await _postpone(database, job_id, postponed.until)
            return
        except Exception as error:
            await _note_failure(database, job_id, error)
            raise
        log.info("a job is done", ms=round((time.perf_counter() - started) * 1000, 1))


@contextmanager
def _named_in_logs(job_id: UUID, job: Begun) -> Iterator[None]:
    """Bind the job and the request that it came from to each line of the log, and to the rows of what
    follows.
    """
    said = {"job": job.name, "job_id": str(job_id), "request_id": job.request_id}
    with structlog.contextvars.bound_contextvars(**{name: value for name, value in said.items() if value is not None}):
        yield


_ONE: ColumnElement[int] = literal_column("1")
_MOST = case(
    {name: literal_column(str(most)) for name, most in ATTEMPTS.items()},
    value=Job.name,
    else_=literal_column(str(MAX_ATTEMPTS)),
)
_IS_READY = (Job.id == bindparam("job_id"), IS_UNFINISHED, IS_FREE)
_BEGIN = keep(
    update(Job)
    .where(*_IS_READY, Job.attempts < _MOST)
    .values(attempts=Job.attempts + _ONE, held_until=func.now() + bindparam("hold", type_=Interval()))
    .returning(Job.name, Job.request_id)
)
_MARK_DONE = keep(
    update(Job)
    .where(Job.id == bindparam("job_id"), IS_UNFINISHED)
    .values(state=JobState.DONE, done_at=func.now())
    .returning(Job.id)
)


async def mark_done(transaction: Transaction, job_id: UUID) -> bool:
    """Whether it was unfinished until now."""
    return await transaction.scalar(_MARK_DONE, {"job_id": job_id}) is not None


async def purge_done_jobs(transaction: Transaction) -> bool:
    """Forget some of the jobs that were done long ago; whether there are more."""
    is_old = (Job.state == JobState.DONE, Job.done_at < func.now() - KEEP_DONE)
    return await purge_some(transaction, Job, *is_old, order=Job.done_at)


async def _begin_attempt(database: Database, job_id: UUID, hold: timedelta | None) -> Begun | None:
    """Count an attempt, unless the job is finished, held, or has none left. The statement is a transaction by itself.

    A row that is locked is waited for and not skipped: a quick worker has the message before the relay has marked the
    row as sent, and would leave the job lying because of the relay's lock.
    """
    async with database.unit_of_work(is_one_statement=True) as transaction:
        begun = await transaction.execute(_BEGIN, {"job_id": job_id, "hold": hold})
    if begun:
        return Begun(*begun[0])
    await _lay_aside_if_used_up(database, job_id)
    return None


async def _lay_aside_if_used_up(database: Database, job_id: UUID) -> None:
    """Mark the job as dead if it has no attempt left."""
    said = func.coalesce(Job.last_error, "The job's worker was gone each time before it was done.")
    used_up = update(Job).where(*_IS_READY, Job.attempts >= _MOST).values(state=JobState.DEAD, last_error=said)
    async with database.unit_of_work() as transaction:
        await transaction.execute(used_up, {"job_id": job_id})


def _attempts_of(job: Job) -> int:
    return ATTEMPTS.get(JobName(job.name), MAX_ATTEMPTS)


async def _lock_unfinished(transaction: Transaction, job_id: UUID) -> Job | None:
    unfinished = select(Job).where(Job.id == job_id, IS_UNFINISHED)
    return await transaction.scalar(unfinished.with_for_update())


async def _postpone(database: Database, job_id: UUID, until: datetime) -> None:
    async with database.unit_of_work() as transaction:
        if job := await _lock_unfinished(transaction, job_id):
            job.state, job.run_after, job.held_until = JobState.WAITING, until, None
            job.attempts -= 1


async def _note_failure(database: Database, job_id: UUID, error: Exception) -> None:
    """Retry the job after a pause that doubles, or lay it aside with its error."""
    async with database.unit_of_work() as transaction:
        job = await _lock_unfinished(transaction, job_id)
        if job is None:
            return
        job.last_error = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
        job.unknown_outcomes += isinstance(error, OutcomeUnknown)
        is_hopeless = isinstance(error, Hopeless) or job.unknown_outcomes >= MOST_UNKNOWN_OUTCOMES
        is_last = is_hopeless or job.attempts >= _attempts_of(job)
        job.held_until = None
        job.state = JobState.DEAD if is_last else JobState.WAITING
        job.run_after = func.now() + FIRST_PAUSE * 2 ** min(job.attempts, 9)
        log.warning("a job failed", attempt=job.attempts, gave_up=is_last)

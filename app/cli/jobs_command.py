"""What `hive jobs` does: listing, retrying and forgetting background jobs."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from app.core.errors import HiveError
from app.database import Database
from app.db.transaction import Transaction
from app.models import Job, JobState
from app.schemas.job import JobListQuery
from app.services.job_admin import JobAdmin
from app.services.pages import CursorCodec, Pager

T = TypeVar("T")


async def list_jobs(database_url: str, query: JobListQuery) -> list[str]:
    """A line for each job, newest first. Raises ValueError with a sentence when the database can't be asked."""

    async def listing(transaction: Transaction) -> Sequence[Job]:
        # One page is all that's shown, so no cursor is ever made.
        pager = Pager(transaction, CursorCodec("unused"))
        return (await JobAdmin(transaction).list_jobs(query, pager)).items

    return [_line(job) for job in await _with_session(database_url, listing)]


async def retry_jobs(database_url: str, job_ids: Sequence[UUID] | None) -> int:
    """How many dead jobs will be tried again. Raises ValueError as `list_jobs` does."""

    async def retry_some(transaction: Transaction) -> int:
        return len(await JobAdmin(transaction).retry_some(job_ids))

    return await _until_none(database_url, retry_some)


async def purge_jobs(database_url: str, state: JobState, *, older_than: timedelta) -> int:
    """How many finished jobs are forgotten. Raises ValueError as `list_jobs` does."""

    async def purge_some(transaction: Transaction) -> int:
        return await JobAdmin(transaction).purge_some(state, older_than=older_than)

    return await _until_none(database_url, purge_some)


async def _until_none(database_url: str, work: Callable[[Transaction], Awaitable[int]]) -> int:
    """Do it again, each time in a transaction of its own, until there was nothing to do; how much there was in all."""
    count = 0
    while done := await _with_session(database_url, work):
        count += done
    return count


async def _with_session(database_url: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
    database = Database.connect(database_url, application="jobs")
    try:
        async with database.unit_of_work() as transaction:
            return await work(transaction)
    except HiveError as error:
        raise ValueError(error.reason) from None
    finally:
        await database.close()


def _line(job: Job) -> str:
    asked = job.created_at.isoformat(timespec="seconds")
    error = f"  {job.last_error.splitlines()[0][:120]}" if job.last_error else ""
    return f"{job.id}  {job.state:<7}  {asked}  {job.attempts:>3} x  {job.name}{error}"

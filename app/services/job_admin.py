"""Looking after jobs: what waits, what failed, and what to do about it."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Job, JobState
from app.schemas.job import JobListQuery
from app.services.pages import Order, Page, Pager, scope_of
from app.session import WAKES_RELAY

NEWEST_FIRST = Order(key=Job.created_at, id=Job.id, descending=True)
FINISHED = (JobState.DONE, JobState.DEAD)


class JobAdmin:
    """The caller has to make sure that the reader is an admin."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list_jobs(self, query: JobListQuery, pager: Pager) -> Page[Job]:
        """Newest first."""
        statement = select(Job)
        if query.state:
            statement = statement.where(Job.state.in_(query.state))
        if query.name:
            statement = statement.where(Job.name.in_(query.name))
        scope = scope_of("jobs", state=sorted(query.state), name=sorted(query.name))
        return await pager.fetch(statement, NEWEST_FIRST, query, scope=scope)

    async def retry(self, job_ids: Sequence[UUID] | None) -> Sequence[UUID]:
        """Have dead jobs (these, or all of them) tried again from their first attempt on; which they were."""
        statement = update(Job).where(Job.state == JobState.DEAD)
        if job_ids is not None:
            statement = statement.where(Job.id.in_(job_ids))
        again = statement.values(
            state=JobState.WAITING, attempts=0, sends=0, unknown_outcomes=0, run_after=func.now()
        ).returning(Job.id)
        retried = (await self._session.scalars(again)).all()
        self._session.info[WAKES_RELAY] = bool(retried)
        return retried

    async def purge(self, state: JobState, *, older_than: timedelta) -> int:
        """Forget jobs that are finished (done or dead) and were asked for longer ago than that; how many."""
        assert state in FINISHED
        old = delete(Job).where(Job.state == state, Job.created_at <= func.now() - older_than)
        return len((await self._session.scalars(old.returning(Job.id))).all())

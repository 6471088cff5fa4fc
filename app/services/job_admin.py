"""Looking after jobs: what waits, what failed, and what to do about it."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from functools import cache
from uuid import UUID

from sqlalchemy import ARRAY, Text, any_, bindparam, delete, func, select, update

from app.db.purging import found_once
from app.db.transaction import WAKES_RELAY, Transaction
from app.models import Job, JobState
from app.schemas.job import JobListQuery
from app.services.pages import Listing, Order, Page, Pager, scope_of

AT_ONCE = 5_000
FINISHED = (JobState.DONE, JobState.DEAD)


class JobAdmin:
    """The caller has to make sure that the reader is an admin."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def list_jobs(self, query: JobListQuery, pager: Pager) -> Page[Job]:
        """Newest first."""
        asked = {"state": sorted(query.state), "name": sorted(query.name)}
        listing = _jobs(frozenset(name for name, values in asked.items() if values))
        return await pager.fetch(listing, asked, query, scope=scope_of("jobs", **asked))

    async def retry_some(self, job_ids: Sequence[UUID] | None) -> Sequence[UUID]:
        """Retry some dead jobs (of these, or of all) from their first attempt on. Return their ids."""
        dead = select(Job.id).where(Job.state == JobState.DEAD)
        if job_ids is not None:
            dead = dead.where(Job.id.in_(job_ids))
        some = dead.order_by(Job.id).limit(AT_ONCE).with_for_update(skip_locked=True)
        again = (
            update(Job)
            .where(Job.id.in_(select(found_once(some))))
            .values(state=JobState.WAITING, attempts=0, sends=0, unknown_outcomes=0, run_after=func.now())
            .returning(Job.id)
        )
        retried = await self._transaction.scalars(again)
        self._transaction.info[WAKES_RELAY] = bool(retried)
        return retried

    async def purge_some(self, state: JobState, *, older_than: timedelta) -> int:
        """Forget some of the finished jobs (done or dead) that were asked for longer ago than that; how many."""
        assert state in FINISHED
        old = select(Job.id).where(Job.state == state, Job.created_at <= func.now() - older_than).limit(AT_ONCE)
        is_old = Job.id.in_(select(found_once(old)))
        return len(await self._transaction.scalars(delete(Job).where(is_old).returning(Job.id)))


@cache
def _jobs(filters: AbstractSet[str]) -> Listing[Job]:
    jobs = select(Job)
    if "state" in filters:
        jobs = jobs.where(Job.state == any_(bindparam("state", type_=ARRAY(Text()))))
    if "name" in filters:
        jobs = jobs.where(Job.name == any_(bindparam("name", type_=ARRAY(Text()))))
    return Listing(jobs, Order(key=Job.created_at, id=Job.id, descending=True))

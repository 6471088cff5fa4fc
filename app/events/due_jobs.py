"""Which jobs the relay has to send: new ones, failed ones whose pause is over, sent ones that are late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Job, JobState

# A job that was sent is given a minute, then two, four, … before it's sent again.
PATIENCE = timedelta(minutes=1)
LONGEST_PATIENCE_DOUBLINGS = 4
PAUSE_WITHOUT_CARRIER = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class DueJob:
    """`sends` counts this sending too."""

    id: UUID
    name: str
    arguments: dict[str, Any]
    sends: int = 1
    request_id: str | None = None


async def take_due_jobs(session: AsyncSession, *, limit: int) -> Sequence[DueJob]:
    """Mark the jobs whose time has come as sent, the longest waiting first, and say when each is late.

    Marked before they are sent, for a worker may have a job done before its sender has drawn breath. Should the
    sender die in between, the job is late, and sent then.
    """
    due = (
        select(Job.id)
        .where(Job.state.in_((JobState.WAITING, JobState.SENT)), Job.run_after <= func.now())
        .order_by(Job.run_after)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    patience = PATIENCE * func.power(2, func.least(Job.sends, LONGEST_PATIENCE_DOUBLINGS))
    taken = await session.execute(
        update(Job)
        .where(Job.id.in_(due))
        .values(state=JobState.SENT, sends=Job.sends + 1, run_after=func.now() + patience)
        .returning(Job.id, Job.name, Job.arguments, Job.sends, Job.request_id)
    )
    return [DueJob(*row) for row in taken]


async def put_back(session: AsyncSession, jobs: Sequence[DueJob]) -> None:
    """Have jobs that could not be sent sent soon, unless somebody else has taken them meanwhile."""
    ours = tuple_(Job.id, Job.sends).in_([(job.id, job.sends) for job in jobs])
    await session.execute(
        update(Job)
        .where(ours, Job.state == JobState.SENT)
        .values(state=JobState.WAITING, sends=Job.sends - 1, run_after=func.now() + PAUSE_WITHOUT_CARRIER)
    )

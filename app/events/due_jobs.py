"""Which jobs the relay has to send: new ones, failed ones whose pause is over, sent ones that are late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Job, JobState

# A job that was sent is given a minute, then two, four, … before it's sent again.
PATIENCE = timedelta(minutes=1)
LONGEST_PATIENCE_DOUBLINGS = 4


@dataclass(frozen=True, slots=True)
class DueJob:
    id: UUID
    name: str
    arguments: dict[str, Any]


async def find_due_jobs(session: AsyncSession, *, limit: int) -> Sequence[DueJob]:
    """Jobs whose time has come, the longest waiting first."""
    statement = (
        select(Job.id, Job.name, Job.arguments)
        .where(Job.state.in_((JobState.WAITING, JobState.SENT)), Job.run_after <= func.now())
        .order_by(Job.run_after)
        .limit(limit)
    )
    return [DueJob(*row) for row in await session.execute(statement)]


async def mark_sent(session: AsyncSession, jobs: Sequence[DueJob]) -> None:
    """Note that the jobs were sent, and when each is late. A worker may have finished some of them already."""
    patience = PATIENCE * func.power(2, func.least(Job.sends, LONGEST_PATIENCE_DOUBLINGS))
    await session.execute(
        update(Job)
        .where(Job.id.in_([job.id for job in jobs]), Job.state.in_((JobState.WAITING, JobState.SENT)))
        .values(state=JobState.SENT, sends=Job.sends + 1, run_after=func.now() + patience)
    )

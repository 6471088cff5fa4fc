"""Which jobs the relay has to send: new ones, failed ones whose pause is over, sent ones that are late or lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Interval, and_, bindparam, func, literal_column, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate

from app.models import IS_FREE, IS_UNFINISHED, Job, JobState
from app.session import Session
from app.statements import keep

# A job that was sent is late after this time, and sent again. It need not be long, for few jobs are ahead of it in the
# queue, and one that a worker is at is left alone.
PATIENCE = timedelta(seconds=30)
# In an empty queue nothing waits: what was sent this long ago and nobody is at was lost with its broker or its worker.
PATIENCE_WITH_EMPTY_QUEUE = timedelta(seconds=3)
PAUSE_WITHOUT_CARRIER = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class DueJob:
    """`sends` counts this sending too."""

    id: UUID
    name: str
    arguments: dict[str, Any]
    sends: int = 1
    request_id: str | None = None


def _is_due(*, is_queue_empty: bool) -> ColumnElement[bool]:
    is_late = Job.run_after <= func.now()
    left = bindparam("patience_left", PATIENCE - PATIENCE_WITH_EMPTY_QUEUE, Interval())
    is_lost = and_(Job.state == JobState.SENT, Job.run_after <= func.now() + left)
    return and_(IS_UNFINISHED, IS_FREE, or_(is_late, is_lost) if is_queue_empty else is_late)


def _take(*, is_queue_empty: bool) -> ReturningUpdate[Any]:
    due = (
        select(Job.id)
        .where(_is_due(is_queue_empty=is_queue_empty))
        .order_by(Job.run_after)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    one: ColumnElement[int] = literal_column("1")
    late_at = func.now() + bindparam("patience", PATIENCE, Interval())
    return keep(
        update(Job)
        .where(Job.id.in_(due))
        .values(state=JobState.SENT, sends=Job.sends + one, run_after=late_at)
        .returning(Job.id, Job.name, Job.arguments, Job.sends, Job.request_id)
    )


_TAKE = {is_queue_empty: _take(is_queue_empty=is_queue_empty) for is_queue_empty in (False, True)}


async def may_have_due_jobs(session: AsyncSession) -> bool:
    """Whether there are any that are due, or would be if the queue were empty."""
    return bool(await session.scalar(select(select(Job.id).where(_is_due(is_queue_empty=True)).exists())))


async def take_due_jobs(session: Session, *, limit: int, is_queue_empty: bool = False) -> Sequence[DueJob]:
    """Mark the jobs whose time has come as sent, the longest waiting first, and say when each is late.

    Marked before they are sent, for a worker may have a job done before its sender has drawn breath. Should the
    sender die in between, the job is late, and sent then. One that a worker is at is locked or held, and left alone.
    """
    given = {"most": limit, "patience": PATIENCE, "patience_left": PATIENCE - PATIENCE_WITH_EMPTY_QUEUE}
    return [DueJob(*row) for row in await session.execute(_TAKE[is_queue_empty], given)]


async def put_back(session: AsyncSession, jobs: Sequence[DueJob]) -> None:
    """Have jobs that could not be sent sent soon, unless somebody else has taken them meanwhile."""
    ours = tuple_(Job.id, Job.sends).in_([(job.id, job.sends) for job in jobs])
    await session.execute(
        update(Job)
        .where(ours, Job.state == JobState.SENT)
        .values(state=JobState.WAITING, sends=Job.sends - 1, run_after=func.now() + PAUSE_WITHOUT_CARRIER)
    )

"""Which jobs the relay has to send: new ones, failed ones whose pause is over, sent ones that are late or lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Integer,
    Interval,
    Select,
    and_,
    any_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import IS_FREE, IS_UNFINISHED, Job, JobState, Lane

# A job that was sent is late after this time, and sent again. It need not be long, for few jobs are ahead of it in the
# queue, and one that a worker is at is left alone.
PATIENCE = timedelta(seconds=30)
# In an empty queue nothing waits: what was sent this long ago and nobody is at was lost with its broker or its worker.
PATIENCE_WITH_EMPTY_QUEUE = timedelta(seconds=3)
PATIENCE_LEFT = PATIENCE - PATIENCE_WITH_EMPTY_QUEUE
PAUSE_WITHOUT_CARRIER = timedelta(seconds=2)


class QueueName(StrEnum):
    """A queue of the carrier. Each has workers of its own, so that none holds up the jobs of another one."""

    MAIN = "hive"
    OUTSIDE = "hive-outside"


LANES_OF: Mapping[QueueName, Sequence[Lane]] = {
    QueueName.MAIN: (Lane.FIRST, Lane.USUAL),
    QueueName.OUTSIDE: (Lane.OUTSIDE,),
}


@dataclass(frozen=True, slots=True)
class DueJob:
    """`sends` counts this sending too."""

    id: UUID
    name: str
    arguments: dict[str, Any]
    sends: int = 1
    request_id: str | None = None
    lane: int = Lane.USUAL

    @property
    def queue(self) -> QueueName:
        return QueueName.OUTSIDE if self.lane == Lane.OUTSIDE else QueueName.MAIN


def _is_due(*, is_queue_empty: bool) -> ColumnElement[bool]:
    is_late = Job.run_after <= func.now()
    left = bindparam("patience_left", PATIENCE_LEFT, Interval())
    is_lost = and_(Job.state == JobState.SENT, Job.run_after <= func.now() + left)
    return and_(IS_UNFINISHED, IS_FREE, or_(is_late, is_lost) if is_queue_empty else is_late)


def _due_of(lane: Lane, *, is_queue_empty: bool) -> Select[UUID]:
    return (
        select(Job.id)
        .where(Job.lane == literal_column(str(int(lane))), _is_due(is_queue_empty=is_queue_empty))
        .order_by(Job.run_after)
        .limit(bindparam("most", type_=Integer()))
        .with_for_update(skip_locked=True)
    )


def _take(queue: QueueName, *, is_queue_empty: bool) -> ReturningUpdate[Any]:
    # Each lane has room of its own, so that what goes first isn't behind a thousand others.
    # Rows can't be locked in a union, so each is a query of its own.
    due_by_lane = [_due_of(lane, is_queue_empty=is_queue_empty).cte(lane.name.lower()) for lane in LANES_OF[queue]]
    due = union_all(*(select(found.c.id) for found in due_by_lane))
    one: ColumnElement[int] = literal_column("1")
    late_at = func.now() + bindparam("patience", PATIENCE, Interval())
    return keep(
        update(Job)
        .where(Job.id == any_(func.array(due.scalar_subquery())))
        .values(state=JobState.SENT, sends=Job.sends + one, run_after=late_at)
        .returning(Job.id, Job.name, Job.arguments, Job.sends, Job.request_id, Job.lane)
    )


_TAKE = {
    (queue, is_queue_empty): _take(queue, is_queue_empty=is_queue_empty)
    for queue in QueueName
    for is_queue_empty in (False, True)
}


def _has_due(queue: QueueName) -> Select[bool]:
    lanes: list[ColumnElement[int]] = [literal_column(str(int(lane))) for lane in LANES_OF[queue]]
    return keep(select(select(Job.id).where(Job.lane.in_(lanes), _is_due(is_queue_empty=True)).exists()))


_HAS_DUE = {queue: _has_due(queue) for queue in QueueName}


async def may_have_due_jobs(transaction: Transaction, queue: QueueName) -> bool:
    """Whether there are any that are due, or would be if the queue were empty."""
    return bool(await transaction.scalar(_HAS_DUE[queue], {"patience_left": PATIENCE_LEFT}))


async def take_due_jobs(
    transaction: Transaction, *, limit: int, queue: QueueName = QueueName.MAIN, is_queue_empty: bool = False
) -> Sequence[DueJob]:
    """Mark the jobs whose time has come as sent, the longest waiting first, and say when each is late.

    Marked before they are sent, for a worker may have a job done before its sender has drawn breath. Should the
    sender die in between, the job is late, and sent then. One that a worker is at is locked or held, and left alone.
    """
    given = {"most": limit, "patience": PATIENCE, "patience_left": PATIENCE_LEFT}
    return [DueJob(*row) for row in await transaction.execute(_TAKE[queue, is_queue_empty], given)]


async def put_back(transaction: Transaction, jobs: Sequence[DueJob]) -> None:
    """Put back jobs that could not be sent, to be sent soon, unless somebody else has taken them meanwhile."""
    ours = tuple_(Job.id, Job.sends).in_([(job.id, job.sends) for job in jobs])
    await transaction.execute(
        update(Job)
        .where(ours, Job.state == JobState.SENT)
        .values(state=JobState.WAITING, sends=Job.sends - 1, run_after=func.now() + PAUSE_WITHOUT_CARRIER)
    )

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ColumnElement, ForeignKey, Index, func, select
from sqlalchemy.orm import Mapped, aliased, mapped_column

from app.models.base import Base
from app.models.task import Task, TaskStatus


class TaskBlocker(Base):
    """A dependency: the task can't start before its blocker is completed. All of them together have no cycle."""

    __tablename__ = "task_blockers"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    blocker_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))

    __table_args__ = (
        CheckConstraint("task_id <> blocker_id", name="not_itself"),
        Index(None, "blocker_id"),
    )


def is_blocked(*, besides: ColumnElement[UUID] | None = None) -> ColumnElement[bool]:
    """Whether a task of the statement waits for one that isn't completed; `besides` is one not to look at."""
    blocker = aliased(Task)
    unfinished = (
        select(TaskBlocker.blocker_id)
        .join(blocker, blocker.id == TaskBlocker.blocker_id)
        .where(TaskBlocker.task_id == Task.id, blocker.status != TaskStatus.COMPLETED)
    )
    if besides is not None:
        unfinished = unfinished.where(TaskBlocker.blocker_id != besides)
    return unfinished.correlate(Task).exists()


def is_ready() -> ColumnElement[bool]:
    """Whether a task of the statement can be started by anybody who sees it."""
    return (Task.status == TaskStatus.AVAILABLE) & ~is_blocked()

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.models import HELD_STATUSES, Task, TaskStatus, User, UserTaskAssociation


async def create_task(
    session: AsyncSession,
    *,
    owner: User,
    status: TaskStatus = TaskStatus.AVAILABLE,
    assignee: User | None = None,
    **overrides: Any,
) -> Task:
    """A committed task as it would be in that status; one that has to have a holder is its owner's own."""
    holder = (assignee or owner) if status in HELD_STATUSES else None
    task = Task(
        owner_id=owner.id,
        title=overrides.pop("title", "Water the orchids"),
        status=status,
        assignee_id=holder.id if holder else None,
        completed_at=datetime.now(UTC) if status is TaskStatus.COMPLETED else None,
        **overrides,
    )
    session.add(task)
    await session.flush()
    if holder and status is TaskStatus.IN_PROGRESS:
        session.add(UserTaskAssociation(task_id=task.id, user_id=holder.id, assigned_by=owner.id))
    await session.commit()
    return task

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import HELD_STATUSES, Task, TaskStatus, User, UserTaskAssociation
from tests.builders.rows import Rows, keep_rows


async def create_task(
    session: Rows,
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
    await keep_rows(session)
    return task


_MANY_HELD = text(
    "WITH made AS (INSERT INTO tasks (id, title, status, owner_id, assignee_id)"
    " SELECT gen_random_uuid(), 'Water orchid ' || number, 'in_progress', :owner, :holder"
    " FROM generate_series(1, :count) AS number RETURNING id)"
    " INSERT INTO user_task_associations (id, task_id, user_id, assigned_by)"
    " SELECT gen_random_uuid(), id, :holder, :owner FROM made"
)


async def create_held_tasks(session: AsyncSession, count: int, *, owner: User, holder: User) -> None:
    """So many committed tasks in progress, by one statement."""
    await session.execute(_MANY_HELD, {"count": count, "owner": owner.id, "holder": holder.id})
    await session.commit()


_MANY_WAITING = text(
    "WITH made AS (INSERT INTO tasks (id, title, status, owner_id)"
    " SELECT gen_random_uuid(), 'Water orchid ' || number, 'available', :owner"
    " FROM generate_series(1, :count) AS number RETURNING id)"
    " INSERT INTO task_blockers (task_id, blocker_id, created_by) SELECT id, :blocker, :owner FROM made"
)


async def create_waiting_tasks(session: AsyncSession, count: int, *, blocker: Task) -> None:
    """So many committed tasks of the same owner that wait for the blocker, by one statement."""
    await session.execute(_MANY_WAITING, {"count": count, "owner": blocker.owner_id, "blocker": blocker.id})
    await session.commit()

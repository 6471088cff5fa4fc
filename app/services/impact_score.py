"""The points of what somebody has completed. They stay when a completed task is deleted."""

from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, bindparam, func, literal_column, select

from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import EarnedPoints, Task, TaskStatus, User

_ZERO: ColumnElement[int] = literal_column("0")
# The lock keeps others from changing the account, and not from referring to it.
_LOCKED = keep(select(User).where(User.id == bindparam("user_id")).with_for_update(key_share=True))
_USER_ID = bindparam("user_id", type_=Uuid())
_OF_TASKS = select(func.coalesce(func.sum(Task.impact_points), _ZERO)).where(
    Task.assignee_id == _USER_ID, Task.status == TaskStatus.COMPLETED
)
_OF_DELETED_TASKS = select(func.coalesce(func.sum(EarnedPoints.points), _ZERO)).where(EarnedPoints.user_id == _USER_ID)
# One statement sees one state of the database, so a task that is being deleted is counted in exactly one of the two.
_EARNED = keep(select(_OF_TASKS.scalar_subquery() + _OF_DELETED_TASKS.scalar_subquery()))


def keep_points_of(transaction: Transaction, task: Task) -> None:
    """Keep what the holder of a completed task has earned by it, for the task is about to be deleted."""
    if task.status is TaskStatus.COMPLETED:
        transaction.add(
            EarnedPoints(
                user_id=task.assignee_id,
                task_id=task.id,
                category=task.category,
                points=task.impact_points,
                completed_at=task.completed_at,
            )
        )


async def recompute_impact_score(transaction: Transaction, user_id: UUID) -> int | None:
    """Set the score to the points of all that the user completed; None if there is no such user.

    The account is locked first: of two at once, the later one counts all that the earlier one did.
    """
    user: User | None = await transaction.scalar(_LOCKED, {"user_id": user_id})
    if user is None:
        return None
    [points] = await transaction.scalars(_EARNED, {"user_id": user_id})
    # The sum of whole numbers is a decimal one in PostgreSQL.
    score = int(points)
    if user.impact_score != score:
        user.impact_score = score
        user.version += 1
    await transaction.flush()
    return score

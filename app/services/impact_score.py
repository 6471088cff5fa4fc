"""The points of what somebody has completed."""

from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, func, literal_column, select

from app.models import Task, TaskStatus, User
from app.session import Session
from app.statements import keep

_ZERO: ColumnElement[int] = literal_column("0")
# The lock keeps others from changing the account, and not from referring to it.
_LOCKED = keep(
    select(User)
    .where(User.id == bindparam("user_id"))
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)
_COMPLETED = keep(
    select(func.coalesce(func.sum(Task.impact_points), _ZERO)).where(
        Task.assignee_id == bindparam("user_id"), Task.status == TaskStatus.COMPLETED
    )
)


async def recompute_impact_score(session: Session, user_id: UUID) -> int | None:
    """Set the score to the points of the tasks that the user completed; None if there is no such user.

    The account is locked first: of two at once, the later one counts all that the earlier one did.
    """
    user: User | None = await session.scalar(_LOCKED, {"user_id": user_id})
    if user is None:
        return None
    score = int(await session.scalar(_COMPLETED, {"user_id": user_id}))
    if user.impact_score != score:
        user.impact_score = score
        user.version += 1
    await session.flush()
    return score

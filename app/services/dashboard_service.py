from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Task, TaskPriority, TaskStatus, User
from app.schemas.dashboard import DashboardSummary, TaskCounts, UserCounts


class DashboardService:
    """Counts for anyone: numbers only, and no name that isn't public."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def summarize(self, *, online: int) -> DashboardSummary:
        """`online` comes from the sockets, which are no business of the database."""
        by_kind = await self._session.execute(
            select(Task.status, Task.priority, Task.category, func.count()).group_by(
                Task.status, Task.priority, Task.category
            )
        )
        total, active = (
            await self._session.execute(select(func.count(), func.count().filter(User.is_active)).select_from(User))
        ).one()
        counts = {(status, priority, category): count for status, priority, category, count in by_kind}
        return DashboardSummary(tasks=_count_tasks(counts), users=UserCounts(total=total, active=active, online=online))


def _count_tasks(counts: Mapping[tuple[TaskStatus, TaskPriority, str], int]) -> TaskCounts:
    by_status = dict.fromkeys(TaskStatus, 0)
    by_priority = dict.fromkeys(TaskPriority, 0)
    by_category: dict[str, int] = {}
    for (status, priority, category), count in counts.items():
        by_status[status] += count
        by_priority[priority] += count
        if status is not TaskStatus.DRAFT:
            by_category[category] = by_category.get(category, 0) + count
    return TaskCounts(
        total=sum(by_status.values()),
        by_status=by_status,
        by_priority=by_priority,
        by_category=dict(sorted(by_category.items())),
    )

from datetime import datetime

from pydantic import Field

from app.models import TaskPriority, TaskStatus
from app.schemas.fields import Open, Sent


class TaskCounts(Sent):
    total: int
    by_status: dict[Open[TaskStatus], int]
    by_priority: dict[Open[TaskPriority], int]
    by_category: dict[str, int] = Field(
        description="The 20 most frequent ones, and all others as `other`. Drafts are in none."
    )


class UserCounts(Sent):
    total: int
    active: int
    online: int


class DashboardSummary(Sent):
    """The counts, grouped; and under flat names those that pages show most."""

    tasks: TaskCounts
    users: UserCounts
    total_tasks: int
    completed_tasks: int
    active_users: int
    online_users: int
    tasks_by_priority: dict[Open[TaskPriority], int]
    tasks_by_category: dict[str, int] = Field(description="The same as `tasks.by_category`.")
    last_updated: datetime = Field(description="When the tasks and accounts were counted.")

    @classmethod
    def of(cls, tasks: TaskCounts, users: UserCounts, *, counted_at: datetime) -> "DashboardSummary":
        return cls(
            tasks=tasks,
            users=users,
            total_tasks=tasks.total,
            completed_tasks=tasks.by_status[TaskStatus.COMPLETED],
            active_users=users.active,
            online_users=users.online,
            tasks_by_priority=tasks.by_priority,
            tasks_by_category=tasks.by_category,
            last_updated=counted_at,
        )

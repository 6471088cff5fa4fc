from pydantic import BaseModel, Field

from app.models import TaskPriority, TaskStatus


class TaskCounts(BaseModel):
    total: int
    by_status: dict[TaskStatus, int]
    by_priority: dict[TaskPriority, int]
    by_category: dict[str, int] = Field(description="Without drafts, whose categories only their owners know.")


class UserCounts(BaseModel):
    total: int
    active: int
    online: int


class DashboardSummary(BaseModel):
    tasks: TaskCounts
    users: UserCounts

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import MISSING, ConfigDict, Field

from app.models import Task, TaskPriority, TaskStatus
from app.schemas.fields import (
    DEFAULT_CATEGORY,
    EACH_ONCE,
    Category,
    Description,
    Due,
    EmptyAs,
    ImpactPoints,
    LeaseSeconds,
    Open,
    Optionally,
    PageQuery,
    SearchWords,
    Sent,
    Strict,
    Title,
    WaitSeconds,
)

SEARCH = (
    "Words, or beginnings of words, that title and description have, in any order. Case, accents and forms of letters"
    " make no difference. Empty, it's no filter."
)
Priorities = Annotated[tuple[TaskPriority, ...], EACH_ONCE]
Categories = Annotated[tuple[Category, ...], Field(max_length=50), EACH_ONCE]

DUE_AT = "A time, or a date alone: the end of that day in the time zone of the account."


class TaskCreate(Strict):
    title: Title = Field(examples=["Water the orchids"])
    description: Optionally[Description] = ""
    status: Optionally[Literal[TaskStatus.DRAFT, TaskStatus.AVAILABLE]] = TaskStatus.DRAFT
    category: Optionally[Category] = Field(default=DEFAULT_CATEGORY, examples=["greenhouse"])
    priority: Optionally[TaskPriority] = TaskPriority.MEDIUM
    impact_points: Optionally[ImpactPoints] = 0
    due_at: Due | None = Field(default=None, examples=["2030-12-24"], description=DUE_AT)


class TaskUpdate(Strict):
    """Only what is given is changed. Null empties a field; title, priority and status can't be empty.

    The category of a task without one is `general`.
    """

    title: Title | MISSING = Field(default=MISSING, examples=["Water the orchids twice"])
    description: Annotated[Description, EmptyAs("")] | MISSING = MISSING
    category: Annotated[Category, EmptyAs(DEFAULT_CATEGORY)] | MISSING = MISSING
    priority: TaskPriority | MISSING = MISSING
    impact_points: Annotated[ImpactPoints, EmptyAs(0)] | MISSING = MISSING
    due_at: Due | MISSING | None = Field(default=MISSING, examples=["2030-12-24"], description=DUE_AT)
    status: TaskStatus | MISSING = Field(
        default=MISSING, description="Another one than the present is one step of the workflow."
    )
    owner_id: UUID | MISSING = Field(default=MISSING, description="Hands the task over to this account.")


class TaskAssign(Strict):
    user_id: UUID


class TaskStatusUpdate(Strict):
    status: TaskStatus


class TaskClaim(Strict):
    lease_seconds: LeaseSeconds | None = Field(
        default=None,
        description="For how long, unless it's renewed. Without it the task is held until it's given back.",
    )


class LeaseRenewal(Strict):
    lease_seconds: LeaseSeconds | None = Field(default=None, description="From now on; as long as before without it.")


class TaskClaimNext(TaskClaim):
    """Which task, besides that it's ready; how long to wait for one if there is none."""

    category: Optionally[Categories] = ()
    priority: Optionally[Priorities] = ()
    q: SearchWords = Field(default=None, description=SEARCH)
    wait: Optionally[WaitSeconds] = Field(default=0, description="Seconds.")


class TaskLease(Sent):
    """What the holder has: the number of their time of holding it, and until when, if there is an end."""

    token: int
    expires_at: datetime | None


class TaskResponse(Sent):
    """`lease` is for the holder alone, and no part of what `version` counts."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str
    description: str
    status: Open[TaskStatus]
    category: str
    priority: Open[TaskPriority]
    impact_points: int
    due_at: datetime | None
    owner_id: UUID
    assignee_id: UUID | None
    completed_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    lease: TaskLease | None = None

    @classmethod
    def of(cls, task: Task, *, viewer: UUID) -> "TaskResponse":
        response = cls.model_validate(task)
        if task.status is TaskStatus.IN_PROGRESS and task.assignee_id == viewer:
            response.lease = TaskLease(token=task.lease_token, expires_at=task.lease_expires_at)
        return response


class TaskDeletedResponse(Sent):
    message: Literal["Task deleted"] = "Task deleted"


class TaskSort(StrEnum):
    CREATED_AT = "created_at"
    CREATED_AT_DESCENDING = "-created_at"
    DUE_AT = "due_at"
    DUE_AT_DESCENDING = "-due_at"
    PRIORITY = "priority"
    PRIORITY_DESCENDING = "-priority"
    UPDATED_AT = "updated_at"
    UPDATED_AT_DESCENDING = "-updated_at"


class TaskFilter(Strict):
    """Which tasks. `me` is the caller, `none` nobody."""

    status: Annotated[tuple[TaskStatus, ...], EACH_ONCE] = ()
    priority: Priorities = ()
    category: Categories = ()
    owner: UUID | Literal["me", "none"] | None = None
    assignee: UUID | Literal["me", "none"] | None = None
    q: SearchWords = Field(default=None, description=SEARCH)
    due_before: Due | None = Field(default=None, description="Due before this time, or before this day begins.")
    due_after: Due | None = Field(default=None, description="Due after this time, or after this day ends.")
    ready: bool | None = Field(
        default=None, description="Whether it can be started: available, and waiting for nothing."
    )


class TaskListQuery(TaskFilter, PageQuery):
    sort: TaskSort = TaskSort.CREATED_AT_DESCENDING

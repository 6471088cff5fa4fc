"""Every event that HIVE writes, with its data, and the envelope that all of them travel in."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from app.models import Event, TaskPriority, TaskStatus


class EventType(StrEnum):
    """What a reader can meet: `<noun>.<what happened>`."""

    TASK_CREATED = "task.created"
    TASK_UPDATED = "task.updated"
    TASK_DELETED = "task.deleted"
    TASK_ASSIGNED = "task.assigned"
    TASK_UNASSIGNED = "task.unassigned"
    TASK_STATUS_CHANGED = "task.status_changed"
    CHAT_MESSAGE = "chat.message"
    USER_ONLINE = "user.online"
    USER_OFFLINE = "user.offline"
    # For HIVE's own processes. It's in the log so that none of them misses it, and no reader is shown it.
    ACCOUNT_DEACTIVATED = "account.deactivated"

    @property
    def is_internal(self) -> bool:
        return self is EventType.ACCOUNT_DEACTIVATED


class EventData(BaseModel):
    """The `data` of one type of event. No e-mail address and no secret is in any."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: ClassVar[EventType]


class TaskCreated(EventData):
    type = EventType.TASK_CREATED
    title: str
    description: str
    status: TaskStatus
    category: str
    priority: TaskPriority
    impact_points: int
    due_at: datetime | None
    owner_id: UUID


class TaskUpdated(EventData):
    """`changed` has the new value of each field that changed."""

    type = EventType.TASK_UPDATED
    changed: dict[str, JsonValue]


class TaskDeleted(EventData):
    type = EventType.TASK_DELETED
    title: str


class TaskAssigned(EventData):
    """Somebody holds the task now: assigned, handed over, or claimed (then they are the actor)."""

    type = EventType.TASK_ASSIGNED
    assignee_id: UUID
    previous_assignee_id: UUID | None
    old_status: TaskStatus
    new_status: TaskStatus


class TaskUnassigned(EventData):
    type = EventType.TASK_UNASSIGNED
    previous_assignee_id: UUID
    old_status: TaskStatus
    new_status: TaskStatus


class TaskStatusChanged(EventData):
    """One step of the workflow, with who holds the task after it and when it was completed, if it is."""

    type = EventType.TASK_STATUS_CHANGED
    old_status: TaskStatus
    new_status: TaskStatus
    assignee_id: UUID | None
    completed_at: datetime | None


class ChatMessage(EventData):
    type = EventType.CHAT_MESSAGE
    message: str


class UserOnline(EventData):
    """Live only: without `seq`, and not in the log."""

    type = EventType.USER_ONLINE
    user_id: UUID


class UserOffline(EventData):
    """Live only: without `seq`, and not in the log."""

    type = EventType.USER_OFFLINE
    user_id: UUID


class AccountDeactivated(EventData):
    type = EventType.ACCOUNT_DEACTIVATED
    user_id: UUID


EVENT_TYPES: tuple[type[EventData], ...] = (
    TaskCreated,
    TaskUpdated,
    TaskDeleted,
    TaskAssigned,
    TaskUnassigned,
    TaskStatusChanged,
    ChatMessage,
    UserOnline,
    UserOffline,
)


class EventActor(BaseModel):
    id: UUID
    type: Literal["user"] = "user"


class EventTask(BaseModel):
    id: UUID
    version: int


class Envelope(BaseModel):
    """An event as its readers get it, whichever way they read. `seq` is null until it's published."""

    id: UUID
    seq: int | None
    type: EventType
    timestamp: datetime
    actor: EventActor
    task: EventTask | None
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "Envelope":
        task = None
        if event.task_id is not None and event.task_version is not None:
            task = EventTask(id=event.task_id, version=event.task_version)
        return cls(
            id=event.id,
            seq=event.seq,
            type=EventType(event.type),
            timestamp=event.created_at,
            actor=EventActor(id=event.actor_id),
            task=task,
            data=event.data,
        )

"""Every event that HIVE writes, with its data."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.json_schema import JsonSchemaValue

from app.models import EventType, NotificationKind, TaskPriority, TaskStatus
from app.schemas.fields import Open


def _bear_later_fields(schema: JsonSchemaValue) -> None:
    """Readers have to bear fields that they don't know."""
    schema.pop("additionalProperties", None)


class EventData(BaseModel):
    """The `data` of one type of event. No e-mail address and no secret is in any."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_bear_later_fields)
    type: ClassVar[EventType]


class TaskCreated(EventData):
    type = EventType.TASK_CREATED
    title: str
    description: str
    status: Open[TaskStatus]
    category: str
    priority: Open[TaskPriority]
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
    old_status: Open[TaskStatus]
    new_status: Open[TaskStatus]


class TaskUnassigned(EventData):
    type = EventType.TASK_UNASSIGNED
    previous_assignee_id: UUID
    old_status: Open[TaskStatus]
    new_status: Open[TaskStatus]


class TaskLeaseExpired(EventData):
    """The holder did not renew in time, and the task is available again."""

    type = EventType.TASK_LEASE_EXPIRED
    previous_assignee_id: UUID
    old_status: Open[TaskStatus]
    new_status: Open[TaskStatus]


class TaskStatusChanged(EventData):
    """One step of the workflow, with who held the task before it and after it, and when it was completed, if it is."""

    type = EventType.TASK_STATUS_CHANGED
    old_status: Open[TaskStatus]
    new_status: Open[TaskStatus]
    assignee_id: UUID | None
    previous_assignee_id: UUID | None
    completed_at: datetime | None


class TaskBlocked(EventData):
    """The task can't start before another one is completed. `blocker_id` is null for a draft that not all may see."""

    type = EventType.TASK_BLOCKED
    blocker_id: UUID | None


class TaskUnblocked(EventData):
    """The task no longer depends on another one, which was taken from its blockers, or deleted."""

    type = EventType.TASK_UNBLOCKED
    blocker_id: UUID | None


class TaskReady(EventData):
    """The task is available and waited for others; it doesn't any longer."""

    type = EventType.TASK_READY


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


class NotificationCreated(EventData):
    """For the person who is notified, and for nobody else. Without `actor_id` it's a reminder."""

    type = EventType.NOTIFICATION_CREATED
    notification_id: UUID
    kind: Open[NotificationKind]
    task_id: UUID | None
    task_title: str | None
    actor_id: UUID | None
    due_at: datetime | None


class NotificationRead(EventData):
    """The person has read them, maybe on another device. For them alone."""

    type = EventType.NOTIFICATION_READ
    notification_ids: list[UUID]


class AccountDeactivated(EventData):
    type = EventType.ACCOUNT_DEACTIVATED
    user_id: UUID


class AccountChanged(EventData):
    """The account began anew, or has other rights. What was opened with other ones has to be opened again."""

    type = EventType.ACCOUNT_CHANGED
    user_id: UUID
    is_admin: bool


class SignInEnded(EventData):
    """These sessions or tokens of the user have ended; the account goes on."""

    type = EventType.SIGN_IN_ENDED
    user_id: UUID
    sign_in_ids: list[UUID]


class LogRenewed(EventData):
    """A new history begins: what was told after `last_seq` before is not in this database."""

    type = EventType.LOG_RENEWED
    last_seq: int


EVENT_TYPES: tuple[type[EventData], ...] = (
    TaskCreated,
    TaskUpdated,
    TaskDeleted,
    TaskAssigned,
    TaskUnassigned,
    TaskStatusChanged,
    TaskLeaseExpired,
    TaskBlocked,
    TaskUnblocked,
    TaskReady,
    ChatMessage,
    UserOnline,
    UserOffline,
    NotificationCreated,
    NotificationRead,
)
BY_TYPE = {event.type: event for event in EVENT_TYPES}


def read_event_data(event_type: str, data: dict[str, Any]) -> EventData:
    """The `data` of an event of the log as what it was written from."""
    return BY_TYPE[EventType(event_type)].model_validate(data)

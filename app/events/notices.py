"""The people who are notified of an event, and why: the holder, the owner, those whom a text names."""

import re
from collections.abc import Mapping
from uuid import UUID

from app.core.permissions import SYSTEM
from app.events.types import (
    ChatMessage,
    EventData,
    TaskAssigned,
    TaskCreated,
    TaskLeaseExpired,
    TaskStatusChanged,
    TaskUnassigned,
    TaskUpdated,
)
from app.models import NotificationKind, Task, TaskStatus

# A name is neither unique nor one word, so a mention has the person's id: <@01a2090e-97ca-776d-b521-7cf61e4ecb8c>.
_MENTION = re.compile(r"<@([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})>", re.IGNORECASE)
MOST_MENTIONS = 50

Notices = Mapping[UUID, NotificationKind]


def notices_of(event: EventData, *, actor_id: UUID, owner_id: UUID) -> Notices:
    """Return who is notified of a change of the task of `owner_id`. Nobody is told of what they did themselves."""
    found: dict[UUID | None, NotificationKind] = {}
    if isinstance(event, TaskAssigned):
        found = _of_assignment(event, actor_id=actor_id, owner_id=owner_id)
    elif isinstance(event, TaskUnassigned):
        found = {owner_id: NotificationKind.RELEASED, event.previous_assignee_id: NotificationKind.UNASSIGNED}
    elif isinstance(event, TaskLeaseExpired):
        found = {owner_id: NotificationKind.RELEASED}
    elif isinstance(event, TaskUpdated):
        found = _of_edit(event, actor_id=actor_id)
    elif isinstance(event, TaskStatusChanged):
        found = _of_step(event, owner_id=owner_id)
    return {person: kind for person, kind in found.items() if person is not None and person != actor_id}


def _of_assignment(event: TaskAssigned, *, actor_id: UUID, owner_id: UUID) -> dict[UUID | None, NotificationKind]:
    if event.assignee_id == actor_id:
        return {owner_id: NotificationKind.CLAIMED}
    return {
        event.previous_assignee_id: NotificationKind.UNASSIGNED,
        event.assignee_id: NotificationKind.ASSIGNED,
    }


def _of_edit(event: TaskUpdated, *, actor_id: UUID) -> dict[UUID | None, NotificationKind]:
    new_owner = event.changed.get("owner_id")
    # The system hands over all tasks of an account, which is told once for all.
    if new_owner is None or actor_id == SYSTEM.id:
        return {}
    return {UUID(str(new_owner)): NotificationKind.HANDED_OVER}


def _of_step(event: TaskStatusChanged, *, owner_id: UUID) -> dict[UUID | None, NotificationKind]:
    match event.old_status, event.new_status:
        case (_, TaskStatus.COMPLETED):
            return {event.assignee_id: NotificationKind.COMPLETED, owner_id: NotificationKind.COMPLETED}
        case (TaskStatus.COMPLETED, _):
            return {event.previous_assignee_id: NotificationKind.REOPENED, owner_id: NotificationKind.REOPENED}
        case (TaskStatus.IN_PROGRESS, _):
            return {owner_id: NotificationKind.RELEASED, event.previous_assignee_id: NotificationKind.UNASSIGNED}
        case (TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS):
            return {owner_id: NotificationKind.CLAIMED}
        case _:
            return {}


def text_with_mentions(event: EventData, task: Task | None) -> str:
    """The text that the event made readable to others, whose mentions count; empty if it did not."""
    if isinstance(event, ChatMessage):
        return event.message
    if task is None or task.status is TaskStatus.DRAFT:
        return ""
    is_new = isinstance(event, TaskCreated)
    is_edited = isinstance(event, TaskUpdated) and bool({"title", "description"} & set(event.changed))
    is_published = isinstance(event, (TaskStatusChanged, TaskAssigned)) and event.old_status is TaskStatus.DRAFT
    return f"{task.title} {task.description}" if is_new or is_edited or is_published else ""


def mentions_in(text: str) -> frozenset[UUID]:
    """The people whom a text names, at most the first fifty mentions of it."""
    return frozenset(UUID(found[1]) for found, _ in zip(_MENTION.finditer(text), range(MOST_MENTIONS), strict=False))

from datetime import datetime
from uuid import UUID

from pydantic import ConfigDict, Field

from app.models import NotificationKind
from app.schemas.fields import Open, PageQuery, Sent


class NotificationListQuery(PageQuery):
    unread: bool = Field(default=False, description="Only those that have not been read.")


class NotificationResponse(Sent):
    """`task_id` is null for a mention in the chat and for all tasks of an account.

    `actor_id` is null for a reminder, which has `due_at` instead.
    """

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: Open[NotificationKind]
    task_id: UUID | None
    task_title: str | None
    actor_id: UUID | None
    due_at: datetime | None
    created_at: datetime
    read_at: datetime | None


class MarkedReadResponse(Sent):
    marked: int = Field(description="How many were unread until now.")
